"""State: what crosses from unit to unit, and what a wall cuts."""

import pytest
import torch

from infopro_seg.units import State


def leaf(*shape):
    return torch.randn(*shape, requires_grad=True)


def test_a_wall_cuts_the_history_of_everything_and_shares_its_memory():
    x, skip, output, token = leaf(1, 2, 4, 4), leaf(1, 2), leaf(1, 3), leaf(1, 5)
    state = State(x * 1).push(skip * 1).emit(output * 1).emit((output * 1, token * 1))
    behind = state.detach()
    tensors = [behind.x, behind.skips[0], behind.outputs[0], *behind.outputs[1]]
    before = [state.x, state.skips[0], state.outputs[0], *state.outputs[1]]
    for left, right in zip(tensors, before, strict=True):
        assert not left.requires_grad
        assert left.data_ptr() == right.data_ptr()
    assert state.requires_grad
    assert not behind.requires_grad


def test_a_wall_drops_outputs_that_nobody_reads_but_no_skip():
    state = State(leaf(1)).emit(leaf(1)).emit(leaf(2)).push(leaf(3))
    behind = state.detach().keep({1})
    assert behind.outputs[0] is None
    assert behind.outputs[1].shape == (2,)
    assert len(behind.skips) == 1
    assert behind.detach().keep(()).outputs == (None, None)


def test_skips_come_back_last_in_first_out():
    first, second = leaf(1), leaf(1)
    skip, state = State(leaf(1)).push(first).push(second).pop()
    assert skip is second
    assert state.skips == (first,)


@pytest.mark.parametrize('num_extra', [0, 2])
def test_tokens_are_laid_out_row_by_row_without_the_extra_ones(num_extra):
    grid = torch.arange(6.0).reshape(2, 3)
    tokens = torch.cat([torch.full((num_extra,), -1.0), grid.flatten()])
    state = State(tokens[None, :, None], grid=(2, 3))
    assert torch.equal(state.feature_map(), grid[None, None])


def test_branches_are_resized_to_the_finest_and_all_get_gradient():
    fine, coarse = leaf(1, 2, 4, 6), leaf(1, 3, 2, 3)
    feature_map = State((fine, coarse)).feature_map()
    assert feature_map.shape == (1, 5, 4, 6)
    assert torch.equal(feature_map[:, :2], fine)
    feature_map.sum().backward()
    assert fine.grad.abs().sum() > 0
    assert coarse.grad.abs().sum() > 0

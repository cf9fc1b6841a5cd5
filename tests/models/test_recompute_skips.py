"""A recomputed unit keeps the skips that it takes, and no other one."""

import gc
import weakref

import pytest
import torch

from infopro_seg.models.recompute.run import run_recomputed
from infopro_seg.units import State, Unit
from tests.helpers import build, localized, losses_of
from tests.units.networks import segmentor


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 1)


def take(backbone, state):
    skip, state = state.pop()
    return state.step(backbone.conv(state.x * skip).sigmoid())


def leave(backbone, state):
    return state.push(state.x).step(backbone.conv(state.x).sigmoid())


@pytest.mark.parametrize(
    ('unit', 'is_alive'), [(take, [False, True]), (leave, [False] * 2)]
)
def test_skips_that_pass_by_are_freed(unit, is_alive):
    skips = tuple(torch.rand(1, 1, 8, 8) for _ in range(2))
    state = State(torch.rand(1, 1, 8, 8), skips=skips)
    refs = [weakref.ref(skip.untyped_storage()) for skip in skips]
    after = run_recomputed(Unit('conv', unit), net := Net(), state)
    loss = after.x.sum()
    del skips, state, after
    gc.collect()
    assert [ref() is not None for ref in refs] == is_alive
    loss.backward()
    assert net.conv.weight.grad is not None
    del loss
    assert not any(ref() for ref in refs)


@pytest.mark.parametrize('splits', [[], ['encoder.1'], ['decoder.3']])
def test_unet_with_some_units_recomputed_keeps_every_bit(splits):
    gradients = []
    for recompute in ([], ['encoder.2', 'decoder.2', 'decoder.1']):
        network = build(
            localized(segmentor('unet'), splits=splits, recompute=recompute)
        )
        network.parse_losses(losses_of(network))[0].backward()
        gradients.append([p.grad for p in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)

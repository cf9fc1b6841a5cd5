"""Contract: with early backward, nothing of a module is kept for the next one."""

import weakref

import pytest
import torch

from tests.helpers import (
    build,
    deeplabv3,
    early_backward,
    localized,
    losses_of,
)


class Saved:
    """Holds what autograd saves, so that its lifetime can be watched."""

    def __init__(self, tensor):
        self.tensor = tensor


def count_alive_at_module_starts(model):
    """Saved tensors and unit outputs alive as each module but the first starts."""
    saved, outputs, counts = [], [], []

    def pack(tensor):
        holder = Saved(tensor)
        saved.append(weakref.ref(holder))
        return holder

    def note_output(module, args, output):
        outputs.append(weakref.ref(output))

    def count(module, args):
        counts.append(
            (
                sum(ref() is not None for ref in saved),
                sum(ref() is not None for ref in outputs),
            )
        )

    for local_module in model.local_modules:
        for unit in local_module.units:
            block = model.backbone.get_submodule(unit.name)
            block.register_forward_hook(note_output)
        if local_module.index > 0:
            first = model.backbone.get_submodule(local_module.units[0].name)
            first.register_forward_pre_hook(count)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda holder: holder.tensor):
        losses_of(model)
    return counts


@pytest.mark.parametrize('preset', ['paper', 'lean'])
def test_no_activation_outlives_its_module(preset):
    model = build(localized(deeplabv3(), num_modules=4, head={'preset': preset}))

    def callback(module, losses):
        return early_backward(module, losses)

    model.local_backward = callback
    counts = count_alive_at_module_starts(model)
    # The map that crosses the wall shares storage with a unit output, but the tensor
    # with a history is gone.
    assert counts == [(0, 0)] * 3


def test_without_early_backward_they_pile_up():
    counts = count_alive_at_module_starts(build(localized(deeplabv3(), num_modules=4)))
    saved = [count[0] for count in counts]
    assert 0 < saved[0] < saved[1] < saved[2]


def test_stage_outputs_that_nobody_reads_are_dropped_at_the_wall():
    model = build(localized(deeplabv3(), splits=['layer2.1', 'layer3.1']))
    # The decode head reads output 3, the auxiliary head output 2, in module 1.
    assert model._read_later == (frozenset({2, 3}), frozenset({3}))

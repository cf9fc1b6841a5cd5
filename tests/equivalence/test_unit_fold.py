"""Contract: running a backbone unit by unit is running the backbone."""

import copy
import pickle

import pytest
import torch

from infopro_seg.units import State, fold, units_of
from tests.backbones import BACKBONES, SIZE
from tests.helpers import assert_equal, build, gradients
from tests.samples import some_of


def flat(outputs):
    """All tensors of an output, in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for output in outputs for tensor in flat(output)]


def structure(outputs):
    """The output with tuples for sequences and None for tensors."""
    if isinstance(outputs, torch.Tensor):
        return None
    return tuple(structure(output) for output in outputs)


def run(network, forward):
    """Outputs, gradients, buffers and random state after one training step."""
    torch.manual_seed(1)
    image = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    outputs = forward(network, image)
    tensors = flat(outputs)
    # Different weights, so that a swap of outputs shows in the gradients.
    sum((i + 1) * out.square().mean() for i, out in enumerate(tensors)).backward()
    return structure(outputs), {
        **{f'output {i}': out.detach() for i, out in enumerate(tensors)},
        **{f'gradient {name}': g for name, g in gradients(network).items()},
        **dict(network.named_buffers()),
        'random state': torch.get_rng_state(),
    }


@pytest.mark.parametrize('name', BACKBONES)
def test_fold_is_the_stock_forward_bit_for_bit(name):
    stock_structure, stock = run(build(BACKBONES[name]), lambda net, image: net(image))
    folded_structure, folded = run(build(BACKBONES[name]), fold)
    assert folded_structure == stock_structure
    assert_equal(stock, folded)


@pytest.mark.parametrize('name', BACKBONES)
def test_units_own_every_parameter_exactly_once(name):
    backbone = build(BACKBONES[name])
    owned = [id(p) for unit in units_of(backbone) for p in unit.parameters(backbone)]
    assert len(owned) == len(set(owned))
    assert set(owned) == {id(p) for p in backbone.parameters()}


@pytest.mark.parametrize('name', BACKBONES)
def test_unit_names_are_unique_and_spelt_as_in_the_state_dict(name):
    backbone = build(BACKBONES[name])
    names = [unit.name for unit in units_of(backbone)]
    assert len(set(names)) == len(names)
    for unit_name in names:
        assert any(key.startswith(f'{unit_name}.') for key in backbone.state_dict())


@pytest.mark.parametrize('name', some_of(BACKBONES, 'resnet18', 'swin', 'stdc'))
def test_units_run_the_copy_after_deepcopy_and_pickle(name):
    # Units that closed over modules would run the original's weights here.
    backbone = build(BACKBONES[name])
    backbone.eval()
    units = pickle.loads(pickle.dumps(units_of(backbone)))
    changed = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1.5)
    image = torch.randn(1, 3, *SIZE)
    with torch.no_grad():
        stock, state = changed(image), State(image)
        for unit in units:
            state = unit(changed, state)
    for left, right in zip(flat(stock), flat(state.result()), strict=True):
        assert torch.equal(left, right)

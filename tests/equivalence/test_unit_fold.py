"""Contract: running a backbone unit by unit is running the backbone."""

import copy
import pickle

import pytest
import torch

from infopro_seg.units import State, fold, units_of
from tests.backbones import BACKBONES
from tests.helpers import assert_equal, build, gradients


def as_tuple(outputs):
    return (outputs,) if isinstance(outputs, torch.Tensor) else outputs


def run(network, forward):
    """Outputs, gradients and buffers of one training step."""
    torch.manual_seed(1)
    image = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    outputs = forward(network, image)
    bare = isinstance(outputs, torch.Tensor)
    outputs = as_tuple(outputs)
    # Different weights, so that a swap of outputs shows in the gradients.
    sum((i + 1) * out.square().mean() for i, out in enumerate(outputs)).backward()
    named = {f'output {i}': out.detach() for i, out in enumerate(outputs)}
    return bare, {**named, **gradients(network), **dict(network.named_buffers())}


@pytest.mark.parametrize('name', BACKBONES)
def test_fold_is_the_stock_forward_bit_for_bit(name):
    stock_bare, stock = run(build(BACKBONES[name]), lambda net, image: net(image))
    bare, folded = run(build(BACKBONES[name]), fold)
    assert bare == stock_bare
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


@pytest.mark.parametrize('name', BACKBONES)
def test_units_run_the_copy_after_deepcopy_and_pickle(name):
    # Units that closed over modules would run the original's weights here.
    backbone = build(BACKBONES[name])
    backbone.eval()
    units = pickle.loads(pickle.dumps(units_of(backbone)))
    changed = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1.5)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        stock, state = changed(image), State(image)
        for unit in units:
            state = unit(changed, state)
    stock, folded = as_tuple(stock), as_tuple(state.result())
    for left, right in zip(stock, folded, strict=True):
        assert torch.equal(left, right)

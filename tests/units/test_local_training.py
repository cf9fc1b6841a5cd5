"""Every family trains as local modules, wherever it is cut."""

import copy

import pytest
import torch
from mmseg.registry import MODELS

from infopro_seg.models.probe import probe_backbone
from infopro_seg.units import State, units_of
from tests.backbones import BACKBONES, SIZE
from tests.helpers import (
    assert_equal,
    batch,
    build,
    early_backward,
    gradients,
    localized,
    losses_of,
)
from tests.samples import some_of
from tests.units.networks import SAMPLE, TRAINED, segmentor

HEADS = {
    'lean': {'preset': 'lean'},
    'paper': {'preset': 'paper', 'segmentation': {'channels': 8}},
}
# Norm layers of stage outputs that are not on the way to the next stage: trained
# only by a head that reads the output in the same module.
OUTPUT_NORMS = dict.fromkeys(('swin', 'convnext', 'poolformer'), ('backbone.norm',))


def cut_everywhere(name, preset='lean'):
    """The segmentor of a family with every unit a local module."""
    splits = [unit.name for unit in units_of(MODELS.build(BACKBONES[name]))]
    return build(localized(segmentor(name), splits=splits, head=HEADS[preset]))


def module_of(model, loss_name):
    """Index of the module that a loss entry trains."""
    prefix = loss_name.split('.')[0]
    if prefix.startswith('local_'):
        return int(prefix.removeprefix('local_'))
    return model.auxiliary_module.get(prefix, len(model.local_modules) - 1)


def owner_of(model, name, owned):
    """Index of the module that owns a parameter; the last one owns the stock heads."""
    if name.startswith('local_heads.'):
        return int(name.split('.')[1])
    for index, names in enumerate(owned):
        if name in names:
            return index
    return len(model.local_modules) - 1


@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_the_probe_sees_what_really_crosses_each_boundary(name):
    backbone = build(BACKBONES[name])
    backbone.eval()
    units = units_of(backbone)
    probe = probe_backbone(backbone, units)
    state = State(torch.randn(1, 3, *SIZE))
    with torch.no_grad():
        for unit, boundary in zip(units, probe.boundaries, strict=True):
            state = unit(backbone, state)
            feature_map = state.feature_map()
            assert feature_map.shape[1] == boundary.channels
            assert feature_map.shape[2] == -(-SIZE[0] // boundary.stride)
            assert feature_map.shape[3] == -(-SIZE[1] // boundary.stride)
            assert len(state.outputs) == boundary.num_outputs
    assert len(probe.outputs) == len(state.outputs)


@pytest.mark.parametrize('preset', HEADS)
@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_early_backward_gives_the_gradients_of_the_summed_losses(name, preset):
    # An in-place operation behind a wall would change what the local head in front of
    # it has saved; autograd then refuses the late backward.
    data = batch(size=SIZE)
    late = cut_everywhere(name, preset)
    early = copy.deepcopy(late)
    losses = losses_of(late, data)
    late.parse_losses(losses)[0].backward()
    early.local_backward = early_backward
    early_losses = losses_of(early, data)
    early.parse_losses(early_losses)[0].backward()
    assert_equal(gradients(late), gradients(early))
    assert all(loss.isfinite().all() for loss in losses.values())


@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_a_loss_reaches_its_own_module_only(name):
    model = cut_everywhere(name)
    losses = losses_of(model, batch(size=SIZE))
    owned = [
        {
            f'backbone.{key}'
            for key, parameter in model.backbone.named_parameters()
            if any(parameter is p for p in module.parameters(model.backbone))
        }
        for module in model.local_modules
    ]
    for index in range(len(model.local_modules)):
        model.zero_grad(set_to_none=True)
        own = [
            loss
            for key, loss in losses.items()
            if 'loss' in key and module_of(model, key) == index and loss.requires_grad
        ]
        if not own:
            continue
        sum(own).backward()
        for key, gradient in gradients(model).items():
            if key.startswith('auxiliary_head.'):
                continue
            assert gradient is None or owner_of(model, key, owned) == index, key


@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_every_parameter_is_trained_by_some_module(name):
    model = build(localized(segmentor(name), num_modules=3))
    stock = build(segmentor(name))
    data = batch(size=SIZE)
    for network in (model, stock):
        network.parse_losses(losses_of(network, data))[0].backward()
    missing = {
        key
        for key, gradient in gradients(stock).items()
        if gradient is not None and model.get_parameter(key).grad is None
    }
    assert all(key.startswith(OUTPUT_NORMS.get(name, ())) for key in missing), missing

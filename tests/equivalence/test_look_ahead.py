"""A head that looks ahead sees later units, and changes nothing in them."""

import copy

import pytest
import torch
from torch import nn

from infopro_seg.models.segmentor import sum_losses
from infopro_seg.planner.make import Setting, make_plan
from infopro_seg.settings import LocalSettings
from infopro_seg.units import units_of
from tests.helpers import (
    NARROW,
    WIDTHS,
    assert_equal,
    batch,
    build,
    deeplabv3,
    gradients,
    localized,
    losses_of,
)
from tests.units.networks import TRAINED, segmentor

STOCK = deeplabv3(NARROW, widths=WIDTHS, auxiliary=None)
SPLITS = ['layer1.1', 'layer3.0']


def looking(model=STOCK, look_ahead=2, **local):
    if 'num_modules' not in local:
        local = {'splits': SPLITS, **local}
    head = {'preset': 'lean', 'look_ahead': look_ahead}
    return localized(model, head=head, **local)


@pytest.mark.parametrize('look_ahead', [1, 3, 99])
def test_the_loss_is_that_of_a_frozen_copy_of_the_next_units(look_ahead):
    ours = build(looking(look_ahead=look_ahead))
    names = [unit.name for unit in units_of(ours.backbone)]
    cut = names.index(SPLITS[0]) + 1
    first, ahead = names[:cut], names[cut : cut + look_ahead]
    data = ours.data_preprocessor(copy.deepcopy(batch()), training=True)
    backbone = copy.deepcopy(ours.backbone)
    for name in ahead:
        backbone.get_submodule(name).requires_grad_(False)
    head = copy.deepcopy(ours.local_heads[0])

    losses = ours.loss(**data)
    local = {k: v for k, v in losses.items() if k.startswith('local_0.')}
    ours.parse_losses(local)[0].backward()

    x = backbone.maxpool(backbone.stem(data['inputs']))
    run = {name: backbone.get_submodule(name) for name in names if name != 'stem'}
    for name in first[1:]:
        x = run[name](x)
    seen = x
    for name in ahead:
        seen = run[name](seen)
    images = ours.reconstruction_target(data['inputs'])
    logits = head.reconstruction(x, images.shape[-2:])
    reconstruction = nn.functional.binary_cross_entropy_with_logits(logits, images)
    entries = head.segmentation.loss((seen,), data['data_samples'], {})
    expected = 1.5 * reconstruction + entries['loss_seg']
    expected.backward()
    torch.testing.assert_close(
        sum(v for k, v in local.items() if 'loss' in k), expected
    )
    for name, parameter in backbone.named_parameters():
        found = ours.backbone.get_parameter(name).grad
        assert (found is None) == (parameter.grad is None), name
        if found is not None:
            torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-6)
    for name, parameter in head.named_parameters():
        found = ours.local_heads[0].get_parameter(name).grad
        torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-6)


def _module_losses(model, losses, index):
    name = model.local_modules[index].name
    found = {k: v for k, v in losses.items() if k.startswith(f'{name}.')}
    return model.parse_losses(found)[0]


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', TRAINED)
def test_other_modules_statistics_and_weights_are_left_alone(name):
    stock = segmentor(name)
    local = {'num_modules': 3}
    plain, ours = build(localized(stock, **local)), build(looking(stock, **local))
    weights = plain.state_dict()
    shared = {k: v for k, v in weights.items() if not k.startswith('local_heads.')}
    ours.load_state_dict(shared, strict=False)
    trainable = {n for n, p in ours.named_parameters() if p.requires_grad}
    data = batch(size=(64, 96))
    for model in (plain, ours):
        model.local_backward = sum_losses
    torch.manual_seed(0)
    losses = losses_of(ours, data)
    losses_of(plain, data)
    assert {n for n, p in ours.named_parameters() if p.requires_grad} == trainable
    # Units draw from the random generator, so statistics are compared where none does.
    if name.startswith(('resnet', 'hrnet', 'mobilenet', 'unet')):
        assert_equal(dict(ours.backbone.named_buffers()), _buffers(plain))
    for module in ours.local_modules[:-1]:
        if not any(v.requires_grad for v in _tensors(losses, module.name)):
            continue  # a frozen module
        ours.zero_grad()
        _module_losses(ours, losses, module.index).backward(retain_graph=True)
        owned = {id(p) for p in module.parameters(ours.backbone)}
        for parameter_name, parameter in ours.backbone.named_parameters():
            if id(parameter) not in owned:
                assert parameter.grad is None, parameter_name
        heads = gradients(ours.local_heads[module.index]).values()
        assert all(grad is not None for grad in heads)


def _buffers(model):
    return dict(model.backbone.named_buffers())


def _tensors(losses, name):
    return [v for k, v in losses.items() if k.startswith(f'{name}.loss')]


def test_an_exact_step_trains_the_heads_alone():
    ours, stock = build(looking(end_to_end_every=4)), build(STOCK)
    stock.load_state_dict(ours.state_dict(), strict=False)
    ours.is_end_to_end = True
    for model in (ours, stock):
        model.parse_losses(losses_of(model))[0].backward()
    found = gradients(ours)
    backbone = {k: v for k, v in found.items() if k.startswith('backbone.')}
    expected = {k: v for k, v in gradients(stock).items() if k.startswith('backbone.')}
    assert_equal(backbone, expected)
    heads = {k: v for k, v in found.items() if k.startswith('local_heads.')}
    assert heads and all(grad is not None for grad in heads.values())
    assert_equal(_buffers(ours), _buffers(stock))


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', ['resnet18', 'mit', 'hrnet', 'unet'])
def test_the_planner_knows_what_it_costs(name):
    stock = STOCK if name == 'resnet18' else segmentor(name)
    setting = Setting(looking(stock), 2, (64, 96))
    plan = make_plan(setting, num_modules=3)
    error = plan.predicted_peak_bytes / plan.tracked_peak_bytes - 1
    assert -0.01 < error < 0.03
    plain = localized(stock, num_modules=3)
    without = make_plan(Setting(plain, 2, (64, 96)), num_modules=3)
    assert plan.flops_overhead > without.flops_overhead


def test_a_unit_that_changes_its_input_is_refused():
    model = build(looking(splits=['layer1.1'], look_ahead=1))
    model.backbone.layer2[0].conv1 = nn.Sequential(
        nn.ReLU(inplace=True), model.backbone.layer2[0].conv1
    )
    with pytest.raises(RuntimeError, match=r'layer2\.0.*in place.*remove look_ahead'):
        losses_of(model)


@pytest.mark.parametrize('value', [-1, 1.5, True, 'two'])
def test_a_wrong_number_of_units_is_refused(value):
    with pytest.raises(ValueError, match='look_ahead=.* number of units from 0'):
        LocalSettings.parse({'num_modules': 2, 'head': {'look_ahead': value}})

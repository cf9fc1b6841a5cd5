"""Deep supervision: the control with the heads of local modules and without walls."""

import copy

import pytest
import torch

from infopro_seg.settings import LocalSettings
from tests.helpers import NARROW, WIDTHS, batch, build, deeplabv3, gradients, localized
from tests.runs import run_training

SPLITS = ['layer1.1', 'layer3.0']
STOCK = deeplabv3(NARROW, widths=WIDTHS, auxiliary=1)
# Draws of dropout would be in another order than in stock training.
STOCK['decode_head']['dropout_ratio'] = 0
STOCK['auxiliary_head']['dropout_ratio'] = 0


def supervised(**local):
    # Losses in chunks are equal up to rounding only.
    local = {'splits': SPLITS, 'lean_loss': False, **local}
    return localized(STOCK, deep_supervision=True, **local)


def restated_losses(stock, heads, data):
    """Stock losses, and those of the heads on what their units return."""
    maps = {}
    handles = [
        stock.backbone.get_submodule(name).register_forward_hook(
            lambda unit, _, output, name=name: maps.update({name: output})
        )
        for name in SPLITS
    ]
    data = stock.data_preprocessor(copy.deepcopy(data), training=True)
    losses = stock.loss(**data)
    for handle in handles:
        handle.remove()
    mean, std = stock.data_preprocessor.mean, stock.data_preprocessor.std
    images = (data['inputs'] * std + mean) / 255
    for i, name in enumerate(SPLITS):
        entries = heads[i].loss(maps[name], images, data['data_samples'], {})
        losses.update({f'local_{i}.{key}': value for key, value in entries.items()})
    return losses


@pytest.mark.parametrize('recompute', [(), ('layer2.0', 'layer3.1:stepwise')])
def test_losses_and_gradients_are_those_of_stock_training_and_heads(recompute):
    ours, stock = build(supervised(recompute=recompute)), build(STOCK)
    stock.load_state_dict(ours.state_dict(), strict=False)
    heads = copy.deepcopy(ours.local_heads)
    losses = ours.loss(**ours.data_preprocessor(copy.deepcopy(batch()), training=True))
    expected = restated_losses(stock, heads, batch())
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, msg=name)
    ours.parse_losses(losses)[0].backward()
    stock.parse_losses(expected)[0].backward()
    found = gradients(ours)
    parts = gradients(stock).items(), gradients(heads).items()
    names = [('', parts[0]), ('local_heads.', parts[1])]
    for prefix, items in names:
        for name, value in items:
            torch.testing.assert_close(
                found[prefix + name], value, rtol=1e-3, atol=1e-6
            )


def test_gradients_of_the_last_module_reach_the_first():
    walled, ours = build(localized(STOCK, splits=SPLITS)), build(supervised())
    for model, is_reached in ((walled, False), (ours, True)):
        data = model.data_preprocessor(copy.deepcopy(batch()), training=True)
        losses = model.loss(**data)
        losses['decode.loss_ce'].sum().backward()
        assert (model.backbone.layer1[0].conv1.weight.grad is not None) is is_reached


def test_the_hook_leaves_all_losses_to_the_runner(tmp_path):
    # One backward pass at the end: the same weights with and without the hook.
    settings = {'iterations': 3}
    hooks = ((), ({'type': 'LocalTrainingHook'},))
    runs = [
        run_training(supervised(), tmp_path / f'run{len(h)}', hooks=h, **settings)
        for h in hooks
    ]
    first, second = (run.model.state_dict() for run in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ('local', 'said'),
    [
        ({'num_modules': 2, 'end_to_end_every': 2}, 'remove end_to_end_every'),
        ({'gpu_memory': '8GiB'}, 'cut by splits or num_modules'),
        ({'num_modules': 2, 'deep_supervision': 1}, 'must be True, False or None'),
    ],
)
def test_what_contradicts_deep_supervision_is_refused(local, said):
    with pytest.raises((TypeError, ValueError), match=said):
        LocalSettings.parse({'deep_supervision': True, **local})

"""Contract: no loss reaches into another module."""

import pytest
import torch

from tests.helpers import (
    NARROW,
    WIDTHS,
    build,
    deeplabv3,
    gradients,
    localized,
    losses_of,
)


def local_gradients(model, skip=None):
    """Gradients of the sum of all losses but those of module ``skip``."""
    losses = losses_of(model)
    last = len(model.local_modules) - 1

    def module_of(name):
        if name.startswith('local_'):
            return int(name.split('.')[0].removeprefix('local_'))
        if name.startswith('aux'):
            return model.auxiliary_module[name.split('.')[0]]
        return last

    kept = [
        value
        for name, value in losses.items()
        if 'loss' in name and module_of(name) != skip
    ]
    sum(kept).backward()
    return gradients(model)


@pytest.mark.parametrize(
    'local',
    [
        {'num_modules': 4},
        pytest.param(
            {'splits': ['layer3.1', 'layer4.1']}, marks=pytest.mark.exhaustive
        ),
        {'splits': ['layer1.0', 'layer3.0'], 'head': {'preset': 'paper'}},
    ],
    ids=str,
)
def test_a_module_is_trained_by_its_own_losses_only(local):
    model_config = localized(deeplabv3(NARROW, WIDTHS), **local)
    reference = local_gradients(build(model_config))
    model = build(model_config)
    for skip in range(len(model.local_modules)):
        cut = local_gradients(build(model_config), skip=skip)
        for module in model.local_modules:
            owned = {id(p) for p in module.parameters(model.backbone)}
            for name, parameter in model.named_parameters():
                if id(parameter) not in owned:
                    continue
                if module.index == skip:
                    assert cut[name] is None
                else:
                    assert torch.equal(cut[name], reference[name]), name


def test_the_auxiliary_head_trains_the_module_that_makes_its_map():
    # layer3.1 ends stage 3, which the auxiliary head reads.
    model = build(localized(deeplabv3(), splits=['layer3.1']))
    losses_of(model)['aux.loss_ce'].backward()
    assert model.backbone.layer3[1].conv1.weight.grad is not None
    assert model.backbone.layer4[1].conv1.weight.grad is None


def test_every_parameter_gets_a_gradient():
    model = build(localized(deeplabv3(), num_modules=5))
    model.parse_losses(losses_of(model))[0].backward()
    missing = [name for name, grad in gradients(model).items() if grad is None]
    assert not missing

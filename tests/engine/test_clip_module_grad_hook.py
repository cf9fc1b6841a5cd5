"""Every module's gradient is clipped by its own norm."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper

from infopro_seg.engine import ClipModuleGradHook
from infopro_seg.models import owners_of
from tests.helpers import NARROW, WIDTHS, build, deeplabv3, localized


def norms(model):
    owners = owners_of(model)
    squares = [0.0] * len(model.local_modules)
    for name, parameter in model.named_parameters():
        squares[owners[name]] += float(parameter.grad.square().sum())
    return [square**0.5 for square in squares]


def test_modules_above_the_norm_are_scaled_and_others_left_alone():
    config = deeplabv3(NARROW, WIDTHS)
    model = build(localized(config, num_modules=3))
    owners = owners_of(model)
    for name, parameter in model.named_parameters():
        parameter.grad = torch.randn_like(parameter) * (0.0, 1.0, 3.0)[owners[name]]
    before = norms(model)
    directions = {n: p.grad.clone() for n, p in model.named_parameters()}
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0))
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper)
    hook = ClipModuleGradHook(max_norm=(before[1] + before[2]) / 2)
    hook.before_train(runner)
    wrapper.step()
    first, second, third = norms(model)
    assert (first, second) == (0.0, before[1])
    assert third == pytest.approx((before[1] + before[2]) / 2, rel=1e-4)
    for name, parameter in model.named_parameters():
        if owners[name] == 2:
            scale = third / before[2]
            torch.testing.assert_close(parameter.grad, directions[name] * scale)
    hook.after_train(runner)
    model.decode_head.conv_seg.weight.grad.fill_(1e6)
    wrapper.step()
    assert norms(model)[2] > 1e6


@pytest.mark.parametrize('norm', [0, -1.0, float('nan')])
def test_the_norm_is_positive(norm):
    with pytest.raises(ValueError, match='max_norm=.* must be above 0'):
        ClipModuleGradHook(norm)

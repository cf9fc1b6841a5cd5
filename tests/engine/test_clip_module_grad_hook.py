"""Every module's gradient is clipped by its own norm."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper

from infopro_seg.engine import ClipModuleGradHook, LocalModuleMonitorHook
from infopro_seg.models import owners_of
from tests.engine.runs import CpuAmpOptimWrapper
from tests.helpers import (
    NARROW,
    WIDTHS,
    assert_equal,
    build,
    deeplabv3,
    localized,
    losses_of,
)


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


def scaled_step(scale, kind=torch.optim.SGD, *, hooks, clip_grad=None, bad=False):
    """A step of a fused optimizer with a loss scale: weights and logged norms."""
    model = build(localized(deeplabv3(NARROW, WIDTHS), splits=['layer3.0']))
    optimizer = kind(model.parameters(), lr=0.5, fused=True)
    wrapper = CpuAmpOptimWrapper(optimizer=optimizer, clip_grad=clip_grad)
    wrapper.loss_scaler = torch.amp.GradScaler('cpu', init_scale=scale)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0)
    for hook in hooks:
        hook.before_train(runner)
        hook.before_train_iter(runner, 0)
    loss = model.parse_losses(losses_of(model))[0]
    wrapper.update_params(loss * float('inf') if bad else loss)
    logged = [getattr(hook, '_values', {}) for hook in hooks]
    norms = {n: v for values in logged for n, v in values.items() if 'norm' in n}
    return model.state_dict(), norms


CLIP, MONITOR = (lambda: ClipModuleGradHook(1e-3)), (lambda: LocalModuleMonitorHook(1))


@pytest.mark.parametrize('kind', [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize(
    'hooks',
    [[CLIP], [MONITOR], [CLIP, MONITOR], [MONITOR, CLIP]],
    ids=['clip', 'monitor', 'clip first', 'monitor first'],
)
@pytest.mark.parametrize('clip_grad', [None, {'max_norm': 0.1}])
def test_a_fused_optimizer_steps_with_what_was_clipped_and_logged(
    kind, hooks, clip_grad
):
    # It divides by the scale in its kernel, after the hooks have seen the gradients.
    results = [
        scaled_step(
            scale,
            kind,
            hooks=[make() for make in hooks],
            clip_grad=clip_grad and dict(clip_grad),
        )
        for scale in (1.0, 2.0**16)
    ]
    for expected, found in zip(*results, strict=True):
        assert_equal(found, expected)
    assert bool(results[0][1]) == (MONITOR in hooks)


def test_watching_a_fused_optimizer_changes_nothing():
    watched, _ = scaled_step(2.0**16, hooks=[MONITOR()])
    assert_equal(watched, scaled_step(2.0**16, hooks=[])[0])


@pytest.mark.parametrize('hooks', [[CLIP], [MONITOR]], ids=['clip', 'monitor'])
def test_a_fused_optimizer_still_skips_a_step_that_is_not_finite(hooks):
    found, _ = scaled_step(2.0**16, hooks=[make() for make in hooks], bad=True)
    start = build(localized(deeplabv3(NARROW, WIDTHS), splits=['layer3.0']))
    for name, parameter in start.named_parameters():
        assert torch.equal(found[name], parameter), name


@pytest.mark.parametrize('norm', [0, -1.0, float('nan')])
def test_the_norm_is_positive(norm):
    with pytest.raises(ValueError, match='max_norm=.* must be above 0'):
        ClipModuleGradHook(norm)

"""What the hook does with losses, and what it refuses."""

import copy
import pickle
from types import SimpleNamespace

import pytest
import torch
from mmengine._strategy.colossalai import ColossalAIModelWrapper
from mmengine._strategy.deepspeed import MMDeepSpeedEngineWrapper
from mmengine.model import MMDistributedDataParallel, MMFullyShardedDataParallel
from mmengine.model.wrappers import MMSeparateDistributedDataParallel
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import nn

from infopro_seg.engine.local_backward_hook import LocalBackwardHook, local_backward
from infopro_seg.models.segmentor import sum_losses
from tests.helpers import (
    assert_equal,
    build,
    deeplabv3,
    gradients,
    localized,
    losses_of,
)


class Scaler:
    """Scales as torch's GradScaler does, and counts its calls."""

    def __init__(self, factor):
        self.factor = factor
        self.num_calls = 0

    def scale(self, loss):
        self.num_calls += 1
        return loss * self.factor


def wrapper_of(model, **kwargs):
    return OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)


def runner_of(model, optim_wrapper=None):
    return SimpleNamespace(
        model=model, optim_wrapper=optim_wrapper or wrapper_of(model)
    )


def early_losses(model, optim_wrapper=None):
    """The losses of a training step, whose early backward passes have run."""
    hook = LocalBackwardHook()
    hook.before_train(runner_of(model, optim_wrapper))
    with hook._in_step(model):
        return losses_of(model)


def test_each_local_loss_is_scaled_exactly_once():
    config = localized(deeplabv3(), splits=['layer1.1', 'layer3.0'])
    scaled, plain = build(config), build(config)
    wrapper = wrapper_of(scaled)
    wrapper.loss_scaler = Scaler(8.0)
    losses = early_losses(scaled, wrapper)
    wrapper.loss_scaler.scale(scaled.parse_losses(losses)[0]).backward()
    assert wrapper.loss_scaler.num_calls == 3
    plain.parse_losses(losses_of(plain))[0].backward()
    # A power of two scales exactly.
    expected = {name: 8.0 * grad for name, grad in gradients(plain).items()}
    assert_equal(gradients(scaled), expected)
    assert wrapper.inner_count == 0


def test_bf16_gradients_equal_those_of_one_backward_of_the_sum():
    config = localized(deeplabv3(), splits=['layer1.1', 'layer3.0'])
    early, late = build(config), build(config)
    for model, forward in ((early, early_losses), (late, losses_of)):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            losses = forward(model)
        model.parse_losses(losses)[0].backward()
    assert_equal(gradients(early), gradients(late))


def test_backward_runs_outside_autocast():
    seen = []

    class Probe(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, grad):
            seen.append(torch.is_autocast_enabled('cpu'))
            return grad

    x = torch.ones(1, requires_grad=True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = {'loss': Probe.apply(x).sum()}
        local_backward(wrapper_of(torch.nn.Linear(1, 1)), None, losses)
    assert seen == [False]


def test_entries_without_loss_in_their_name_are_logged_not_trained():
    x = torch.ones(2, requires_grad=True)
    losses = {'a.loss_seg': (2 * x).sum(), 'a.acc_seg': (100 * x).sum()}
    detached = local_backward(wrapper_of(torch.nn.Linear(1, 1)), None, losses)
    assert x.grad.tolist() == [2.0, 2.0]
    assert detached.keys() == losses.keys()
    assert not any(value.requires_grad for value in detached.values())


def test_the_callback_is_gone_after_training_and_from_every_copy():
    model = build(localized(deeplabv3()))
    hook = LocalBackwardHook()
    hook.before_train(runner_of(model))
    assert model.local_backward is sum_losses
    with hook._in_step(model):
        assert model.local_backward not in (None, sum_losses)
        assert copy.deepcopy(model).local_backward is None
        assert pickle.loads(pickle.dumps(model)).local_backward is None
    assert model.local_backward is sum_losses
    hook.after_train(runner_of(model))
    assert model.local_backward is None
    assert 'train_step' not in vars(model)


def test_a_frozen_module_is_skipped():
    config = localized(deeplabv3(), splits=['layer1.1', 'layer3.0'])
    config['backbone']['frozen_stages'] = 1
    model = build(config)
    losses = early_losses(model)
    assert not any(name.startswith('local_0.') for name in losses)
    assert any(name.startswith('local_1.') for name in losses)
    model.parse_losses(losses)[0].backward()
    assert model.backbone.layer2[0].conv1.weight.grad is not None


def test_a_stock_model_is_refused():
    model = build(deeplabv3())
    with pytest.raises(TypeError, match='InfoProEncoderDecoder, got EncoderDecoder'):
        LocalBackwardHook().before_train(runner_of(model))


def fully_sharded(model):
    # Its constructor needs an accelerator.
    wrapped = MMFullyShardedDataParallel.__new__(MMFullyShardedDataParallel)
    nn.Module.__init__(wrapped)
    wrapped.module = model
    return wrapped


WRAPPERS = {
    'MMFullyShardedDataParallel': fully_sharded,
    'MMDeepSpeedEngineWrapper': lambda model: MMDeepSpeedEngineWrapper(model=model),
    'ColossalAIModelWrapper': lambda model: ColossalAIModelWrapper(model, model),
    'DataParallel': nn.DataParallel,
}


@pytest.mark.parametrize('name', WRAPPERS)
def test_a_wrapper_of_another_strategy_is_refused(name):
    model = build(localized(deeplabv3()))
    runner = runner_of(WRAPPERS[name](model), wrapper_of(model))
    with pytest.raises(RuntimeError, match=f'not support.* {name}: .*strategy'):
        LocalBackwardHook().before_train(runner)
    assert model.local_backward is None


def test_several_optimizers_are_refused():
    model = build(localized(deeplabv3()))
    wrapper = OptimWrapperDict(all=wrapper_of(model))
    with pytest.raises(TypeError, match='OptimWrapperDict.*optim_wrapper.type'):
        LocalBackwardHook().before_train(runner_of(model, wrapper))


@pytest.fixture
def process_group(tmp_path):
    store = torch.distributed.FileStore(str(tmp_path / 'store'), 1)
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({}, 'find_unused_parameters=False'),
        ({'static_graph': True}, 'static_graph=True'),
    ],
)
def test_distributed_settings_that_give_wrong_gradients_are_refused(
    process_group, settings, text
):
    wrapped = MMDistributedDataParallel(build(localized(deeplabv3())), **settings)
    with pytest.raises(RuntimeError, match=text):
        LocalBackwardHook().before_train(runner_of(wrapped, wrapper_of(wrapped)))


def test_a_wrapper_for_each_child_is_refused(process_group):
    # It inherits from DistributedDataParallel without being one.
    wrapped = MMSeparateDistributedDataParallel(build(localized(deeplabv3())))
    with pytest.raises(RuntimeError, match='MMSeparateDistributedDataParallel'):
        LocalBackwardHook().before_train(runner_of(wrapped, wrapper_of(wrapped)))


def test_distributed_with_unused_parameters_is_accepted(process_group):
    wrapped = MMDistributedDataParallel(
        build(localized(deeplabv3())), find_unused_parameters=True
    )
    hook = LocalBackwardHook()
    hook.before_train(runner_of(wrapped, wrapper_of(wrapped)))
    # The runner calls that of the wrapper.
    assert 'train_step' in vars(wrapped)
    assert 'train_step' not in vars(wrapped.module)

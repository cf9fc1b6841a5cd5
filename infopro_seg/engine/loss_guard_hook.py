"""Stops at a loss that is not finite, or skips the step as if it had never begun."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from mmengine.dist import all_reduce, is_distributed
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ..models import InfoProEncoderDecoder
from ..scopes import register
from .local_model import local_model_of
from .train_step import surround_train_step

POLICIES = ('stop', 'skip')
#: Message hub entries, which checkpoints hold: number of skipped steps; number of them
#: in a row; whether the step that is accumulated for will be skipped.
NUM_SKIPPED = 'num_skipped_steps'
NUM_CONSECUTIVE = 'num_consecutive_skipped_steps'
IS_BAD_STEP = 'skips_accumulated_step'


@register(HOOKS)
class LossGuardHook(Hook):
    """Checks all losses of an iteration between forward and the last backward pass.

    The optimizer has not stepped by then. The check synchronises with the device once
    per iteration, whatever the number of modules; so does the runner's log of losses.
    Gradients are not checked: the gradient scaler does that.

    Args:
        on_divergence: What to do about a loss that is NaN or infinite. ``stop`` raises
            an error. ``skip`` skips the optimizer's whole step on all processes, with
            all gradients accumulated for it: parameters, buffers, and the states of
            optimizer and scaler stay as they were.
        max_skips: Number of consecutive skipped steps that raises an error. If the
            weights are not finite, no step can succeed.

    Raises:
        ValueError: if ``on_divergence`` is unknown.
    """

    def __init__(self, on_divergence: str = 'stop', max_skips: int = 10) -> None:
        if on_divergence not in POLICIES:
            raise ValueError(
                f'on_divergence={on_divergence!r} is unknown; choose one of {POLICIES}.'
            )
        self._skips = on_divergence == 'skip'
        self._max_skips = max_skips
        self._iteration = 0
        self._data_batch: Any = None
        self._is_bad_batch = False
        self._buffers: list[Tensor] = []
        self._is_in_step = False
        self._leave: list[Callable[[], None]] = []

    def before_train(self, runner: Runner) -> None:
        """Install the check.

        Raises:
            TypeError: if the model has no local modules.
        """
        model, optim_wrapper = local_model_of(runner.model, self), runner.optim_wrapper
        self._leave = [
            surround_train_step(runner.model, self._in_step),
            model.register_forward_hook(self._check).remove,
        ]
        if self._skips:
            handle = model.register_forward_pre_hook(self._keep_buffers)
            self._leave.append(handle.remove)
        # A run that skipped steps may have stopped before a bad one was over.
        if self._skips or _recall(IS_BAD_STEP):
            optim_wrapper.update_params = functools.partial(
                self._update_params, model, optim_wrapper
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Remember what an error message names."""
        self._iteration = runner.iter
        self._data_batch = data_batch

    def after_train(self, runner: Runner) -> None:
        """Remove the check."""
        for leave in self._leave:
            leave()
        self._leave = []
        vars(runner.optim_wrapper).pop('update_params', None)
        self._data_batch = None
        self._buffers = []

    @contextlib.contextmanager
    def _in_step(self) -> Iterator[None]:
        self._is_in_step = True
        try:
            yield
        finally:
            self._is_in_step = False

    def _check(self, model: InfoProEncoderDecoder, args: Any, output: Any) -> None:
        """A forward hook of the model."""
        if not self._is_in_step or not isinstance(output, dict) or not model.training:
            return
        _, losses = model.parse_losses(output)
        losses = {name: value.detach() for name, value in losses.items()}
        self._is_bad_batch = not torch.isfinite(losses['loss'])
        if self._is_bad_batch:
            message = self._describe(model, losses)
            if not self._skips:
                raise FloatingPointError(
                    f'{message} No parameter was changed in this iteration. Lower the '
                    'learning rate, look at these images, or skip such steps '
                    "with on_divergence='skip' of LocalTrainingHook."
                )
            MMLogger.get_current_instance().warning(
                f'{message} The step is skipped for all modules.'
            )
        if self._skips and is_distributed():
            self._is_bad_batch = _any_process(self._is_bad_batch, losses['loss'])
        if self._is_bad_batch:
            _remember(IS_BAD_STEP, True)

    def _describe(self, model: InfoProEncoderDecoder, losses: dict) -> str:
        bad = [
            f'{name} of {_module_of(model, name)} is {value.item()}'
            for name, value in losses.items()
            if name != 'loss' and 'loss' in name and not torch.isfinite(value)
        ]
        images = [
            sample.metainfo.get('img_path', '(unnamed)')
            for sample in (self._data_batch or {}).get('data_samples', [])
        ]
        return (
            f'iteration {self._iteration + 1}: {"; ".join(bad)}. Images of the batch: '
            f'{", ".join(images) or "(unknown)"}.'
        )

    def _keep_buffers(self, model: InfoProEncoderDecoder, args: Any) -> None:
        """A forward pre-hook: running statistics as they were before the batch."""
        if self._is_in_step and model.training:
            with torch.no_grad():
                buffers = list(model.buffers())
                if not self._buffers:
                    self._buffers = [buffer.clone() for buffer in buffers]
                for kept, buffer in zip(self._buffers, buffers, strict=True):
                    kept.copy_(buffer)

    def _update_params(
        self,
        model: InfoProEncoderDecoder,
        optim_wrapper: OptimWrapper,
        loss: Tensor,
        step_kwargs: dict | None = None,
        zero_kwargs: dict | None = None,
    ) -> None:
        """In place of the wrapper's own: the same without the step if it is bad."""
        if not _recall(IS_BAD_STEP):
            type(optim_wrapper).update_params(
                optim_wrapper, loss, step_kwargs, zero_kwargs
            )
            if optim_wrapper.should_update() and _recall(NUM_CONSECUTIVE):
                _remember(NUM_CONSECUTIVE, 0)
            return
        # DDP waits for the gradients of this batch, and the wrapper counts it.
        optim_wrapper.backward(optim_wrapper.scale_loss(loss))
        if self._is_bad_batch:
            with torch.no_grad():
                for kept, buffer in zip(self._buffers, model.buffers(), strict=True):
                    buffer.copy_(kept)
        if optim_wrapper.should_update():
            optim_wrapper.zero_grad(**(zero_kwargs or {}))
            _remember(IS_BAD_STEP, False)
            self._count_skip()

    def _count_skip(self) -> None:
        total, in_a_row = _recall(NUM_SKIPPED) + 1, _recall(NUM_CONSECUTIVE) + 1
        _remember(NUM_SKIPPED, total)
        _remember(NUM_CONSECUTIVE, in_a_row)
        hub = MessageHub.get_current_instance()
        hub.update_scalar(f'train/{NUM_SKIPPED}', total)
        if in_a_row >= self._max_skips:
            raise FloatingPointError(
                f'{in_a_row} steps in a row were skipped, up to iteration '
                f'{self._iteration + 1}, because losses were not finite: the weights '
                'are no longer usable. Resume from an earlier checkpoint with a lower '
                'learning rate or gradient clipping.'
            )


def _remember(name: str, value: int) -> None:
    MessageHub.get_current_instance().update_info(name, value)


def _recall(name: str) -> int:
    return MessageHub.get_current_instance().get_info(name, 0)


def _module_of(model: InfoProEncoderDecoder, loss_name: str) -> str:
    prefix = loss_name.partition('.')[0]
    names = {module.name: module for module in model.local_modules}
    index = model.auxiliary_module.get(prefix, -1)
    return str(names.get(prefix, model.local_modules[index]))


def _any_process(is_bad: bool, like: Tensor) -> bool:
    flag = torch.tensor(float(is_bad), device=like.device)
    all_reduce(flag, 'max')
    return bool(flag)

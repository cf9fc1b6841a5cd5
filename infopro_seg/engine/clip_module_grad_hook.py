"""Gradient clipping for each local module by itself."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from ..models.owners import owners_of
from ..scopes import register
from .gradient_unit import unscale
from .local_model import local_model_of


@register(HOOKS)
class ClipModuleGradHook(Hook):
    """Clips the gradient of every local module by the norm of that module alone.

    ``optim_wrapper.clip_grad`` takes one norm over the whole network, which a pipeline
    does not know: its stages step at different times. A module has a local head, and
    whatever trains it, with it.

    Args:
        max_norm: The largest norm of a module's gradient.
        norm_type: As in `torch.nn.utils.clip_grad_norm_`.

    Raises:
        ValueError: if ``max_norm`` is not positive.
    """

    def __init__(self, max_norm: float, norm_type: float = 2.0) -> None:
        if not max_norm > 0:
            raise ValueError(
                f'max_norm={max_norm} of ClipModuleGradHook must be above 0.'
            )
        self._max_norm = max_norm
        self._norm_type = norm_type
        self._handle: RemovableHandle | None = None

    def before_train(self, runner: Runner) -> None:
        """Start clipping before every step of the optimizer.

        Raises:
            TypeError: if the model has no local modules.
        """
        model = local_model_of(runner.model, self)
        owners = owners_of(model)
        self._parameters: list[list[nn.Parameter]] = [[] for _ in model.local_modules]
        for name, parameter in model.named_parameters():
            self._parameters[owners[name]].append(parameter)
        optimizer = runner.optim_wrapper.optimizer
        self._handle = optimizer.register_step_pre_hook(self._clip)

    def after_train(self, runner: Runner) -> None:
        """Stop clipping."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _clip(self, optimizer: Optimizer, *_: Any) -> None:
        unscale(optimizer)
        for parameters in self._parameters:
            torch.nn.utils.clip_grad_norm_(parameters, self._max_norm, self._norm_type)

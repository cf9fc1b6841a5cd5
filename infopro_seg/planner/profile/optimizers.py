"""Optimizers on fake parameters: what they keep, and what a step needs for a moment."""

import contextlib
import copy
import inspect
import io
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmseg.registry import OPTIMIZERS
from torch import Tensor, nn

from ...models.tensor_bytes import num_bytes_of
from .allocation import AllocationTracker
from .assumed_shapes import AssumedShapes
from .simulation import naming_culprit

#: What the Cityscapes recipes of mmseg use.
SGD_MOMENTUM = {
    'type': 'OptimWrapper',
    'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9, 'weight_decay': 0.0005},
}
_WRAPPER_SETTINGS = ('optimizer', 'paramwise_cfg', 'constructor', 'clip_grad')


class OptimizerFactors(NamedTuple):
    """Memory of an optimizer, as multiples of the trained parameters' bytes.

    Args:
        state: What it keeps: 1 for momentum, 2 for Adam.
        step: What a step needs at most beyond that.
    """

    state: float
    step: float


def optimizer_factors(
    optim_wrapper: Mapping, assumed: AssumedShapes | None = None
) -> OptimizerFactors:
    """Measure an optimizer on two parameters.

    Args:
        optim_wrapper: As in a config; call it within fake tensors.
        assumed: Notes what is assumed; a new one by default.

    Raises:
        SimulationError: if the optimizer does not run on fake tensors.
    """
    assumed = assumed or AssumedShapes()
    model = nn.Sequential(*(nn.Linear(512, 512, bias=False) for _ in range(2)))
    # What tells parameters apart (decay rates by layer) expects a segmentor.
    wrapper = {'optimizer': optim_wrapper['optimizer']}
    optimizer = fake_optim_wrapper(model, wrapper).optimizer
    with naming_culprit():
        make_optimizer_state(model, optimizer)
    tracker = AllocationTracker()
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    tracker.track_module(model)
    tracker.track(optimizer_tensors(optimizer))
    before = tracker.live_bytes
    with naming_culprit(), tracker, assumed:
        optimizer.step()
    parameter_bytes = num_bytes_of(model.parameters())
    return OptimizerFactors(
        state=num_bytes_of(optimizer_tensors(optimizer)) / parameter_bytes,
        step=(tracker.peak_bytes - before) / parameter_bytes,
    )


def fake_optim_wrapper(model: nn.Module, config: Mapping) -> OptimWrapper:
    """Build the optimizer wrapper of a config for a fake model.

    The wrapper for mixed precision cannot be built without a GPU, so it is the
    plain one. The optimizer steps over all parameters at once (``foreach``), which
    is PyTorch's default on a GPU and takes more memory than one after the other.

    Raises:
        KeyError: if the optimizer is not registered.
    """
    config = {k: copy.deepcopy(config[k]) for k in _WRAPPER_SETTINGS if k in config}
    optimizer = config['optimizer']
    cls = OPTIMIZERS.get(optimizer['type'])
    if cls is None:
        raise KeyError(
            f'optimizer {optimizer["type"]!r} is not registered; correct optim_wrapper.'
            'optimizer.type, or import its module with custom_imports.'
        )
    known = inspect.signature(cls).parameters
    if 'foreach' in known and not optimizer.get('fused'):
        optimizer.setdefault('foreach', True)
    with _without_reports():
        return build_optim_wrapper(model, {**config, 'type': 'OptimWrapper'})


@contextlib.contextmanager
def _without_reports() -> Iterator[None]:
    """Settings by parameter log or print lines for each, at every fake step."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel('WARNING')
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def make_optimizer_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Take a step on empty gradients, as if training had begun before."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)
    with AssumedShapes():
        optimizer.step()
    optimizer.zero_grad()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Momentum buffers and the like."""
    return [
        value
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, Tensor)
    ]

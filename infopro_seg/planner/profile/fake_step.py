"""A real training step on fake tensors: the reference for every prediction.

The model's own ``loss``, the local backward callback, mmengine's optimizer wrapper and
the optimizer itself run; only the tensors are fake. What an optimizer keeps, and needs
for a moment, is found on fake parameters, too.
"""

import contextlib
import copy
import dataclasses
import functools
import inspect
import io
import logging
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS, OPTIMIZERS
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ...compat import FakeTensorMode, unset_fake_temporarily
from ...models import InfoProEncoderDecoder, LocalModule
from ...models.heads.local_head import Losses
from ...models.hollow import hollow_copy
from ...models.local_backward import local_backward
from ...models.probe import input_channels
from ...models.tensor_bytes import num_bytes_of
from ...scopes import class_of
from .allocation import AllocationTracker, autocast
from .simulation import AssumedShapes, naming_culprit

#: What the Cityscapes recipes of mmseg use.
SGD_MOMENTUM = {
    'type': 'OptimWrapper',
    'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9, 'weight_decay': 0.0005},
}
_WRAPPER_SETTINGS = ('optimizer', 'paramwise_cfg', 'constructor', 'clip_grad')


@dataclasses.dataclass(frozen=True)
class TrackedStep:
    """What one training step allocates and computes.

    Args:
        peak_bytes: Most bytes alive at a time, everything included.
        module_peaks: The same while each local module trains.
        start_bytes: Bytes alive before and after: parameters, buffers, optimizer
            state and the batch.
        optimizer_peak_bytes: Most bytes alive while the optimizer steps.
        flops: Forward, backward and recompute; 2 a multiply-add.
        assumed: Operators whose result depends on the data, see `AssumedShapes`.
    """

    peak_bytes: int
    module_peaks: tuple[int, ...]
    start_bytes: int
    optimizer_peak_bytes: int
    flops: int
    assumed: tuple[str, ...]


def track_step(
    model: Mapping | nn.Module,
    *,
    batch_size: int,
    crop_size: tuple[int, int],
    optim_wrapper: Mapping = SGD_MOMENTUM,
    amp_dtype: torch.dtype | None = None,
    tracker: AllocationTracker | None = None,
    is_end_to_end: bool | None = None,
) -> TrackedStep:
    """Count the memory and FLOPs of a training step, without a GPU and without data.

    The step is one of the steady state: the optimizer has its state, gradients have
    been set to None. Local backward passes run as with `LocalBackwardHook`.

    Args:
        model: Config of a segmentor, or a built one; it is not changed.
        batch_size: Images per step.
        crop_size: (height, width) in pixels.
        optim_wrapper: As in the config of a run.
        amp_dtype: Type of mixed precision; None for none.
        tracker: Counts; a new one by default.
        is_end_to_end: Whether gradients cross the walls of a local model; as it says
            itself by default.

    Returns:
        The counts.

    Raises:
        SimulationError: if the network or the optimizer does not run on fake tensors.
    """
    tracker = tracker or AllocationTracker()
    module_peaks: list[int] = []
    with fake_tensors() as (fake_mode, assumed):
        network = fake_segmentor(model, fake_mode)
        wrapper = fake_optim_wrapper(network, optim_wrapper)
        if isinstance(network, InfoProEncoderDecoder):
            network.local_backward = functools.partial(
                _noting_backward, wrapper, tracker, module_peaks
            )
            if is_end_to_end is not None:
                network.is_end_to_end = is_end_to_end
        with naming_culprit(network):
            make_optimizer_state(network, wrapper.optimizer)
            inputs, samples = fake_batch(network, batch_size, crop_size)
            tracker.track_module(network)
            tracker.track(optimizer_tensors(wrapper.optimizer))
            tracker.track([inputs, *(s.gt_sem_seg.data for s in samples)])
            start_bytes = tracker.live_bytes
            tracker.reset_peak()
            with tracker, assumed:
                with autocast(amp_dtype):
                    losses = network.loss(inputs, samples)
                total = network.parse_losses(losses)[0]
                del losses
                wrapper.backward(wrapper.scale_loss(total))
                module_peaks.append(tracker.peak_bytes)
                tracker.reset_peak()
                wrapper.step()
                wrapper.zero_grad()
    return TrackedStep(
        peak_bytes=max(*module_peaks, tracker.peak_bytes),
        module_peaks=tuple(module_peaks),
        start_bytes=start_bytes,
        optimizer_peak_bytes=tracker.peak_bytes,
        flops=tracker.flops,
        assumed=tuple(sorted(assumed.operators)),
    )


def _noting_backward(
    wrapper: OptimWrapper,
    tracker: AllocationTracker,
    peaks: list[int],
    module: LocalModule,
    losses: Losses,
) -> Losses:
    """The callback of `LocalBackwardHook`, which notes the peak of each module."""
    detached = local_backward(wrapper, module, losses)
    peaks.append(tracker.peak_bytes)
    tracker.reset_peak()
    return detached


@contextlib.contextmanager
def fake_tensors() -> Iterator[tuple[FakeTensorMode, AssumedShapes]]:
    """A world of fake tensors; enter the second value around data-dependent code.

    The random state is left as it was found. PyTorch logs a trace of every operator
    that fails; `naming_culprit` says in a sentence what it was.
    """
    state = torch.get_rng_state()
    logger = logging.getLogger(FakeTensorMode.__module__)
    logger.addFilter(_nothing)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as fake_mode:
            yield fake_mode, AssumedShapes()
    finally:
        logger.removeFilter(_nothing)
        torch.set_rng_state(state)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def fake_segmentor(model: Mapping | nn.Module, fake_mode: FakeTensorMode) -> Any:
    """A copy of a segmentor in training mode whose tensors are fake.

    SyncBN becomes BN, as the runner does in a run on one device.
    """
    if isinstance(model, Mapping):
        with unset_fake_temporarily():
            built = MODELS.build(ConfigDict(copy.deepcopy(dict(model))))
    else:
        built = model
    return revert_sync_batchnorm(fake_copy(built, fake_mode).train())


def fake_copy(module: nn.Module, fake_mode: FakeTensorMode) -> nn.Module:
    """Copy a module; its tensors are replaced while copying, never duplicated."""
    with fake_mode:
        return hollow_copy(
            module, lambda tensor: torch.empty(tensor.shape, dtype=tensor.dtype)
        )


def fake_batch(
    model: Any, batch_size: int, crop_size: tuple[int, int]
) -> tuple[Tensor, list[SegDataSample]]:
    """Images and labels as the data preprocessor gives them to ``loss``."""
    channels = input_channels(model.backbone, sizes=[crop_size])
    inputs = torch.empty(batch_size, channels, *crop_size)
    samples = []
    for _ in range(batch_size):
        sample = SegDataSample(
            metainfo={
                'img_shape': crop_size,
                'pad_shape': crop_size,
                'padding_size': [0, 0, 0, 0],
            }
        )
        label = torch.empty(1, *crop_size, dtype=torch.long)
        sample.gt_sem_seg = PixelData(data=label)
        samples.append(sample)
    return inputs, samples


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
    cls = class_of(OPTIMIZERS, optimizer['type'])
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

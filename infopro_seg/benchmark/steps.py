"""Real training steps of several methods, one after the other in one process.

A step is that of the runner: data preprocessor, losses, backward passes, optimizer,
with the hooks that a run installs. Only loading images is left out.
"""

import gc
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from ..engine import LocalBackwardHook, LossGuardHook
from ..models import InfoProEncoderDecoder
from ..models.readers import stages_of
from ..models.tensor_bytes import num_bytes_of
from ..planner.make import Setting
from ..planner.profile.allocation import AllocationTracker
from ..planner.profile.fake_step import optimizer_tensors
from .method import Method


class Measured(NamedTuple):
    """What was measured of one method.

    Args:
        seconds: Duration of every timed step, in order; empty if it ran out of memory.
        peak_bytes: Peak memory of a step; None if it ran out of memory.
    """

    seconds: tuple[float, ...]
    peak_bytes: int | None


def measure(
    methods: Sequence[Method], *, device: str, steps: int, warmup: int, seed: int
) -> list[Measured]:
    """Time the methods step by step in turns, and count their memory.

    Whatever slows the machine down affects all methods alike. The order rotates from
    round to round. All models are in memory at the same time; only what belongs to a
    method counts towards its peak. Memory is counted in a step that is not timed.

    Args:
        methods: What to compare.
        device: ``cpu`` or ``cuda``.
        steps: Timed steps of each method.
        warmup: Untimed steps of each method before them, at least 2. Memory is counted
            in the last one.
        seed: Seed of weights, images and labels.

    Returns:
        One entry per method, without numbers if it ran out of GPU memory.
    """
    contenders = [Contender(method, device, seed) for method in methods]
    peaks: list[int | None] = [None] * len(contenders)
    seconds: list[list[float]] = [[] for _ in contenders]
    failed: set[int] = set()
    for index in range(warmup + steps):
        first = index % len(contenders)
        for i in (*range(first, len(contenders)), *range(first)):
            if i in failed:
                continue
            try:
                if index == warmup - 1:
                    peaks[i] = contenders[i].peak_bytes()
                    continue
                elapsed = contenders[i].timed_step()
            except torch.OutOfMemoryError:
                contenders[i].drop()
                failed.add(i)
                peaks[i], seconds[i] = None, []
                continue
            if index >= warmup:
                seconds[i].append(elapsed)
    return [Measured(tuple(s), peak) for s, peak in zip(seconds, peaks, strict=True)]


def random_batch(
    setting: Setting, num_classes: int, ignore_index: int, seed: int
) -> dict[str, Any]:
    """Images of noise, and labels in patches of 32x32 pixels, a tenth of them ignored.

    Args:
        setting: Gives batch and crop size.
        num_classes: Labels are from 0 to num_classes - 1.
        ignore_index: Label of the ignored patches.
        seed: Seed of images and labels.

    Returns:
        A batch as a data loader gives it: ``inputs``, a list of uint8 images
        (3, H, W), and ``data_samples``.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = setting.crop_size
    coarse = (-(-height // 32), -(-width // 32))
    images, samples = [], []
    for _ in range(setting.batch_size):
        shape = (3, height, width)
        images.append(torch.randint(256, shape, generator=generator, dtype=torch.uint8))
        label = torch.randint(num_classes, coarse, generator=generator)
        label[torch.rand(coarse, generator=generator) < 0.1] = ignore_index
        label = label.repeat_interleave(32, 0).repeat_interleave(32, 1)
        sample = SegDataSample(
            metainfo={'img_shape': (height, width), 'ori_shape': (height, width)}
        )
        sample.gt_sem_seg = PixelData(data=label[None, :height, :width])
        samples.append(sample)
    return {'inputs': images, 'data_samples': samples}


class Contender:
    """A method, ready to train on random images.

    Args:
        method: How to train.
        device: ``cpu`` or ``cuda``.
        seed: Seed of weights, images and labels.
    """

    def __init__(self, method: Method, device: str, seed: int):
        self._device = torch.device(device)
        torch.manual_seed(seed)
        model = revert_sync_batchnorm(MODELS.build(dict(method.model)))
        self._model = model.to(self._device).train()
        if method.change is not None:
            method.change(self._model, self._device)
        self._wrapper = build_optim_wrapper(self._model, _optim_wrapper(method.setting))
        last = stages_of(model.decode_head)[-1]
        self._batch = random_batch(
            method.setting, last.num_classes, last.ignore_index, seed
        )
        if isinstance(model, InfoProEncoderDecoder):
            runner: Any = SimpleNamespace(
                model=model, optim_wrapper=self._wrapper, iter=0
            )
            for hook in (LocalBackwardHook(), LossGuardHook()):
                hook.before_train(runner)
                hook.before_train_iter(runner, 0, self._batch)

    def timed_step(self) -> float:
        """Run a training step; returns its duration in seconds."""
        gc.collect()
        self._synchronize()
        start = time.perf_counter()
        self._step()
        self._synchronize()
        return time.perf_counter() - start

    def peak_bytes(self) -> int:
        """Run a training step; returns its peak in bytes, without other methods."""
        gc.collect()
        if self._device.type == 'cuda':
            return self._peak_on_gpu()
        tracker = AllocationTracker()
        tracker.track_module(self._model)
        tracker.track(optimizer_tensors(self._wrapper.optimizer))
        tracker.reset_peak()
        with tracker:
            self._step()
        return tracker.peak_bytes

    def drop(self) -> None:
        """Free what a step that ran out of memory left behind."""
        self._wrapper.zero_grad()
        gc.collect()
        torch.cuda.empty_cache()

    def _peak_on_gpu(self) -> int:
        own = num_bytes_of(
            [
                *self._model.parameters(),
                *self._model.buffers(),
                *optimizer_tensors(self._wrapper.optimizer),
            ]
        )
        others = torch.cuda.memory_allocated(self._device) - own
        torch.cuda.reset_peak_memory_stats(self._device)
        self._step()
        return torch.cuda.max_memory_allocated(self._device) - others

    def _step(self) -> None:
        self._model.train_step(self._batch, self._wrapper)

    def _synchronize(self) -> None:
        if self._device.type == 'cuda':
            torch.cuda.synchronize(self._device)


def _optim_wrapper(setting: Setting) -> dict[str, Any]:
    """The config's optimizer wrapper, in the precision of the setting."""
    wrapper = {**setting.optim_wrapper, 'type': 'OptimWrapper'}
    for key in ('dtype', 'loss_scale'):
        wrapper.pop(key, None)
    if setting.amp_dtype is not None:
        wrapper.update(type='AmpOptimWrapper', dtype=setting.amp_dtype)
    return wrapper

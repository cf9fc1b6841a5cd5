"""A hook that logs what each local module costs and how strongly it learns."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.optim import Optimizer

from ..models import InfoProEncoderDecoder, LocalModule
from ..scopes import register
from .gradient_unit import scale_left
from .train_step import watch_train_step

_Values = dict[str, float | Tensor]


@register(HOOKS)
class LocalModuleMonitorHook(Hook):
    """Logs time, memory and gradient norm of every local module at intervals.

    The numbers are entries ``train/local_<k>.<quantity>`` of the message hub, so that
    every log backend shows them:

    - ``seconds``: forward and backward pass with the module's losses. For the last
      module of a process: until the end of the iteration, with the optimizer's step.
    - ``saved_gib``: what its forward pass keeps for backward, without parameters and
      buffers. Inputs kept by recomputed units are counted only where another operation
      keeps them, too.
    - ``peak_allocated_gib`` and ``peak_reserved_gib`` while it ran, of all tensors on
      the GPU (for the last module: until the end of the iteration). Only on a GPU.
    - ``grad_norm``: 2-norm of the gradients that the optimizer steps with, including
      those of the local head (clipped, if they are). Not in iterations without a step.

    Other iterations cost nothing extra. In each interval the middle iteration is
    measured, so the first iteration of a run, which warms up, is not. Measuring on a
    GPU resets the peak that the log calls ``memory``; in the middle this happens early
    enough before the next log entry.

    Args:
        interval: Number of iterations of which one is measured; 0 switches the hook
            off.

    Raises:
        ValueError: if the interval is negative.
    """

    def __init__(self, interval: int = 50) -> None:
        if interval < 0:
            raise ValueError(f'interval={interval} must be 0 (off) or more.')
        self._interval = interval
        self._is_on = False
        self._leave: list[Callable[[], None]] = []

    def before_train(self, runner: Runner) -> None:
        """Start watching the modules.

        Raises:
            TypeError: if the model has no local modules.
        """
        if not self._interval:
            return
        model = _unwrap(runner.model)
        self._parameters = _parameters_of(model)
        self._ignored = {
            tensor.untyped_storage().data_ptr()
            for tensor in (*model.parameters(), *model.buffers())
        }
        watcher = functools.partial(self._watch, len(model.local_modules) - 1)
        optimizer = runner.optim_wrapper.optimizer
        self._leave = [
            watch_train_step(runner.model, model, watcher),
            optimizer.register_step_pre_hook(self._measure_gradients).remove,
        ]

    def after_train(self, runner: Runner) -> None:
        """Stop watching."""
        for leave in self._leave:
            leave()
        self._leave = []

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Decide whether this iteration is measured."""
        middle = self._interval // 2
        self._is_on = bool(self._interval) and runner.iter % self._interval == middle
        self._values: _Values = {}
        self._clocks: dict[str, _CpuClock | _GpuClock] = {}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Hand the numbers to the message hub."""
        if not self._is_on:
            return
        last = list(self._clocks)[-1]
        self._clocks[last].stop()
        self._measure_peak(last)
        for name, clock in self._clocks.items():
            self._values[f'{name}.seconds'] = clock.seconds()
        for name, value in _of_all_stages(runner, self._values).items():
            runner.message_hub.update_scalar(f'train/{name}', value)
        self._is_on = False

    @contextlib.contextmanager
    def _watch(self, last: int, module: LocalModule) -> Iterator[None]:
        if not self._is_on:
            yield
            return
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        clock = self._clocks[module.name] = _started_clock()
        saved: dict[int, int] = {}
        with saved_tensors_hooks(functools.partial(self._count, saved), _same):
            yield
        self._values[f'{module.name}.saved_gib'] = sum(saved.values()) / 2**30
        if module.index != last:
            clock.stop()
            self._measure_peak(module.name)

    def _count(self, saved: dict[int, int], tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in self._ignored and address not in saved:
            saved[address] = storage.nbytes()
        return tensor

    def _measure_peak(self, name: str) -> None:
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated() / 2**30
            self._values[f'{name}.peak_allocated_gib'] = peak
            peak = torch.cuda.max_memory_reserved() / 2**30
            self._values[f'{name}.peak_reserved_gib'] = peak

    @torch.no_grad()
    def _measure_gradients(self, optimizer: Optimizer, *_: object) -> None:
        if not self._is_on:
            return
        for name, parameters in self._parameters.items():
            norms = [p.grad.norm() for p in parameters if p.grad is not None]
            if norms:
                norm = torch.stack(norms).norm()
                self._values[f'{name}.grad_norm'] = norm / scale_left(optimizer)


class _CpuClock:
    def __init__(self) -> None:
        self._begin = self._end = time.perf_counter()

    def stop(self) -> None:
        self._end = time.perf_counter()

    def seconds(self) -> float:
        return self._end - self._begin


class _GpuClock:
    """Time on the GPU's stream; waits for the GPU only when asked for the time."""

    def __init__(self) -> None:
        self._begin = torch.cuda.Event(enable_timing=True)
        self._end = torch.cuda.Event(enable_timing=True)
        self._begin.record()

    def stop(self) -> None:
        self._end.record()

    def seconds(self) -> float:
        self._end.synchronize()
        return self._begin.elapsed_time(self._end) / 1000


def _started_clock() -> _CpuClock | _GpuClock:
    return _GpuClock() if torch.cuda.is_available() else _CpuClock()


def _unwrap(model: nn.Module) -> InfoProEncoderDecoder:
    if is_model_wrapper(model):
        model = model.get_submodule('module')
    if not isinstance(model, InfoProEncoderDecoder):
        raise TypeError(
            'LocalModuleMonitorHook needs model.type InfoProEncoderDecoder, got '
            f'{type(model).__name__}. Remove the hook.'
        )
    return model


def _parameters_of(model: InfoProEncoderDecoder) -> dict[str, list[nn.Parameter]]:
    """Parameters by the module that trains them; the last one has the stock heads."""
    *local, last = model.local_modules
    owned = {module.name: module.parameters(model.backbone) for module in local}
    # There are no local heads where every step is end-to-end.
    for module, head in zip(local, model.local_heads, strict=False):
        owned[module.name] += head.parameters()
    taken = {id(p) for parameters in owned.values() for p in parameters}
    owned[last.name] = [p for p in model.parameters() if id(p) not in taken]
    return owned


def _of_all_stages(runner: Runner, values: _Values) -> _Values:
    """In a pipeline, the last stage logs what all of them have measured."""
    gather = getattr(runner, 'gather', None)
    if gather is None:
        return values
    own = {name: float(value) for name, value in values.items()}
    return {name: value for part in gather(own) for name, value in part.items()}


def _same(tensor: Tensor) -> Tensor:
    return tensor

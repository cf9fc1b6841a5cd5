"""A hook that records when each process does what."""

import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor

from ..models import LocalModule
from ..models.heads.local_head import Losses
from ..models.segmentor import sum_losses
from ..scopes import register
from ..units import State
from .local_model import local_model_of
from .train_step import surround_train_step, watch_train_step


@register(HOOKS)
class TimelineHook(Hook):
    """Records what a process does in some iterations, for a picture of the schedule.

    Written to ``timeline_<process>.json`` in the work dir: a list of ``[iteration,
    what, start, end]``, in seconds of the machine's clock. ``what`` is ``wait`` (for
    the stage before), ``send``, ``local_<k>`` (forward pass and losses), ``local_<k>
    backward``, ``step`` (the last backward pass and the optimizer) or ``iteration``.
    On a GPU the device is synchronised at every border, which takes time itself.

    Args:
        begin: First iteration to record, from 0. Earlier ones warm up.
        end: Iteration to stop before.
    """

    # Last, so that it sees what other hooks have installed.
    priority = 'VERY_LOW'

    def __init__(self, begin: int = 5, end: int = 15) -> None:
        self._range = range(begin, end)
        self._spans: list[tuple[int, str, float, float]] = []
        self._iteration = 0
        self._start = self._last_end = 0.0
        self._leave: list[Callable[[], None]] = []

    def before_train(self, runner: Runner) -> None:
        """Start watching.

        Raises:
            TypeError: if the model has no local modules.
        """
        self._model = model = local_model_of(runner.model, self)
        self._leave = [
            watch_train_step(runner.model, model, self._watch),
            surround_train_step(runner.model, self._timing_backward),
        ]
        # Attributes of the objects, which `after_train` deletes.
        stage = model.stage
        vars(stage)['receive'] = functools.partial(self._receive, stage.receive)
        vars(stage)['pass_on'] = functools.partial(self._pass_on, stage.pass_on)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Remember when the iteration began."""
        self._iteration = runner.iter
        self._start = self._last_end = self._now()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Record the step and the whole iteration."""
        now = self._now()
        self._add('step', self._last_end, now)
        self._add('iteration', self._start, now)

    def after_train(self, runner: Runner) -> None:
        """Write what was recorded."""
        for leave in self._leave:
            leave()
        self._leave = []
        for name in ('receive', 'pass_on'):
            vars(self._model.stage).pop(name, None)
        path = Path(runner.work_dir) / f'timeline_{runner.rank}.json'
        path.write_text(json.dumps(self._spans))

    @contextlib.contextmanager
    def _timing_backward(self) -> Iterator[None]:
        model, before = self._model, self._model.local_backward
        if before not in (None, sum_losses):
            model.local_backward = functools.partial(self._backward, before)
        try:
            yield
        finally:
            model.local_backward = before

    @contextlib.contextmanager
    def _watch(self, module: LocalModule) -> Iterator[None]:
        start = self._now()
        yield
        self._last_end = self._now()
        self._add(module.name, start, self._last_end)

    def _receive(self, receive: Any, inputs: Tensor) -> State:
        start = self._now()
        state: State = receive(inputs)
        self._add('wait', start, self._now())
        return state

    def _pass_on(self, pass_on: Any, module: LocalModule, state: State) -> None:
        start = self._now()
        pass_on(module, state)
        self._add('send', start, self._now())

    def _backward(self, backward: Any, module: LocalModule, losses: Losses) -> Losses:
        start = self._now()
        losses = backward(module, losses)
        self._add(f'{module.name} backward', start, self._now())
        return losses

    def _add(self, what: str, start: float, end: float) -> None:
        if self._iteration in self._range:
            self._spans.append((self._iteration, what, start, end))

    def _now(self) -> float:
        if self._iteration in self._range and torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.monotonic()

"""A hook that says in which local module memory ran out, and what helps."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..models import InfoProEncoderDecoder, LocalModule
from ..models.losses.chunked import obstacle
from ..scopes import register
from .local_model import local_model_of
from .train_step import surround_train_step, watch_train_step


@register(HOOKS)
class MemoryAdviceHook(Hook):
    """Adds to an out-of-memory error the module that ran and the settings that help."""

    def __init__(self) -> None:
        self._model: InfoProEncoderDecoder | None = None
        self._running: LocalModule | None = None
        self._bytes_before = 0
        self._has_run = False
        self._leave: list[Callable[[], None]] = []

    def before_train(self, runner: Runner) -> None:
        """Start watching.

        Raises:
            TypeError: if the model has no local modules.
        """
        wrapper, self._model = runner.model, local_model_of(runner.model, self)
        self._leave = [
            surround_train_step(wrapper, self._explaining),
            watch_train_step(wrapper, self._model, self._watch),
        ]

    def after_train(self, runner: Runner) -> None:
        """Stop watching."""
        for leave in self._leave:
            leave()
        self._leave = []

    @contextlib.contextmanager
    def _watch(self, module: LocalModule) -> Iterator[None]:
        self._running, self._has_run = module, False
        self._bytes_before = _allocated_bytes()
        yield
        self._has_run = True

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        self._running = None
        try:
            yield
        except torch.OutOfMemoryError as error:
            # A segment that ran again in backward names itself.
            self._running = getattr(error, 'module', self._running)
            raise type(error)(f'{error}\n{self._advice()}') from error

    def _advice(self) -> str:
        where = 'before the first local module ran'
        if self._running is not None:
            verb = 'in the backward pass or step after' if self._has_run else 'in'
            where = f'{verb} {self._running}'
        total = _allocated_bytes()
        share = ''
        if total:
            own = total - self._bytes_before
            share = (
                f', which had allocated {own / 2**30:.2f} GiB of '
                f'{total / 2**30:.2f} GiB ({own / total:.0%})'
            )
        return (
            f'Memory ran out {where}{share}. What helps, cheapest first: '
            f'{"; ".join(self._remedies())}. tools/plan.py finds splits for the memory '
            'of a GPU.'
        )

    def _remedies(self) -> list[str]:
        remedies = []
        module = self._running
        heads = self._model.heads_with_losses() if self._model else {}
        if any(obstacle(head) is None for head in heads.values()):
            remedies.append('local=dict(lean_loss=True)')
        if module is None or len(module.units) > 1:
            remedies.append('more local modules (num_modules, or a split in this one)')
        if module is not None:
            names = [u.name for u in module.units if u.name not in module.recompute]
            if names:
                remedies.append(f'local=dict(recompute={names})')
        remedies.append('mixed precision (--amp)')
        remedies.append('a smaller crop_size, or fewer images per GPU')
        return remedies


def _allocated_bytes() -> int:
    """Memory of tensors on the current GPU; 0 without one."""
    return torch.cuda.memory_allocated() if torch.cuda.is_available() else 0

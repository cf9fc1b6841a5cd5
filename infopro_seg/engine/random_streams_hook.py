"""Random numbers that belong to the local modules, not to the process."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..models import LocalModule
from ..scopes import register
from .data_share import data_share
from .local_model import local_model_of
from .random_state import random_numbers_from
from .train_step import watch_train_step


@register(HOOKS)
class RandomStreamsHook(Hook):
    """Gives every local module random numbers of its own in every iteration.

    They follow from the seed of the run, the iteration, the module and the share of
    the batch. So a module draws the same (dropout, sampled pixels) whichever process
    runs it and whatever ran before. The stream of the process continues afterwards as
    if no module had drawn from it.

    `LocalBackwardHook` registers it where the model has ``random_streams='module'``.
    """

    def __init__(self) -> None:
        self._seeds = (0, 0, 0)
        self._leave: Callable[[], None] | None = None

    def before_train(self, runner: Runner) -> None:
        """Start watching the modules.

        Raises:
            TypeError: if the model has no local modules.
        """
        model = local_model_of(runner.model, self)
        self._leave = watch_train_step(runner.model, model, self._own_numbers)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Remember what the numbers follow from."""
        self._seeds = (runner.seed or 0, data_share(runner).index, runner.iter)

    def after_train(self, runner: Runner) -> None:
        """Stop watching."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    @contextlib.contextmanager
    def _own_numbers(self, module: LocalModule) -> Iterator[None]:
        # SeedSequence ignores zeros at the end.
        seeds = (*self._seeds, module.index + 1)
        with random_numbers_from(seeds), _gpu_numbers():
            yield


@contextlib.contextmanager
def _gpu_numbers() -> Iterator[None]:
    """Seed the generator of the current GPU, and restore it at the end."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.cuda.get_rng_state()
    try:
        # The CPU's generator has been seeded from the same numbers.
        torch.cuda.manual_seed(int(torch.randint(2**62, ())))
        yield
    finally:
        torch.cuda.set_rng_state(before)

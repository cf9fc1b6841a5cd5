"""A hook that measures the peak memory of a training step on a CPU."""

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..planner.profile.allocation import AllocationTracker
from ..planner.profile.fake_step import optimizer_tensors
from ..scopes import register


@register(HOOKS)
class PeakMemoryHook(Hook):
    """Logs the peak ``memory`` of one step in MiB, as the host does on a GPU only.

    What counts are all tensors that are alive, as in the planner's predictions:
    weights, gradients, the state of the optimizer, and what the step computes. On a GPU
    the hook does nothing.

    Args:
        iteration: The one that is measured, from 0 on; it takes a little longer. From
            the second one on the optimizer has its state.

    Raises:
        ValueError: if the iteration is negative.
    """

    def __init__(self, iteration: int = 2) -> None:
        if iteration < 0:
            raise ValueError(f'iteration={iteration} must be 0 or more.')
        self._iteration = iteration
        self._tracker: AllocationTracker | None = None

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Begin to count, in the iteration that is measured."""
        if runner.iter != self._iteration or torch.cuda.is_available():
            return
        self._tracker = AllocationTracker()
        self._tracker.track_module(runner.model)
        self._tracker.track(optimizer_tensors(runner.optim_wrapper.optimizer))
        self._tracker.reset_peak()
        self._tracker.__enter__()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Hand the peak to the message hub."""
        if self._tracker is not None:
            self._tracker.__exit__(None, None, None)
            peak = self._tracker.peak_bytes / 2**20
            runner.message_hub.update_scalar('train/memory', peak)
            self._tracker = None

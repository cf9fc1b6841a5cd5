"""Makes up for a last validation that was interrupted."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..compat import is_resumed
from ..scopes import register


@register(HOOKS)
class FinalValidationHook(Hook):
    """Validates a run that is resumed after its last iteration.

    The host saves a checkpoint, then validates. A run that ends in between has nothing
    left to train when it is resumed, and the host leaves it without its last score.
    """

    def __init__(self) -> None:
        self._has_worked = False

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Take note of training."""
        self._has_worked = True

    def after_val(self, runner: Runner) -> None:
        """Take note of a validation."""
        self._has_worked = True

    def after_train(self, runner: Runner) -> None:
        """Validate if there was nothing left to do."""
        if self._has_worked or not is_resumed(runner) or runner.val_loop is None:
            return
        runner.logger.info('all iterations are trained; the network is validated again')
        runner.val_loop.run()

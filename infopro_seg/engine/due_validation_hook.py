"""Makes up for a validation that a resumed run would leave out."""

from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmseg.registry import HOOKS

from ..compat import decide_validation_interval, is_resumed, is_training
from ..scopes import register
from .loop_position import POSITION, is_between_epochs

#: In the message hub, and so in every checkpoint: where the last validation began. What
#: is saved from then on and before the next batch, such as the best checkpoint, was
#: saved when it had been scored.
_VALIDATED = 'last_validated_iter'


@register(HOOKS, 'FinalValidationHook')
class DueValidationHook(Hook):
    """Validates a resumed run before its first batch, if its checkpoint was not yet.

    The host saves a checkpoint, then validates: what the validation decides (learning
    rate on a plateau, best checkpoint, early stop) is not in the file. A run that is
    stopped in between, or later, and resumed from that file would go on without it.
    Whether a validation is due follows from where the loop is, as in the loop itself. A
    run with nothing left to train ends with its score, too.
    """

    # Last of all, so that other hooks have begun the training.
    priority = 'LOWEST'

    def __init__(self) -> None:
        self._position: dict[str, int] | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the position in the epoch."""
        self._position = checkpoint.get(POSITION)

    def before_train(self, runner: Runner) -> None:
        """Validate if it is due."""
        if not is_resumed(runner) or not runner.iter:
            return
        self._say_where(runner)
        if not self._is_due(runner):
            return
        runner.logger.info(
            f'the checkpoint of iteration {runner.iter} was saved before its '
            'validation, which comes first'
        )
        runner.val_loop.run()

    def before_val(self, runner: Runner) -> None:
        """Take note of a validation."""
        if is_training(runner):
            runner.message_hub.update_info(_VALIDATED, runner.iter)

    def _say_where(self, runner: Runner) -> None:
        """Let the message hub be as right after the last iteration.

        The host writes it before each iteration and epoch, but for a resumed run at
        once; whoever reads it in a validation would be told of the next ones.
        """
        infos, loop = runner.message_hub.runtime_info, runner.train_loop
        infos['iter'] = runner.iter - 1
        is_by_epoch = isinstance(loop, EpochBasedTrainLoop)
        if is_by_epoch and is_between_epochs(loop, self._position):
            infos['epoch'] = runner.epoch - 1

    def _is_due(self, runner: Runner) -> bool:
        loop = runner.train_loop
        validated = runner.message_hub.runtime_info.get(_VALIDATED)
        if runner.val_loop is None or runner.iter in (0, validated):
            return False
        if isinstance(loop, EpochBasedTrainLoop):
            if not is_between_epochs(loop, self._position):
                return False
            done, end = loop.epoch, loop.max_epochs
        else:
            done, end = loop.iter, loop.max_iters
        is_known = isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop)
        if done >= end or not is_known:
            return done >= end
        decide_validation_interval(loop)
        return done >= loop.val_begin and done % loop.val_interval == 0

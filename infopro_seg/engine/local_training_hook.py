"""The one hook that a config needs to train local modules."""

import logging
from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..checkpoints.files import LOCAL_META
from ..compat import is_resumed, is_training
from ..datasets import CheckLabelsHook
from ..scopes import register
from .check_weights_hook import CheckWeightsHook
from .data_guard_hook import DataGuardHook
from .due_validation_hook import DueValidationHook
from .local_backward_hook import LocalBackwardHook
from .local_model import find_local_model
from .local_module_monitor_hook import LocalModuleMonitorHook
from .loss_guard_hook import LossGuardHook
from .memory_advice_hook import MemoryAdviceHook
from .registering import register_missing
from .safe_checkpoint_hook import SafeCheckpointHook


@register(HOOKS)
class LocalTrainingHook(Hook):
    """Registers the hooks that a run of local modules needs, each where it is missing.

    - `LocalBackwardHook`, `LossGuardHook` and `MemoryAdviceHook`, where the model has
      local modules and is trained.
    - `CheckLabelsHook`, `DataGuardHook` and `CheckWeightsHook`: label values, files and
      weights that do not fit stop the run.
    - `DueValidationHook`: a resumed run begins with the validation that it lacks.
    - `LocalModuleMonitorHook`, if ``monitor_interval`` is not 0.
    - Each of the host's CheckpointHooks becomes a `SafeCheckpointHook` with the same
      settings.

    A hook that the config lists itself, with settings of its own, is left as it is.

    The splits of the model are written into the config that the run leaves in its work
    dir and into its checkpoints; a run that resumes with other splits is refused.

    Args:
        on_divergence: See `LossGuardHook`.
        monitor_interval: See `LocalModuleMonitorHook`; 0 leaves it out.
    """

    # First of all, so that the hooks it registers still see `before_run`.
    priority = 'HIGHEST'

    def __init__(self, on_divergence: str = 'stop', monitor_interval: int = 0) -> None:
        # By class: a name may mean another hook, or none, in the scope of the run.
        self._hooks: dict[type[Hook], dict[str, Any]] = {
            CheckLabelsHook: {},
            DataGuardHook: {},
            CheckWeightsHook: {},
            DueValidationHook: {},
        }
        self._local_hooks: dict[type[Hook], dict[str, Any]] = {
            LocalBackwardHook: {},
            LossGuardHook: {'on_divergence': on_divergence},
            MemoryAdviceHook: {},
        }
        if monitor_interval:
            settings = {'interval': monitor_interval}
            self._local_hooks[LocalModuleMonitorHook] = settings
        # Wrong settings are known now, not when training begins.
        for kind, settings in self._local_hooks.items():
            kind(**settings)

    def before_run(self, runner: Runner) -> None:
        """Register what is missing."""
        wanted = dict(self._hooks)
        if is_training(runner) and find_local_model(runner.model) is not None:
            wanted.update(self._local_hooks)
            if any(isinstance(hook, LocalBackwardHook) for hook in runner.hooks):
                # One that the config lists brings its own.
                del wanted[LossGuardHook]
        register_missing(runner, wanted)
        _make_checkpoints_safe(runner)

    def before_train(self, runner: Runner) -> None:
        """Write the splits of the model into the config of the work dir."""
        model = find_local_model(runner.model)
        if model is None or not isinstance(runner.cfg.get('model'), dict):
            return
        runner.cfg.model['local'] = model.local
        runner.dump_config()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write the splits into the checkpoint."""
        model = find_local_model(runner.model)
        if model is not None:
            cut = {key: model.local[key] for key in ('splits', 'recompute')}
            if model.end_to_end_every is not None:
                cut['end_to_end_every'] = model.end_to_end_every
            checkpoint.setdefault('meta', {})[LOCAL_META] = cut

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check that a resumed run is cut as before.

        Raises:
            ValueError: if it is not.
        """
        model = find_local_model(runner.model)
        cut = (checkpoint.get('meta') or {}).get(LOCAL_META)
        if model is None or cut is None or not is_resumed(runner):
            return
        splits = cut['splits']
        if list(splits) != model.local['splits']:
            raise ValueError(
                f'the checkpoint was trained with splits={list(splits)}, this run has '
                f'splits={model.local["splits"]}. To resume, set '
                f'model.local=dict(splits={list(splits)}).'
            )
        earlier = cut.get('end_to_end_every')
        if (earlier == 1) != (model.end_to_end_every == 1):
            raise ValueError(
                f'the checkpoint was trained with end_to_end_every={earlier}, this run '
                f'has {model.end_to_end_every}: only one of them has local heads. To '
                f'resume, set model.local=dict(end_to_end_every={earlier}).'
            )


def _make_checkpoints_safe(runner: Runner) -> None:
    """Put a `SafeCheckpointHook` in the place of each CheckpointHook of the host."""
    for index, hook in enumerate(runner.hooks):
        if type(hook) is CheckpointHook:
            runner.hooks[index] = SafeCheckpointHook.in_place_of(hook)
        elif isinstance(hook, CheckpointHook) and not isinstance(
            hook, SafeCheckpointHook
        ):
            runner.logger.log(
                logging.WARNING,
                f'{type(hook).__name__} is used instead of SafeCheckpointHook: a '
                'kill may leave a half-written checkpoint, and a resumed run continues '
                'with other random numbers. Set default_hooks=dict(checkpoint=dict('
                "type='SafeCheckpointHook', ...)).",
            )

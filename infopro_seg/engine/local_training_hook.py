"""The one hook that a config needs to train local modules."""

import logging
from typing import Any

from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from ..checkpoints.files import LOCAL_META
from ..compat import is_resumed, is_training
from ..settings.config import type_name
from .local_backward_hook import LocalBackwardHook
from .local_model import find_local_model
from .registering import register_missing
from .safe_checkpoint_hook import SafeCheckpointHook


@HOOKS.register_module()
class LocalTrainingHook(Hook):
    """Registers the hooks that a run of local modules needs, each where it is missing.

    - `LocalBackwardHook`, `LossGuardHook` and `MemoryAdviceHook`, where the model has
      local modules and is trained.
    - `CheckLabelsHook`, `DataGuardHook` and `CheckWeightsHook`: label values, files and
      weights that do not fit stop the run.
    - `FinalValidationHook`: a resumed run ends with a score.
    - `LocalModuleMonitorHook`, if ``monitor_interval`` is not 0.
    - The host's CheckpointHook becomes a `SafeCheckpointHook` with the same settings.

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
        self._hooks: dict[str, dict[str, Any]] = {
            'CheckLabelsHook': {},
            'DataGuardHook': {},
            'CheckWeightsHook': {},
            'FinalValidationHook': {},
        }
        self._local_hooks: dict[str, dict[str, Any]] = {
            'LocalBackwardHook': {},
            'LossGuardHook': {'on_divergence': on_divergence},
            'MemoryAdviceHook': {},
        }
        if monitor_interval:
            settings = {'interval': monitor_interval}
            self._local_hooks['LocalModuleMonitorHook'] = settings
        # Wrong settings are known now, not when training begins.
        for name, settings in self._local_hooks.items():
            HOOKS.build({'type': name, **settings})

    def before_run(self, runner: Runner) -> None:
        """Register what is missing."""
        wanted = dict(self._hooks)
        if is_training(runner) and find_local_model(runner.model) is not None:
            wanted.update(self._local_hooks)
            if any(isinstance(hook, LocalBackwardHook) for hook in runner.hooks):
                # One that the config lists brings its own.
                del wanted['LossGuardHook']
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
    """Replace the host's CheckpointHook by a `SafeCheckpointHook`."""
    for index, hook in enumerate(runner.hooks):
        if not isinstance(hook, CheckpointHook) or isinstance(hook, SafeCheckpointHook):
            continue
        settings = (runner.cfg.get('default_hooks') or {}).get('checkpoint')
        is_stock = type(hook) is CheckpointHook
        if is_stock and isinstance(settings, dict) and _describes(settings):
            safe = HOOKS.build({**settings, 'type': 'SafeCheckpointHook'})
            safe.priority = hook.priority
            runner.hooks[index] = safe
        elif type(hook).__name__ != 'SafeCheckpointHook':
            runner.logger.log(
                logging.WARNING,
                f'{type(hook).__name__} is used instead of SafeCheckpointHook: a '
                'kill may leave a half-written checkpoint, and a resumed run continues '
                'with other random numbers. Set default_hooks=dict(checkpoint=dict('
                "type='SafeCheckpointHook', ...)).",
            )


def _describes(settings: dict) -> bool:
    return type_name(settings) in ('', 'CheckpointHook')

"""Checkpoints that survive a kill at any moment and continue a run exactly."""

import logging
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from mmseg.registry import HOOKS

from .random_state import random_state, set_random_state
from .whole_file_backend import BACKEND_NAME, WholeFileBackend

_KEY = 'random_states'


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """A CheckpointHook whose checkpoints are whole and continue a run bit for bit.

    - A checkpoint gets its name when all of it is on disk; older ones are deleted
      after that.
    - It holds the random generators of all processes, as they were before the
      next batch. Validation leaves them as they were.
    - It is never taken in the middle of gradient accumulation, where gradients would be
      lost: saving waits for the optimizer's next step.

    On a CPU a resumed run ends with the weights of the uninterrupted one, also
    with data loader workers if the sampler is a `SeededSampler`.

    Args:
        args: Of CheckpointHook, as all others.
        kwargs: Of CheckpointHook.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.backend_args is None and self.file_client_args is None:
            self.backend_args = {'backend': BACKEND_NAME}
        self._is_postponed = False
        self._state_before_validation: dict | None = None
        self._to_save: list[dict] | None = None
        self._to_restore: dict | None = None

    def before_train(self, runner: Runner) -> None:
        """Clear away what earlier runs left half-written."""
        super().before_train(runner)
        if not isinstance(runner, Runner):
            runner.logger.log(
                logging.WARNING,
                f'{type(runner).__name__} writes checkpoints by itself: a kill can '
                'leave a half-written one under its final name.',
            )
        if isinstance(self.file_backend, WholeFileBackend) and is_main_process():
            for path in Path(self.out_dir).glob('.*.partial'):
                path.unlink(missing_ok=True)
        # Otherwise the loader draws its workers' seed from the global generator, in a
        # resumed run once more than in an uninterrupted one.
        runner.train_dataloader.generator = torch.Generator()

    def before_train_epoch(self, runner: Runner) -> None:
        """Right before the first batch: continue the checkpoint's random numbers."""
        state, self._to_restore = self._to_restore, None
        if state is None:
            return
        sampler = runner.train_dataloader.sampler
        if state['sampler_seed'] is not None and hasattr(sampler, 'seed'):
            sampler.seed = state['sampler_seed']
        set_random_state(state)

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Save if it is due, or if it was and had to wait."""
        if self._is_postponed:
            self._save_checkpoint(runner)
        else:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def before_val(self, runner: Runner) -> None:
        """Remember the random generators."""
        self._state_before_validation = random_state()

    def after_val(self, runner: Runner) -> None:
        """Training goes on as if there had been no validation."""
        set_random_state(self._state_before_validation)
        self._state_before_validation = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the random generators of all processes."""
        if self._to_save is not None:
            checkpoint[_KEY] = self._to_save

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the random generators of this process for `before_train_epoch`."""
        states = checkpoint.get(_KEY)
        if not runner._resume:
            return
        if states is None or len(states) != runner.world_size:
            held = 'none' if states is None else f'those of {len(states)} processes'
            runner.logger.log(
                logging.WARNING,
                f'the checkpoint holds random generators: {held}; this run has '
                f'{runner.world_size} processes. It goes on with other random numbers '
                'than the uninterrupted run would have had.',
            )
            return
        self._to_restore = states[runner.rank]

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        self._is_postponed = _is_accumulating(runner.optim_wrapper)
        if self._is_postponed:
            return
        state = self._state_before_validation or random_state()
        sampler_seed = getattr(runner.train_dataloader.sampler, 'seed', None)
        self._to_save = all_gather_object({**state, 'sampler_seed': sampler_seed})
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        except OSError as error:
            raise OSError(
                error.errno,
                f'{error.strerror}, while writing checkpoint {self.last_ckpt}. Earlier '
                'checkpoints are as they were. Make room and go on with --resume.',
            ) from error
        finally:
            self._to_save = None
        self._remove_outdated()

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        super()._save_best_checkpoint(runner, metrics)
        self._remove_outdated()

    def _remove_outdated(self) -> None:
        if isinstance(self.file_backend, WholeFileBackend):
            best = [getattr(self, 'best_ckpt_path', None)]
            best += getattr(self, 'best_ckpt_path_dict', {}).values()
            keep = [path for path in (self.last_ckpt, *best) if path]
            self.file_backend.remove_outdated(keep=keep)


def _is_accumulating(optim_wrapper: OptimWrapper) -> bool:
    """Whether gradients of past iterations wait for the optimizer's step."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return False
    return not optim_wrapper.should_update()

"""Checkpoints that survive a kill at any moment and continue a run exactly."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch.utils.data import Sampler

from ..checkpoints.files import SAVED_AT
from ..compat import accumulative_counts, is_resumed
from ..scopes import register
from .accumulated_gradients import gather_gradients, set_gradients
from .data_share import data_share
from .gradient_unit import (
    factor_between,
    gradient_unit,
    saved_unit,
    would_be_skipped,
)
from .loop_position import POSITION, epoch_position, go_on_inside, leave_epoch
from .numbered_batches import number_batches, sampler_of
from .random_state import random_state, set_random_state
from .whole_file_backend import BACKEND_NAME, WholeFileBackend

_RANDOM, _GRADIENTS = 'random_states', 'gradients'


@register(HOOKS)
class SafeCheckpointHook(CheckpointHook):
    """A CheckpointHook whose checkpoints are complete and continue a run bit for bit.

    - Checkpoints are written atomically. Older ones are deleted only afterwards. Where
      ``out_dir`` is an address (``s3://...``), both are left to the object store.
    - A checkpoint holds the states of the random generators of all processes right
      before the next batch. Validation does not change them.
    - It holds the gradients that wait for the optimizer's next step, so that it can
      be taken in the middle of gradient accumulation, and what they have been
      multiplied by, so that the resumed run may have another loss scale, or none.
    - It holds the position inside the epoch; a resumed run draws the rest of it.
    - Every sample is augmented with its own random numbers, see `number_batches`, so
      that they do not depend on which worker loads it.

    On a CPU a resumed run ends with the same weights as an uninterrupted one. The order
    of its sampler must follow from its seed and the epoch, as with DefaultSampler and
    InfiniteSampler; for other samplers the hook warns.

    Args:
        args: Positional arguments of CheckpointHook.
        kwargs: Keyword arguments of CheckpointHook.
    """

    backend_args: dict[str, Any] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write_whole_files()
        self._num_batches = 0
        self._saved_at = 0.0
        self._state_before_validation: dict | None = None
        self._to_save: dict[str, Any] | None = None
        self._is_resumed = False
        self._to_restore: dict[str, Any] = {}

    @classmethod
    def in_place_of(cls, hook: CheckpointHook) -> 'SafeCheckpointHook':
        """A hook that saves what another one would, when and where it would.

        Args:
            hook: One of the host, which no run has used yet; not changed.

        Returns:
            A hook with all its settings, the priority included.
        """
        # Not from a config: hooks are also built by the Runner's defaults, by code.
        safe = cls()
        safe.__dict__.update(vars(hook))
        safe._write_whole_files()
        return safe

    def _write_whole_files(self) -> None:
        is_chosen = bool(self.backend_args or self.file_client_args)
        # The host takes the backend of an object store from the scheme of its address.
        if not is_chosen and '://' not in str(self.out_dir):
            self.backend_args = {'backend': BACKEND_NAME}

    def before_train(self, runner: Runner) -> None:
        """Delete what earlier runs left half-written and restore gradients.

        Raises:
            RuntimeError: if not all processes go on from the same iteration.
        """
        _check_same_start(runner)
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
        # Otherwise the loader draws its workers' seed from the global generator: in a
        # resumed run once more than in an uninterrupted one.
        runner.train_dataloader.generator = torch.Generator()
        number_batches(runner.train_dataloader, runner.seed, data_share(runner))
        self._restore_gradients(runner)
        state = self._to_restore.get(_RANDOM)
        sampler = _sampler(runner)
        if state and state['sampler_seed'] is not None and hasattr(sampler, 'seed'):
            sampler.seed = state['sampler_seed']

    def before_train_epoch(self, runner: Runner) -> None:
        """Right before the first batch, go to the position of the checkpoint."""
        self._num_batches = 0
        if not self._is_resumed:
            return
        self._is_resumed = False
        state = self._to_restore.get(_RANDOM)
        go_on_inside(runner, self._to_restore.get(POSITION))
        if state:
            set_random_state(state)
        self._to_restore = {}

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Save if a checkpoint is due."""
        self._num_batches = batch_idx + 1
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_train_epoch(self, runner: Runner) -> None:
        """Save if a checkpoint is due, as of the beginning of the next epoch."""
        self._num_batches = 0
        leave_epoch(runner.train_loop)
        super().after_train_epoch(runner)

    def before_val(self, runner: Runner) -> None:
        """Remember the random generators; a resumed run may validate first of all."""
        if self._is_resumed and (state := self._to_restore.get(_RANDOM)):
            set_random_state(state)
        self._state_before_validation = random_state()

    def after_val(self, runner: Runner) -> None:
        """Restore the random generators, as if there had been no validation."""
        if self._state_before_validation is not None:
            set_random_state(self._state_before_validation)
            self._state_before_validation = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add what the host does not save."""
        # Always later than the resumed checkpoint, whatever the clock says.
        self._saved_at = max(time.time(), self._saved_at + 1e-3)
        checkpoint['meta'][SAVED_AT] = self._saved_at
        checkpoint.update(self._to_save or {})

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what `before_train` and `before_train_epoch` restore."""
        if not is_resumed(runner):
            return
        self._is_resumed = True
        self._saved_at = checkpoint['meta'].get(SAVED_AT, 0.0)
        kept = {POSITION: checkpoint.get(POSITION)}
        if gradients := checkpoint.get(_GRADIENTS):
            # The host is about to take the scaler's state out of the checkpoint.
            unit = saved_unit(gradients, checkpoint.get('optimizer') or {})
            kept[_GRADIENTS] = {**gradients, **unit}
        states, share = checkpoint.get(_RANDOM), data_share(runner)
        if states is not None and len(states) == share.count:
            kept[_RANDOM] = states[share.index]
        else:
            held = 'none' if states is None else f'those of {len(states)} processes'
            runner.logger.log(
                logging.WARNING,
                f'the checkpoint holds random generators: {held}; this run has '
                f'{share.count} processes. It continues with other random '
                'numbers than the uninterrupted run would have had.',
            )
        self._to_restore = kept

    def _restore_gradients(self, runner: Runner) -> None:
        saved = self._to_restore.pop(_GRADIENTS, None)
        if not saved:
            return
        counts, gathered = accumulative_counts(runner.optim_wrapper), saved['processes']
        now = gradient_unit(runner.optim_wrapper)
        reason = ''
        if saved['accumulative_counts'] != counts:
            reason = (
                f'accumulative_counts was {saved["accumulative_counts"]} and is '
                f'{counts} now'
            )
        elif would_be_skipped(saved, now, gathered):
            reason = 'they are not finite, and there is no gradient scaler now'
        if reason:
            runner.logger.log(
                logging.WARNING,
                f'gradients of iterations since the last step are lost: {reason}.',
            )
            return
        share = data_share(runner)
        rank = share.index if len(gathered) == share.count else None
        factor = factor_between(saved, now)
        set_gradients(runner.model, gathered, rank, factor=factor)
        # The host has just logged that they are lost.
        runner.logger.info('gradients accumulated so far are those of the file.')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        state = self._state_before_validation or random_state()
        state = {**state, 'sampler_seed': getattr(_sampler(runner), 'seed', None)}
        num_shares = data_share(runner).count
        # Processes that share their images share their random numbers, too.
        self._to_save = {_RANDOM: all_gather_object(state)[:num_shares]}
        if self.save_optimizer and (
            gradients := gather_gradients(runner.model, num_shares)
        ):
            self._to_save[_GRADIENTS] = {
                'accumulative_counts': accumulative_counts(runner.optim_wrapper),
                'processes': gradients,
                **gradient_unit(runner.optim_wrapper),
            }
        position = epoch_position(runner.train_loop, self._num_batches)
        if position is not None:
            self._to_save[POSITION] = position
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        except OSError as error:
            raise OSError(
                error.errno,
                f'{error.strerror}, while writing checkpoint {self.last_ckpt}. Earlier '
                'checkpoints are as they were. Free some space and pass --resume.',
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


def _check_same_start(runner: Runner) -> None:
    """Check that no process has resumed from another checkpoint than the first.

    On machines without a common disk, one that finds no checkpoint would start over and
    average its gradients with those of a trained network.
    """
    starts = all_gather_object(runner.iter)
    for rank, start in enumerate(starts):
        if start != starts[0]:
            raise RuntimeError(
                f'process {rank} starts at iteration {start}, process 0 at '
                f'{starts[0]}: --resume finds other checkpoints on their machines. Put '
                'the work dir on a disk that all machines share, or copy the last '
                'checkpoint to each.'
            )


def _sampler(runner: Runner) -> Sampler:
    loader = runner.train_dataloader
    return sampler_of(loader.batch_sampler) or loader.sampler

"""Where in an epoch a training loop of the host is, and how to get back there.

The host resumes an epoch from its first batch (EpochBasedTrainLoop, mmengine 0.10.12).
IterBasedTrainLoop skips batches by loading them, unless the sampler can skip.
"""

import functools
import logging
from typing import Any

from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch.utils.data import SequentialSampler

from ..compat import set_epoch
from .data_share import data_share
from .numbered_batches import NumberedBatches, number_batches, sampler_of
from .seeded_sampler import SeededSampler
from .stand_in import stood_for

#: Under this a checkpoint holds what `epoch_position` returns.
POSITION = 'position'
#: Samplers whose order follows from the seed and the epoch alone.
REPEATABLE = (DefaultSampler, InfiniteSampler, SeededSampler, SequentialSampler)


def epoch_position(loop: BaseLoop, num_batches: int) -> dict[str, int] | None:
    """What a checkpoint must record in addition to epoch and iteration.

    Args:
        loop: The training loop.
        num_batches: Number of batches trained in the current epoch.

    Returns:
        The position, or None for loops without epochs.
    """
    if not isinstance(loop, EpochBasedTrainLoop):
        return None
    return {'batches': num_batches, 'batches_per_epoch': len(loop.dataloader)}


def is_between_epochs(
    loop: EpochBasedTrainLoop, position: dict[str, int] | None
) -> bool:
    """Whether a resumed loop is behind the last batch of an epoch that has ended.

    Args:
        loop: The training loop.
        position: From `epoch_position`, or None if the checkpoint has none.
    """
    if position is None:
        return loop.iter == loop.epoch * len(loop.dataloader)
    return position['batches'] == 0


def go_on_inside(runner: Runner, position: dict[str, int] | None) -> None:
    """Let a resumed loop continue after the last batch that it trained.

    Call it after the sampler's epoch is set and before the first batch is drawn. A
    warning says what cannot be restored.

    Args:
        runner: A resumed runner; ``runner.epoch`` and ``runner.iter`` say where it is.
        position: From `epoch_position`, or None if the checkpoint has none.
    """
    loop = runner.train_loop
    batches = number_batches(loop.dataloader, runner.seed, data_share(runner))
    if isinstance(loop, IterBasedTrainLoop):
        _let_iterations_skip(runner, batches)
    elif isinstance(loop, EpochBasedTrainLoop):
        _go_on_in_epoch(runner, batches, position)
    elif runner.iter:
        _warn(
            runner,
            f'where {type(loop).__name__} was in its data is not known: it may repeat '
            'or leave out samples.',
        )


def leave_epoch(loop: BaseLoop) -> None:
    """Count batches from 0 again, as the next epoch is a whole one."""
    if _counts_on(loop):
        loop.run_iter = loop.run_iter.args[0]


def _go_on_in_epoch(
    runner: Runner, batches: NumberedBatches | None, position: dict[str, int] | None
) -> None:
    loop, size = runner.train_loop, len(runner.train_loop.dataloader)
    if position is None:
        # A checkpoint of the host: right if all epochs have the same length.
        num_batches = runner.iter - runner.epoch * size
        fits = 0 <= num_batches <= size
    else:
        num_batches = position['batches']
        fits = num_batches == 0 or position['batches_per_epoch'] == size
    if not fits or batches is None:
        if num_batches:
            _warn(
                runner,
                f'epoch {runner.epoch + 1} is repeated from its first batch: at '
                f'iteration {runner.iter} the place in the data is not known for '
                f'epochs of {size} iterations.',
            )
        num_batches = 0
    if batches is None:
        return
    _warn_if_unknown(runner, batches, num_batches)
    batches.go_to(runner.epoch, num_batches)
    if num_batches and not _counts_on(loop):
        # Hooks and the log count batches of the epoch.
        loop.run_iter = functools.partial(_run_iter, loop.run_iter, num_batches)


def _run_iter(run_iter: Any, first: int, idx: int, data_batch: Any) -> None:
    run_iter(idx + first, data_batch)


def _counts_on(loop: BaseLoop) -> bool:
    return getattr(vars(loop).get('run_iter'), 'func', None) is _run_iter


def _let_iterations_skip(runner: Runner, batches: NumberedBatches | None) -> None:
    """Let the host skip batches by drawing only indices, whatever the sampler."""
    iterator = runner.train_loop.dataloader_iterator
    if batches is not None and hasattr(iterator, 'skip_iter'):
        _warn_if_unknown(runner, batches, runner.iter)
        iterator.skip_iter = functools.partial(_skip, batches, iterator)


def _skip(batches: NumberedBatches, iterator: Any, num_batches: int) -> None:
    epoch, left = 0, batches.go_to(0, num_batches)
    while left:
        if left == num_batches:
            raise RuntimeError(f'{type(stood_for(batches)).__name__} has no batches.')
        # As the host's iterator does when an epoch ends.
        epoch += 1
        set_sampler_epoch = getattr(sampler_of(batches), 'set_epoch', None)
        if set_sampler_epoch is not None:
            set_sampler_epoch(epoch)
        num_batches, left = left, batches.go_to(epoch, left)
    set_epoch(iterator, epoch)


def _warn_if_unknown(
    runner: Runner, batches: NumberedBatches, num_batches: int
) -> None:
    sampler = sampler_of(batches)
    known = [kind.__iter__ for kind in REPEATABLE]
    if num_batches and getattr(type(sampler), '__iter__', None) not in known:
        name = type(stood_for(batches) if sampler is None else sampler).__name__
        _warn(
            runner,
            f'the first {num_batches} batches that {name} gives are left out. If its '
            'order does not follow from its seed and the epoch alone, samples are '
            'repeated or left out.',
        )


def _warn(runner: Runner, text: str) -> None:
    runner.logger.log(logging.WARNING, f'resuming: {text}')

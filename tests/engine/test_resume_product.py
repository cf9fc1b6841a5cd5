"""A run that is killed after any iteration ends as the one that nobody disturbed.

{iteration, epoch} loops x accumulation x {checkpoint by iteration, by epoch} x a kill
after every iteration. Epochs have 5 iterations, so that accumulations of 2 and 3 cross
their ends, and checkpoints by iteration, every 3, lie inside epochs and accumulations.
`make test-all` tries each combination with half of the kills, `make test-products` with
the others.
"""

import functools
import itertools

import pytest

from tests.engine.runs import (
    Augment,
    Killed,
    KillHook,
    Scenes,
    assert_same_checkpoint,
    loader,
    losses_in_log,
    resume,
    runner_of,
)
from tests.samples import PRODUCT

NUM_ITERATIONS = 20
COMBINATIONS = list(itertools.product(('iter', 'epoch'), (1, 2, 3), (False, True)))
KILLS = range(1, NUM_ITERATIONS + 1)


def settings_of(loop, counts, by_epoch):
    sampler = {'iter': 'InfiniteSampler', 'epoch': 'DefaultSampler'}[loop]
    data = loader(sampler=sampler, dataset=Scenes(10, pipeline=[Augment((32, 32))]))
    data['sampler']['shuffle'] = True
    train_cfg = {
        'iter': {'type': 'IterBasedTrainLoop', 'max_iters': NUM_ITERATIONS},
        'epoch': {'type': 'EpochBasedTrainLoop', 'max_epochs': 4},
    }[loop]
    schedule = [{'type': 'PolyLR', 'end': NUM_ITERATIONS, 'by_epoch': False}]
    if loop == 'epoch':
        schedule.append({'type': 'MultiStepLR', 'milestones': [1, 3]})
    return {
        'train_dataloader': data,
        'train_cfg': train_cfg,
        'param_scheduler': schedule,
        'optim_wrapper': {'accumulative_counts': counts},
        'checkpoint': {'by_epoch': by_epoch, 'interval': 1 if by_epoch else 3},
    }


def last_name(loop, by_epoch):
    number = NUM_ITERATIONS if not by_epoch else {'iter': 1, 'epoch': 4}[loop]
    return f'{"epoch" if by_epoch else "iter"}_{number}.pth'


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    """The work dir of a whole run; each is made once."""

    @functools.cache
    def run(*combination):
        work_dir = tmp_path_factory.mktemp('whole')
        runner_of(work_dir, **settings_of(*combination)).train()
        return work_dir

    return run


def check(undisturbed, work_dir, combination, after):
    loop, _, by_epoch = combination
    whole = undisturbed(*combination)
    hook = KillHook(after, 'LOWEST')
    with pytest.raises(Killed):
        runner_of(work_dir, hooks=[hook], **settings_of(*combination)).train()
    resume(work_dir, **settings_of(*combination))
    # Every checkpoint of the whole run, and no other.
    names = sorted(path.name for path in whole.glob('*.pth'))
    assert sorted(path.name for path in work_dir.glob('*.pth')) == names
    last = last_name(loop, by_epoch)
    assert_same_checkpoint(whole / last, work_dir / last)
    assert losses_in_log(whole / last) == losses_in_log(work_dir / last)
    assert len(losses_in_log(whole / last)['train/loss']) == NUM_ITERATIONS


@pytest.mark.slow
@pytest.mark.parametrize(
    ('combination', 'after'),
    # Kills spread over the epochs and accumulations.
    [(c, 7 * i % NUM_ITERATIONS + 4) for i, c in enumerate(COMBINATIONS)][::6],
)
def test_sample(undisturbed, tmp_path, combination, after):
    check(undisturbed, tmp_path, combination, min(after, NUM_ITERATIONS))


def products():
    """All combinations and kills; two neighbouring kills are tried or left in turn.

    A change of any one setting changes whose turn it is, so that each value of each
    setting meets all kills.
    """
    for loop, counts, by_epoch in COMBINATIONS:
        combination = loop, counts, by_epoch
        for after in KILLS:
            turn = (loop == 'epoch') + counts + by_epoch + after // 2
            is_tried = turn % 2 == 0
            marks = pytest.mark.exhaustive if is_tried else PRODUCT
            yield pytest.param(combination, after, marks=marks)


@pytest.mark.parametrize(('combination', 'after'), products())
def test_product(undisturbed, tmp_path, combination, after):
    check(undisturbed, tmp_path, combination, after)

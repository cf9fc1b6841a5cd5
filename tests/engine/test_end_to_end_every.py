"""The dial: which steps are exact end-to-end training, and what trains in them."""

import copy

import pytest
import torch
from mmengine.hooks import Hook

from infopro_seg.checkpoints.files import last_whole_checkpoint
from tests.engine.runs import MODEL, Killed, KillHook, runner_of
from tests.helpers import assert_equal, build, gradients, losses_of
from tests.runs import run_training

SPLITS = MODEL['local']['splits']
STOCK = {k: v for k, v in MODEL.items() if k != 'local'} | {'type': 'EncoderDecoder'}


def dialled(period, **local):
    return {**MODEL, 'local': {**MODEL['local'], 'end_to_end_every': period, **local}}


class NoteSteps(Hook):
    """Which iterations were end-to-end."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.steps = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.steps.append(runner.model.is_end_to_end)


def stock_part(values):
    return {k: v for k, v in values.items() if not k.startswith('local_heads.')}


@pytest.mark.parametrize(
    ('period', 'counts', 'expected'),
    [
        (1, 1, [True] * 6),
        (2, 1, [False, True] * 3),
        (3, 1, [False, False, True] * 2),
        # Two iterations are one step of the optimizer.
        (2, 2, [False, False, True, True, False, False]),
        (None, 1, [False] * 6),
    ],
)
def test_every_nth_step_of_the_optimizer_is_end_to_end(
    tmp_path, period, counts, expected
):
    note = NoteSteps()
    wrapper = {'accumulative_counts': counts}
    runner = runner_of(
        tmp_path, model=dialled(period), hooks=[note], optim_wrapper=wrapper
    )
    runner.train()
    assert note.steps == expected
    assert runner.model.is_end_to_end == (period == 1)


def test_an_exact_step_has_the_stock_losses_and_gradients():
    stock = build(STOCK)
    ours = build(dialled(4))
    ours.load_state_dict(stock.state_dict(), strict=False)
    ours.is_end_to_end = True
    losses, expected = losses_of(ours), losses_of(stock)
    for name, value in expected.items():
        assert torch.equal(losses[name], value), name
    local = [name for name in losses if name.startswith('local_')]
    assert {name.partition('.')[0] for name in local} == {'local_0', 'local_1'}
    ours.parse_losses(losses)[0].backward()
    stock.parse_losses(expected)[0].backward()
    found = gradients(ours)
    assert_equal(stock_part(found), gradients(stock))
    # The local heads learn as well, from maps that they send nothing back to.
    assert all(found[n].any() for n in found if n.endswith('conv_seg.weight'))


def test_a_step_that_fails_leaves_the_losses_as_they_were():
    model = build(dialled(4))
    before = losses_of(copy.deepcopy(model))

    def fail(*_):
        raise torch.OutOfMemoryError('CUDA out of memory')

    model.is_end_to_end = True
    handle = model.decode_head.conv_seg.register_forward_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        losses_of(model)
    handle.remove()
    assert {'loss_by_feat'} <= set(vars(model.decode_head))
    model.is_end_to_end = False
    assert list(losses_of(model)) == list(before)


def test_other_steps_are_those_of_local_modules():
    local, ours = build(MODEL), build(dialled(4))
    losses, expected = losses_of(ours), losses_of(local)
    assert_equal(losses, expected)
    for model, entries in ((ours, losses), (local, expected)):
        model.parse_losses(entries)[0].backward()
    assert_equal(gradients(ours), gradients(local))


def test_local_heads_do_not_change_an_exact_run(tmp_path):
    # Through the runner, with its hook: n=1 is stock training, weight by weight.
    settings = {'iterations': 3, 'optim_wrapper': {'clip_grad': {'max_norm': 0.5}}}
    stock = run_training(STOCK, tmp_path / 'stock', hooks=(), **settings)
    for hooks in ((), ({'type': 'LocalTrainingHook'},)):
        ours = run_training(
            dialled(1), tmp_path / f'ours{len(hooks)}', hooks=hooks, **settings
        )
        assert_equal(ours.model.state_dict(), stock.model.state_dict())


@pytest.mark.exhaustive
@pytest.mark.parametrize('counts', [1, 2])
@pytest.mark.parametrize('killed_after', [3, 4, 5])
def test_a_resumed_run_goes_on_within_the_cycle(tmp_path, counts, killed_after):
    settings = {
        'model': dialled(3),
        'optim_wrapper': {'accumulative_counts': counts},
        'local_hook': {},
        'interval': 1,
    }
    whole = runner_of(tmp_path / 'whole', **copy.deepcopy(settings))
    whole.train()
    killed = runner_of(
        tmp_path / 'killed', hooks=[KillHook(killed_after)], **copy.deepcopy(settings)
    )
    with pytest.raises(Killed):
        killed.train()
    checkpoint, _ = last_whole_checkpoint(tmp_path / 'killed')
    again = runner_of(
        tmp_path / 'killed',
        name='again',
        resume=True,
        load_from=str(checkpoint),
        **copy.deepcopy(settings),
    )
    again.train()
    assert_equal(again.model.state_dict(), whole.model.state_dict())


@pytest.mark.parametrize(('earlier', 'now'), [(1, 2), (None, 1), (1, None)])
def test_a_run_with_other_heads_is_not_resumed(tmp_path, earlier, now):
    hooks = [{'type': 'LocalTrainingHook'}]
    first = runner_of(
        tmp_path, model=dialled(earlier), hooks=hooks, iterations=2, interval=1
    )
    first.train()
    checkpoint, _ = last_whole_checkpoint(tmp_path)
    second = runner_of(
        tmp_path,
        name='again',
        model=dialled(now),
        hooks=hooks,
        resume=True,
        load_from=str(checkpoint),
    )
    with pytest.raises(ValueError, match=f'end_to_end_every={earlier}, this run has'):
        second.train()


def test_another_period_with_the_same_heads_may_go_on(tmp_path):
    hooks = [{'type': 'LocalTrainingHook'}]
    runner_of(
        tmp_path, model=dialled(None), hooks=hooks, iterations=2, interval=1
    ).train()
    checkpoint, _ = last_whole_checkpoint(tmp_path)
    note = NoteSteps()
    second = runner_of(
        tmp_path,
        name='again',
        model=dialled(2),
        hooks=[*hooks, note],
        resume=True,
        load_from=str(checkpoint),
    )
    second.train()
    assert note.steps == [False, True, False, True]


@pytest.mark.parametrize('value', [0, -1, 1.5, True, 'always'])
def test_a_wrong_period_is_refused(value):
    with pytest.raises(ValueError, match=r'end_to_end_every=.*must be None \(never\)'):
        build(dialled(value))

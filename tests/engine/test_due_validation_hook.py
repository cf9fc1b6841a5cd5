"""Contract: what a validation decides is decided in a resumed run, too."""

import itertools
import logging

import pytest
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.runner import EpochBasedTrainLoop
from mmseg.registry import HOOKS

from infopro_seg.checkpoints.files import last_whole_checkpoint, read_checkpoint
from infopro_seg.engine import DueValidationHook, LocalTrainingHook
from infopro_seg.report.run_log import read_run
from tests.engine.runs import (
    Augment,
    Killed,
    KillHook,
    Scenes,
    assert_same_checkpoint,
    loader,
    resume,
    runner_of,
)
from tests.samples import some_of

#: By iteration. The best is neither the first nor the last; a plateau begins at 6.
SCORES = {2: 0.5, 4: 0.9, 6: 0.6, 8: 0.55}
DUE = {'type': 'DueValidationHook'}
PLATEAU = {
    'type': 'ReduceOnPlateauLR',
    'monitor': 'score',
    'rule': 'greater',
    'patience': 0,
    'factor': 0.1,
    'by_epoch': True,
}


class Score(BaseMetric):
    """Gives the score of the iteration that the host says it is."""

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        infos = MessageHub.get_current_instance().runtime_info
        iteration = infos['iter'] + 1
        if infos['loop'] == 'epoch':
            assert infos['epoch'] + 1 == iteration // 2
        return {'score': SCORES[iteration]}


class NoteHook(Hook):
    """Notes all validations; one that has begun can be killed, at its begin or end."""

    priority = 'VERY_HIGH'

    def __init__(self, noted, loop, kill_in=None, at='before_val'):
        self.noted, self.loop, self.kill_in, self.at = noted, loop, kill_in, at

    def before_train(self, runner):
        runner.message_hub.update_info('loop', self.loop)

    def before_val(self, runner):
        self.noted.append(('begun', runner.iter))
        self._kill(runner, 'before_val')

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self._kill(runner, 'after_val_iter')

    def after_val_epoch(self, runner, metrics=None):
        # A decision of a hook of the user's own, kept where the host keeps its own.
        hub = runner.message_hub
        decided = hub.runtime_info.get('decided', [])
        hub.update_info('decided', [*decided, (runner.iter, metrics['score'])])
        self.noted.append(('ended', runner.iter))

    def _kill(self, runner, where):
        if (self.kill_in, self.at) == (runner.iter, where):
            raise Killed


def settings_of(loop, **settings):
    """8 iterations, or 4 epochs of 2; each second one is saved, then validated."""
    train_cfg = {
        'iter': {'type': 'IterBasedTrainLoop', 'max_iters': 8, 'val_interval': 2},
        'epoch': {'type': 'EpochBasedTrainLoop', 'max_epochs': 4, 'val_interval': 1},
    }[loop]
    train_cfg.update(settings.pop('train_cfg', {}))
    small = {'pipeline': [Augment((32, 32))]}
    data = loader(dataset=Scenes(8, **small))
    if loop == 'epoch':
        # The other sampler has no end.
        data = loader(sampler='DefaultSampler', dataset=Scenes(4, **small))
        data['sampler']['shuffle'] = True
    validation = loader(sampler='DefaultSampler', dataset=Scenes(2, **small))
    checkpoint = {'save_best': 'score', 'rule': 'greater'}
    if loop == 'epoch':
        checkpoint |= {'by_epoch': True, 'interval': 1}
    return {
        'interval': 2,
        'train_dataloader': data,
        'val_dataloader': validation,
        'val_cfg': {'type': 'ValLoop'},
        'val_evaluator': [Score()],
        'train_cfg': train_cfg,
        'param_scheduler': [PLATEAU],
        'checkpoint': checkpoint,
        **settings,
    }


def name_of(loop, iteration):
    return f'iter_{iteration}.pth' if loop == 'iter' else f'epoch_{iteration // 2}.pth'


def train(work_dir, loop, kill=None, **settings):
    """Train; with a kill until there, and then on. Returns all validations."""
    noted = []
    hooks = [DUE, {'type': NoteHook, 'noted': noted, 'loop': loop}]
    if kill is None:
        runner_of(work_dir, hooks=hooks, **settings_of(loop, **settings)).train()
        return noted
    where, iteration = kill
    if where == 'training':
        killing = [*hooks, KillHook(iteration, 'LOWEST')]
    else:
        killing = [DUE, {**hooks[1], 'kill_in': iteration, 'at': where}]
    with pytest.raises(Killed):
        runner_of(work_dir, hooks=killing, **settings_of(loop, **settings)).train()
    noted += [last_whole_checkpoint(work_dir)[0].name, 'killed']
    resume(work_dir, hooks=hooks, **settings_of(loop, **settings))
    return noted


def assert_same_run(left, right, loop, noted):
    # The host writes the best again, but not the file that it went on from.
    start = noted[noted.index('killed') - 1]
    names = [sorted(path.name for path in run.glob('*.pth')) for run in (left, right)]
    assert names[0] == names[1]
    for name in set(names[0]) - {start}:
        assert_same_checkpoint(left / name, right / name)
    infos = [
        read_checkpoint(run / name_of(loop, 8))['message_hub']['runtime_info']
        for run in (left, right)
    ]
    for key in ('best_score', 'decided', 'iter', 'epoch'):
        assert infos[0].get(key) == infos[1].get(key), key
    scores = [read_run(run).series['score'] for run in (left, right)]
    assert scores[0] == scores[1]


KILLS = [
    *(('before_val', i) for i in SCORES),
    *(('after_val_iter', i) for i in SCORES),
    # Right behind the checkpoint, and in the iteration behind the validation.
    *(('training', i) for i in (2, 3, 4, 5, 6, 7, 8)),
]


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
    runs = {}

    def run(loop):
        if loop not in runs:
            runs[loop] = tmp_path_factory.mktemp(loop)
            train(runs[loop], loop)
        return runs[loop]

    return run


@pytest.mark.parametrize(
    ('loop', 'kill'),
    some_of(
        itertools.product(('iter', 'epoch'), KILLS),
        ('iter', ('before_val', 4)),
        ('iter', ('training', 7)),
        ('epoch', ('after_val_iter', 6)),
        ('epoch', ('after_val_iter', 8)),
        ('iter', ('training', 5)),
    ),
)
def test_a_run_killed_anywhere_ends_as_the_undisturbed_one(
    undisturbed, tmp_path, loop, kill
):
    if kill == ('training', 2) and loop == 'epoch':
        pytest.skip('the first checkpoint comes behind it')
    whole = undisturbed(loop)
    groups = read_checkpoint(whole / name_of(loop, 8))['optimizer']['param_groups']
    # The last file is written before the last validation.
    assert [group['lr'] for group in groups] == pytest.approx([0.05 * 0.1])
    noted = train(tmp_path, loop, kill)
    assert_same_run(whole, tmp_path, loop, noted)
    again = noted[noted.index('killed') + 1 :]
    if kill in [('training', 3), ('training', 5)]:
        # Scored, and as it was the best saved again: not repeated.
        assert again[0] == ('begun', kill[1] + 1)
    if kill == ('training', 7):
        assert again[:2] == [('begun', 6), ('ended', 6)]


@pytest.mark.exhaustive
@pytest.mark.parametrize('loop', ['iter', 'epoch'])
@pytest.mark.parametrize(
    ('train_cfg', 'expected'),
    [
        ({'val_begin': 3}, {'iter': [4, 6, 8], 'epoch': [6, 8]}),
        (
            {'val_interval': 100, 'dynamic_intervals': [(4, 2)]},
            {'iter': [4, 6, 8], 'epoch': [8]},
        ),
        ({'val_interval': 100}, {'iter': [8], 'epoch': [8]}),
    ],
    ids=['val_begin', 'dynamic_intervals', 'only the last'],
)
def test_only_what_the_loop_would_have_validated_is_due(
    tmp_path, loop, train_cfg, expected
):
    settings = {'train_cfg': train_cfg, 'checkpoint': {'interval': 1}}
    if loop == 'iter':
        settings['interval'] = settings['checkpoint']['interval'] = 2
    else:
        settings['checkpoint']['by_epoch'] = True
    noted = train(tmp_path / 'whole', loop, **settings)
    assert [i for what, i in noted if what == 'ended'] == expected[loop]
    for i in (2, 4, 6):
        killed = tmp_path / f'killed {i}'
        # Behind the checkpoint and the validation, if there is one.
        noted = train(killed, loop, ('training', i + 1), **settings)
        again = noted[noted.index('killed') + 1 :]
        ended = [i for what, i in again if what == 'ended']
        assert ended == [j for j in expected[loop] if j >= i]
        assert_same_run(tmp_path / 'whole', killed, loop, noted)


@pytest.mark.parametrize('after', [1, 2, 3])
def test_inside_an_epoch_nothing_is_due(tmp_path, after):
    settings = {'checkpoint': {'by_epoch': False, 'interval': 1}, 'interval': 1}
    whole = train(tmp_path / 'whole', 'epoch', **settings)
    noted = train(tmp_path / 'killed', 'epoch', ('training', after), **settings)
    again = noted[noted.index('killed') + 1 :]
    assert again == [entry for entry in whole if entry[1] >= after]


def test_a_loop_of_ones_own_is_only_validated_at_its_end(tmp_path):
    hook = DueValidationHook()
    runner = runner_of(tmp_path, **settings_of('iter'))
    runner._resume = True
    runner.train_loop._iter = 8
    assert hook._is_due(runner)
    runner.train_loop._iter = 7
    assert not hook._is_due(runner)


def test_a_checkpoint_of_the_host_tells_its_place_in_the_epoch(tmp_path):
    runner = runner_of(tmp_path, **settings_of('epoch'))
    hook = DueValidationHook()
    loop = runner.train_loop
    assert isinstance(loop, EpochBasedTrainLoop)
    for loop._epoch, loop._iter, is_due in ((1, 2, True), (1, 3, False), (0, 0, False)):
        assert hook._is_due(runner) == is_due


def test_it_comes_with_every_run_and_keeps_its_earlier_name(tmp_path):
    assert HOOKS.get('FinalValidationHook') is DueValidationHook
    for given in ([], [{'type': 'FinalValidationHook'}]):
        hooks = [*given, {'type': 'LocalTrainingHook'}]
        runner = runner_of(tmp_path, hooks=hooks, **settings_of('iter'))
        found = [h for h in runner.hooks if isinstance(h, LocalTrainingHook)]
        found[0].before_run(runner)
        assert sum(isinstance(h, DueValidationHook) for h in runner.hooks) == 1


def test_the_log_says_why_it_validates(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(
        logging.Logger, 'info', lambda self, text, *args, **kw: said.append(str(text))
    )
    train(tmp_path, 'iter', ('before_val', 4))
    assert sum('iteration 4 was saved before its validation' in s for s in said) == 1

"""What hooks do in the runner's training step, they do for no other loss."""

import copy
import pickle
from contextlib import contextmanager

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.optim import OptimWrapper
from mmengine.registry import LOOPS, OPTIM_WRAPPERS
from mmengine.runner import IterBasedTrainLoop

from infopro_seg.engine.train_step import surround_train_step, watch_train_step
from tests.engine.runs import MODEL, assert_same_checkpoint, runner_of
from tests.helpers import assert_equal, batch, build
from tests.runs import run_training
from tests.samples import some_of


class Toy(torch.nn.Linear):
    """A model that notes its step."""

    def train_step(self, notes):
        notes.append('step')


def noting(name):
    @contextmanager
    def context():
        NOTES.append(f'enter {name}')
        yield
        NOTES.append(f'leave {name}')

    return context


NOTES = []


@pytest.fixture(autouse=True)
def _no_notes():
    NOTES.clear()


def test_contexts_are_nested_and_end_in_any_order():
    model = Toy(1, 1)
    leave_outer = surround_train_step(model, noting('outer'))
    leave_inner = surround_train_step(model, noting('inner'))
    model.train_step(NOTES)
    inner = ['enter inner', 'step', 'leave inner']
    assert ['enter outer', *inner, 'leave outer'] == NOTES
    leave_outer()
    NOTES.clear()
    model.train_step(NOTES)
    assert inner == NOTES
    leave_inner()
    assert 'train_step' not in vars(model)


def test_a_step_that_was_there_comes_back():
    # As that of torch.compile.
    model = Toy(1, 1)
    model.train_step = compiled = lambda notes: notes.append('compiled')
    leave = surround_train_step(model, noting('ours'))
    model.train_step(NOTES)
    assert NOTES == ['enter ours', 'compiled', 'leave ours']
    leave()
    assert model.train_step is compiled


def test_a_step_that_was_put_over_it_stays():
    model = Toy(1, 1)
    leave = surround_train_step(model, noting('ours'))
    below = model.train_step
    model.train_step = theirs = lambda notes: below(notes)
    leave()
    assert model.train_step is theirs
    model.train_step(NOTES)
    assert NOTES == ['step']


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_have_the_plain_step_on_themselves(copied):
    model = Toy(1, 1)
    surround_train_step(model, noting('ours'))
    other = copied(model)
    assert other.train_step.__self__ is other
    other.train_step(NOTES)
    assert NOTES == ['step']


def test_a_watcher_is_there_in_steps_only_and_after_an_error():
    model = build(MODEL)
    seen = []

    def step():
        seen.append(model.watchers)
        raise KeyError

    model.train_step = step
    leave = watch_train_step(model, model, noting)
    with pytest.raises(KeyError):
        model.train_step()
    leave()
    assert seen == [(noting,)]
    assert model.watchers == ()


class ForeignLoss(Hook):
    """A user's hook that computes the loss of another batch, and only looks at it."""

    def __init__(self, when, *, bad=False):
        self.when = when
        self.bad = bad

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.when == 'before':
            self.compute(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.when == 'after':
            self.compute(runner)

    def compute(self, runner):
        model = runner.model
        data = model.data_preprocessor(batch(2, seed=99), training=True)
        if self.bad:
            data['inputs'] = data['inputs'] * float('nan')
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        with torch.random.fork_rng():
            losses = model(**data, mode='loss')
        assert torch.isfinite(losses['decode.loss_ce']) != self.bad
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])


EVERYTHING = {
    'model': {**MODEL, 'local': {**MODEL['local'], 'random_streams': 'module'}},
    'optim_wrapper': {'accumulative_counts': 2},
    'local_hook': {'on_divergence': 'skip'},
}


@pytest.mark.parametrize('when', some_of(['before', 'after'], 'after'))
@pytest.mark.parametrize(
    ('settings', 'bad'),
    [
        ({}, False),
        (EVERYTHING, False),
        (EVERYTHING, True),
        ({'local_hook': {'on_divergence': 'stop'}}, True),
    ],
    ids=['plain', 'everything', 'not finite', 'not finite, stop'],
)
def test_a_loss_that_is_computed_between_steps_changes_nothing(
    tmp_path, when, settings, bad
):
    # As in the host. Early backward passes added its gradients to the next step.
    hooks = [
        {'type': 'LocalModuleMonitorHook', 'interval': 1},
        {'type': 'TimelineHook', 'begin': 0},
    ]
    for name, foreign in (('alone', []), ('foreign', [ForeignLoss(when, bad=bad)])):
        runner = runner_of(
            tmp_path / name,
            iterations=4,
            hooks=[*hooks, *foreign],
            **copy.deepcopy(settings),
        )
        runner.train()
    assert_same_checkpoint(*(tmp_path / n / 'iter_4.pth' for n in ('alone', 'foreign')))


@OPTIM_WRAPPERS.register_module()
class ZeroFirst(OptimWrapper):
    """In the order of torch's tutorials."""

    def update_params(self, loss, step_kwargs=None, zero_kwargs=None):
        self.zero_grad()
        self.backward(self.scale_loss(loss))
        self.step()


@OPTIM_WRAPPERS.register_module()
class HalfLoss(OptimWrapper):
    """Changes the loss before the host's own."""

    def update_params(self, loss, *args, **kwargs):
        super().update_params(loss / 2, *args, **kwargs)


@OPTIM_WRAPPERS.register_module()
class OwnBackward(OptimWrapper):
    """As that of apex."""

    def backward(self, loss, **kwargs):
        super().backward(loss / 2, **kwargs)


@OPTIM_WRAPPERS.register_module()
class HalfScale(OptimWrapper):
    """What backward passes of all modules go through."""

    def scale_loss(self, loss):
        return super().scale_loss(loss) / 2


@pytest.fixture
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(MMLogger, 'warning', lambda self, text: texts.append(text))
    return texts


@pytest.mark.parametrize(
    ('kind', 'plain', 'own'),
    [
        ('ZeroFirst', 'OptimWrapper', 'update_params'),
        ('HalfLoss', 'HalfScale', 'update_params'),
        ('OwnBackward', 'HalfScale', 'backward'),
    ],
)
def test_a_wrapper_with_a_method_of_its_own_trains_as_with_the_host(
    tmp_path, said, kind, plain, own
):
    ends = []
    for name in (plain, kind):
        wrapper = {'type': name}
        runner = run_training(MODEL, tmp_path / name, optim_wrapper=wrapper)
        ends.append(runner.model.state_dict())
        if name == plain:
            assert said == []
    assert_equal(*ends)
    (text,) = said
    assert f'{kind} has its own {own}, which may change' in text
    assert "optim_wrapper.type to 'OptimWrapper'" in text


def test_nothing_is_said_of_such_a_wrapper_where_no_backward_pass_is_early(
    tmp_path, said
):
    model = {**MODEL, 'local': {**MODEL['local'], 'end_to_end_every': 1}}
    wrapper = {'type': 'ZeroFirst'}
    run_training(model, tmp_path, optim_wrapper=wrapper, iterations=1)
    assert said == []


@LOOPS.register_module()
class OwnLoop(IterBasedTrainLoop):
    """Of a user, who writes the step out."""

    def run_iter(self, data_batch):
        runner = self.runner
        now = {'batch_idx': self._iter, 'data_batch': data_batch}
        runner.call_hook('before_train_iter', **now)
        data = runner.model.data_preprocessor(data_batch, True)
        losses, logged = runner.model.parse_losses(runner.model(**data, mode='loss'))
        runner.optim_wrapper.update_params(losses)
        runner.call_hook('after_train_iter', **now, outputs=logged)
        self._iter += 1


def test_a_loop_without_the_models_step_trains_the_same_and_is_named(tmp_path, said):
    settings = {'iterations': 3, 'interval': 3}
    runner_of(tmp_path / 'host', **settings).train()
    assert said == []
    loop = {'type': 'OwnLoop', 'max_iters': 3}
    runner_of(tmp_path / 'own', train_cfg=loop, **settings).train()
    assert_same_checkpoint(*(tmp_path / n / 'iter_3.pth' for n in ('host', 'own')))
    (text,) = [text for text in said if 'train_step' in text]
    assert text.startswith('OwnLoop does not call model.train_step')

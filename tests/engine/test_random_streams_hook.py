"""Random numbers of modules follow from seed, iteration, module and share alone."""

from types import SimpleNamespace

import pytest
import torch

from infopro_seg.engine import RandomStreamsHook
from infopro_seg.engine.data_share import DataShare, data_share
from tests.helpers import NARROW, WIDTHS, build, deeplabv3, localized
from tests.runs import run_training


@pytest.fixture(scope='module')
def model():
    config = deeplabv3(NARROW, WIDTHS)
    return build(localized(config, num_modules=3))


def draws(model, *, seed=5, iteration=7, share=None, before=0):
    """What each module draws in an iteration."""
    runner = SimpleNamespace(
        model=model, seed=seed, iter=iteration, rank=0, world_size=1, data_share=share
    )

    def step():
        for module in model.local_modules:
            with model._watched(module):
                found.append(float(torch.rand(())))

    found = []
    model.train_step = step
    hook = RandomStreamsHook()
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    torch.manual_seed(before)
    model.train_step()
    after = float(torch.rand(()))
    hook.after_train(runner)
    assert model.watchers == ()
    assert model.train_step is step
    return found, after


def test_every_module_draws_its_own(model):
    found, after = draws(model)
    assert len(set(found)) == 3
    # The stream of the process goes on as if nobody had drawn.
    torch.manual_seed(0)
    assert after == float(torch.rand(()))


def test_they_do_not_depend_on_what_was_drawn_before(model):
    assert draws(model, before=1)[0] == draws(model, before=2)[0]


@pytest.mark.parametrize(
    'other', [{'seed': 6}, {'iteration': 8}, {'share': DataShare(1, 2)}]
)
def test_they_follow_from_seed_iteration_and_share(model, other):
    assert set(draws(model)[0]).isdisjoint(draws(model, **other)[0])


def test_the_number_of_shares_does_not_matter(model):
    assert draws(model)[0] == draws(model, share=DataShare(0, 4))[0]


def test_the_share_is_that_of_the_process_unless_the_runner_says_otherwise():
    runner = SimpleNamespace(rank=3, world_size=4)
    assert data_share(runner) == DataShare(3, 4)
    runner.data_share = DataShare(1, 2)
    assert data_share(runner) == DataShare(1, 2)


@pytest.mark.parametrize('listed', ['LocalBackwardHook', 'LocalTrainingHook'])
def test_hooks_bring_it_where_the_model_asks_for_it(tmp_path, listed):
    config = deeplabv3(NARROW, WIDTHS)
    for streams, expected in (('process', 0), ('module', 1)):
        own = build(localized(config, num_modules=2, random_streams=streams))
        hooks = [{'type': listed}]
        runner = run_training(own, tmp_path / streams, hooks=hooks, iterations=1)
        hooks = [h for h in runner.hooks if isinstance(h, RandomStreamsHook)]
        assert len(hooks) == expected

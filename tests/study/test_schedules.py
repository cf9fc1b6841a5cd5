"""A schedule lasts as long as the run, whatever it counts iterations by."""

import copy

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

from infopro_seg.study.schedules import stretch_schedules

# A schedule of 1000 iterations, and what it is in a run of 4.
SCHEDULES = {
    'steps': (
        {'type': 'MultiStepLR', 'milestones': [800, 950]},
        {'milestones': [3, 4]},
    ),
    'step': ({'type': 'StepLR', 'step_size': 250}, {'step_size': 1}),
    'restarts': (
        {'type': 'CosineRestartLR', 'periods': [500, 500], 'eta_min': 0},
        {'periods': [2, 2]},
    ),
    'cosine': ({'type': 'CosineAnnealingMomentum', 'T_max': 1000}, {'T_max': 4}),
    'cycle': (
        {'type': 'OneCycleLR', 'total_steps': 1000, 'eta_max': 1},
        {'total_steps': 4},
    ),
    'power': ({'type': 'ExponentialLR', 'gamma': 0.99}, {'gamma': 0.99**250}),
    'warm-up': ({'type': 'LinearLR', 'begin': 0, 'end': 30}, {'begin': 0, 'end': 1}),
    'after': ({'type': 'PolyLR', 'begin': 30, 'end': 1000}, {'begin': 1, 'end': 4}),
    'late': ({'type': 'PolyLR', 'begin': 990, 'end': 1000}, {'begin': 4, 'end': 5}),
}


@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('form', ['one', 'several', 'of several optimizers'])
def test_what_counts_iterations_is_stretched(name, form):
    own, expected = copy.deepcopy(SCHEDULES[name])
    schedule = {**own, 'by_epoch': False}
    forms = {'one': schedule, 'several': [schedule], 'of several optimizers': None}
    given = forms[form] or {'first': [schedule], 'second': {**schedule}}
    stretch_schedules(given, 4 / 1000)
    wanted = {**own, 'by_epoch': False, **expected}
    assert schedule.keys() == wanted.keys()
    for key, value in wanted.items():
        is_number = isinstance(value, float)
        assert schedule[key] == (pytest.approx(value) if is_number else value)
    if form == 'of several optimizers':
        assert given['second'] == schedule


def test_what_counts_epochs_is_left():
    for schedule in ({'type': 'PolyLR', 'end': 100}, {'by_epoch': True, 'end': 100}):
        before = dict(schedule)
        stretch_schedules([schedule], 0.5)
        assert schedule == before
    stretch_schedules(None, 0.5)


@pytest.mark.parametrize(
    'own',
    [
        {'type': 'MultiStepLR', 'milestones': [400, 700], 'gamma': 0.1},
        {'type': 'StepLR', 'step_size': 300, 'gamma': 0.5},
        {
            'type': 'CosineRestartLR',
            'periods': [500, 500],
            'restart_weights': [1, 1],
            'eta_min': 0.0,
        },
        {'type': 'CosineAnnealingLR', 'T_max': 1000, 'eta_min': 0.0},
        {'type': 'ExponentialLR', 'gamma': 0.998},
        {'type': 'PolyLR', 'power': 0.9, 'end': 1000},
        {'type': 'LinearLR', 'start_factor': 0.1, 'end': 200},
    ],
    ids=lambda own: own['type'],
)
def test_rates_of_a_tenth_are_those_of_the_whole_at_every_tenth_step(own):
    whole = {**own, 'by_epoch': False}
    tenth = copy.deepcopy(whole)
    stretch_schedules(tenth, 1 / 10)
    rates = rates_of(whole, 1000)[5::10]
    # Steps are ten times as coarse.
    assert rates_of(tenth, 100) == pytest.approx(rates, abs=0.03)


def rates_of(schedule, num_steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    built = PARAM_SCHEDULERS.build(schedule, default_args={'optimizer': optimizer})
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        built.step()
    return rates

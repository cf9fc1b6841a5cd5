"""Optimizers of real recipes on fake networks."""

import logging

import pytest
from mmengine.logging import MMLogger

from infopro_seg.planner.profile.fake_step import (
    fake_optim_wrapper,
    fake_segmentor,
    fake_tensors,
    optimizer_factors,
    track_step,
)
from tests.planner.networks import CROP, tiny

ADAMW = {'type': 'AdamW', 'lr': 0.1}
BY_LAYER = {
    'constructor': 'LearningRateDecayOptimizerConstructor',
    'paramwise_cfg': {
        'num_layers': 6,
        'decay_rate': 0.9,
        'decay_type': 'stage_wise',
    },
}


def test_rates_by_layer_do_not_change_what_an_optimizer_keeps():
    # The constructor looks for a backbone, which the two measured weights have not.
    with fake_tensors():
        plain = optimizer_factors({'optimizer': ADAMW})
        by_layer = optimizer_factors({'optimizer': ADAMW, **BY_LAYER})
    assert by_layer == plain
    assert plain.state == pytest.approx(2, abs=1e-4)


def test_settings_by_parameter_are_built_without_a_report_of_each(monkeypatch):
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'level', logging.INFO)
    reports = []
    monkeypatch.setattr(
        logger, 'callHandlers', lambda record: reports.append(record.getMessage())
    )
    logger.info('heard')
    wrapper = {
        'optimizer': {'type': 'SGD', 'lr': 0.1, 'weight_decay': 0.1},
        'paramwise_cfg': {
            'norm_decay_mult': 0.0,
            'custom_keys': {'head': {'lr_mult': 2}},
        },
    }
    with fake_tensors() as (mode, _):
        built = fake_optim_wrapper(fake_segmentor(tiny(), mode), wrapper)
    assert {group['lr'] for group in built.optimizer.param_groups} == {0.1, 0.2}
    assert reports == ['heard']
    assert logger.level == logging.INFO


def test_a_step_with_settings_by_parameter_is_counted():
    wrapper = {
        'optimizer': ADAMW,
        'paramwise_cfg': {'custom_keys': {'head': {'lr_mult': 2}}},
    }
    sizes = {'batch_size': 2, 'crop_size': CROP}
    plain = track_step(tiny(), optim_wrapper={'optimizer': ADAMW}, **sizes)
    assert track_step(tiny(), optim_wrapper=wrapper, **sizes).flops == plain.flops


@pytest.mark.parametrize(
    ('optimizer', 'copies'),
    [
        ({'type': 'SGD', 'lr': 0.1}, 0),
        ({'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'nesterov': True}, 1),
        ({'type': 'Adam', 'lr': 0.1, 'amsgrad': True}, 3),
        ({'type': 'AdamW', 'lr': 0.1, 'fused': True}, 2),
        ({'type': 'NAdam', 'lr': 0.1}, 2),
        ({'type': 'RAdam', 'lr': 0.1}, 2),
        ({'type': 'RMSprop', 'lr': 0.1, 'centered': True}, 2),
        ({'type': 'Adadelta'}, 2),
        ({'type': 'Adagrad'}, 1),
        ({'type': 'ASGD'}, 1),
        ({'type': 'Adamax'}, 2),
        ({'type': 'Rprop'}, 2),
    ],
    ids=lambda value: value['type'] if isinstance(value, dict) else None,
)
def test_the_state_of_every_optimizer_is_counted(optimizer, copies):
    with fake_tensors():
        factors = optimizer_factors({'optimizer': optimizer})
    # Counters of a few bytes come on top.
    assert factors.state == pytest.approx(copies, abs=1e-3)


def test_an_optimizer_that_is_not_registered_is_named():
    with (
        fake_tensors(),
        pytest.raises(KeyError, match='MyOptimizer.* is not registered'),
    ):
        optimizer_factors({'optimizer': {'type': 'MyOptimizer'}})

"""Contract: early backward passes train the same weights as one backward of the sum."""

import pytest

from tests.helpers import NARROW, WIDTHS, assert_equal, deeplabv3, localized
from tests.runs import run_training

MODEL = localized(deeplabv3(NARROW, WIDTHS), num_modules=3)


@pytest.mark.parametrize(
    'optim_wrapper',
    [
        pytest.param({}, marks=pytest.mark.exhaustive),
        pytest.param({'accumulative_counts': 2}, marks=pytest.mark.exhaustive),
        # 5 iterations do not divide by 2: the last factor differs.
        {'accumulative_counts': 3, 'clip_grad': {'max_norm': 0.1}},
    ],
    ids=['plain', 'accumulation', 'accumulation with remainder and clipping'],
)
def test_hook_trains_the_same_weights_as_the_summed_losses(tmp_path, optim_wrapper):
    settings = {'iterations': 5, 'optim_wrapper': optim_wrapper}
    early = run_training(MODEL, tmp_path / 'early', **settings)
    late = run_training(MODEL, tmp_path / 'late', hooks=(), **settings)
    assert_equal(early.model.state_dict(), late.model.state_dict())
    start = run_training(MODEL, tmp_path / 'start', iterations=0, hooks=())
    changed = [
        name
        for name, value in start.model.state_dict().items()
        if not value.equal(early.model.state_dict()[name])
    ]
    assert any(name.startswith('backbone.stem') for name in changed)


def test_an_exponential_moving_average_follows_the_same_weights(tmp_path):
    ema = {'type': 'EMAHook', 'momentum': 0.1}
    early = run_training(
        MODEL, tmp_path / 'early', hooks=[ema, {'type': 'LocalBackwardHook'}]
    )
    late = run_training(MODEL, tmp_path / 'late', hooks=[ema])
    averages = [
        next(h for h in runner.hooks if type(h).__name__ == 'EMAHook').ema_model
        for runner in (early, late)
    ]
    assert_equal(averages[0].state_dict(), averages[1].state_dict())
    assert averages[0].module.local_backward is None


LEARNING_RATES = {
    # lr_mult by the name it is given for; norm layers have no weight decay.
    'custom_keys': {
        'decode_head': {'lr_mult': 10.0},
        'local_heads': {'lr_mult': 0.5},
        'local_heads.1': {'lr_mult': 2.0, 'decay_mult': 0.25},
    },
    'norm_decay_mult': 0.0,
}


def expected_group(name, parameter, lr=0.05, decay=0.01):
    """Learning rate and weight decay, by hand."""
    if name.startswith('decode_head.'):
        return 10 * lr, decay
    if name.startswith('local_heads.1.'):
        return 2 * lr, 0.25 * decay
    if name.startswith('local_heads.0.'):
        return 0.5 * lr, decay
    is_norm = parameter.ndim == 1 and ('.bn' in name or '.stem.' in name)
    return lr, 0.0 if is_norm or 'downsample.1' in name else decay


def test_learning_rates_by_part_of_the_network(tmp_path):
    settings = {
        'iterations': 3,
        'optim_wrapper': {
            'optimizer': {
                'type': 'SGD',
                'lr': 0.05,
                'momentum': 0.9,
                'weight_decay': 0.01,
            },
            'paramwise_cfg': LEARNING_RATES,
        },
    }
    early = run_training(MODEL, tmp_path / 'early', **settings)
    late = run_training(MODEL, tmp_path / 'late', hooks=(), **settings)
    assert_equal(early.model.state_dict(), late.model.state_dict())
    names = {id(p): (name, p) for name, p in early.model.named_parameters()}
    for group in early.optim_wrapper.optimizer.param_groups:
        for parameter in group['params']:
            name, parameter = names.pop(id(parameter))
            given = group['lr'], group['weight_decay']
            assert given == pytest.approx(expected_group(name, parameter)), name
    assert not names
    flat = {**settings, 'optim_wrapper': {}}
    other = run_training(MODEL, tmp_path / 'flat', **flat).model.state_dict()
    for prefix in ('backbone.layer1', 'decode_head', 'local_heads.0'):
        name = next(n for n in other if n.startswith(prefix) and n.endswith('weight'))
        assert not other[name].equal(early.model.state_dict()[name]), name


def test_a_frozen_module_stays_and_the_others_train_the_same(tmp_path):
    # local_0 (stem, layer1) has nothing to train, and neither has its local head.
    backbone = {**NARROW, 'frozen_stages': 1}
    config = localized(deeplabv3(backbone, WIDTHS), splits=['layer1.1', 'layer3.0'])
    early, late, start = (
        run_training(config, tmp_path / name, hooks=hooks, iterations=iterations)
        for name, hooks, iterations in (
            ('early', [{'type': 'LocalBackwardHook'}], 3),
            ('late', (), 3),
            ('start', (), 0),
        )
    )
    assert_equal(early.model.state_dict(), late.model.state_dict())
    before = start.model.state_dict()
    frozen = ('backbone.stem', 'backbone.layer1', 'local_heads.0')
    for name, value in early.model.state_dict().items():
        if name.startswith(frozen):
            assert value.equal(before[name]), name
    for name in ('backbone.layer2.0.conv1.weight', 'backbone.layer4.1.conv1.weight'):
        assert not early.model.state_dict()[name].equal(before[name]), name

"""Contract: early backward passes train the same weights as one backward of the sum."""

import pytest

from tests.helpers import assert_equal, deeplabv3, localized
from tests.runs import run_training

MODEL = localized(deeplabv3(), num_modules=3)


@pytest.mark.parametrize(
    'optim_wrapper',
    [
        {},
        {'accumulative_counts': 2},
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

"""Contract: predictions agree with a real training step on fake tensors."""

import copy

import pytest
import torch

from infopro_seg.models.recompute.run import resolve_recompute
from infopro_seg.planner.make import Setting
from infopro_seg.planner.profile.chain import profile_chain
from infopro_seg.planner.profile.fake_step import (
    SGD_MOMENTUM,
    fake_tensors,
    optimizer_factors,
    track_step,
)
from infopro_seg.planner.search.costs import Partition, interpolate
from infopro_seg.planner.search.totals import (
    module_peaks,
    optimizer_peak,
    predicted_peak,
    total_flops,
)
from infopro_seg.settings.recompute_mode import RecomputeMode
from tests.helpers import build, gradients
from tests.planner.networks import BATCH, CROP, tiny
from tests.samples import some_of

OPTIMIZERS = {
    'sgd': {'type': 'SGD', 'lr': 0.1},
    'momentum': {'type': 'SGD', 'lr': 0.1, 'momentum': 0.9, 'weight_decay': 0.1},
    'adamw': {'type': 'AdamW', 'lr': 0.1},
}
# 0.1 of the 3% that is promised, so that a wrong term shows even in tiny networks.
RTOL = 0.003


@pytest.fixture(scope='module')
def chains():
    """The tiny network in float32 and bfloat16, measured once."""
    return {
        dtype: profile_chain(tiny(), batch_size=BATCH, crop_size=CROP, amp_dtype=dtype)
        for dtype in (None, torch.bfloat16)
    }


def with_factors(chain, optimizer):
    with fake_tensors():
        factors = optimizer_factors({'type': 'OptimWrapper', 'optimizer': optimizer})
    return chain.with_optimizer(*factors)


def partition_of(chain, splits, recompute):
    names = [unit.name for unit in chain.units]
    ends = (*(names.index(split) + 1 for split in splits), len(names))
    modes = resolve_recompute(recompute, names)
    tail_mode = modes.pop('decode_head', RecomputeMode.NOTHING)
    return Partition(ends, {names.index(n): m for n, m in modes.items()}, tail_mode)


def check(chain, model, splits, recompute, batch=BATCH, crop=CROP, rtol=RTOL, **kwargs):
    """Compare with the tracker: peak of the step and FLOPs."""
    model = copy.deepcopy(model)
    model['local'].update(splits=splits, recompute=recompute)
    step = track_step(model, batch_size=batch, crop_size=crop, **kwargs)
    partition = partition_of(chain, splits, recompute)
    assert predicted_peak(chain, partition) == pytest.approx(step.peak_bytes, rel=rtol)
    assert module_peaks(chain, partition) == pytest.approx(step.module_peaks, rel=rtol)
    assert total_flops(chain, partition) == pytest.approx(step.flops, rel=1e-6)
    return step


SPLITS = [
    [],
    ['layer2.0'],
    # The auxiliary head reads the very map that the local head does.
    ['layer1.0', 'layer2.1'],
    ['stem', 'layer1.1', 'layer2.1', 'layer3.1'],
]
RECOMPUTE = {
    'nothing': [],
    'units': ['layer1.0', 'layer2.1', 'layer3.0'],
    'head': ['layer3.1', 'decode_head'],
    'stepwise': ['all:stepwise', 'decode_head:stepwise'],
    'both': ['all', 'layer1.0:stepwise', 'layer2.1:stepwise', 'layer3.1:stepwise'],
}


@pytest.mark.parametrize('recompute', some_of(RECOMPUTE, 'both'))
@pytest.mark.parametrize('splits', SPLITS, ids=lambda splits: f'K={len(splits) + 1}')
def test_the_peak_of_a_step(chains, splits, recompute):
    chain = with_factors(chains[None], OPTIMIZERS['momentum'])
    check(chain, tiny(), splits, RECOMPUTE[recompute])


@pytest.mark.parametrize('recompute', some_of(['nothing', 'units', 'both'], 'both'))
@pytest.mark.parametrize(
    'splits', SPLITS[::2], ids=lambda splits: f'K={len(splits) + 1}'
)
def test_the_peak_of_a_step_in_mixed_precision(chains, splits, recompute):
    chain = with_factors(chains[torch.bfloat16], OPTIMIZERS['momentum'])
    recompute = RECOMPUTE[recompute]
    check(
        chain, tiny(), splits, recompute, amp_dtype=torch.bfloat16, rtol=0.01
    )  # weight copies of recomputed units, made again in backward


@pytest.mark.parametrize('name', OPTIMIZERS)
def test_the_peak_with_each_optimizer(chains, name):
    chain = with_factors(chains[None], OPTIMIZERS[name])
    wrapper = {'type': 'OptimWrapper', 'optimizer': OPTIMIZERS[name]}
    step = check(chain, tiny(), ['layer2.0'], [], optim_wrapper=wrapper)
    predicted = optimizer_peak(chain, (4,))
    assert predicted == pytest.approx(step.optimizer_peak_bytes, rel=0.02)


def test_optimizer_factors_are_known_ones():
    with fake_tensors():
        factors = {
            name: optimizer_factors({'type': 'OptimWrapper', 'optimizer': optimizer})
            for name, optimizer in OPTIMIZERS.items()
        }
    assert factors['sgd'] == (0, 0)
    # Weight decay makes a new list of gradients.
    assert factors['momentum'] == (1, 1)
    assert factors['adamw'].state == pytest.approx(2, abs=1e-4)


def test_every_module_is_at_most_the_peak(chains):
    partition = partition_of(chains[None], SPLITS[2], [])
    peaks = module_peaks(chains[None], partition)
    assert len(peaks) == 3
    assert max(peaks) <= predicted_peak(chains[None], partition)


@pytest.mark.exhaustive
def test_costs_are_linear_in_the_batch(chains):
    twice, thrice = (
        profile_chain(tiny(), batch_size=n * BATCH, crop_size=CROP) for n in (2, 3)
    )
    line = interpolate(chains[None], twice, 2)
    for splits in SPLITS:
        partition = partition_of(line, splits, [])
        assert predicted_peak(line, partition) == pytest.approx(
            predicted_peak(thrice, partition), rel=0.01
        )
        assert total_flops(line, partition) == pytest.approx(
            total_flops(thrice, partition), rel=1e-3
        )


@pytest.mark.exhaustive
@pytest.mark.exhaustive
def test_one_image_is_measured_although_batch_norm_refuses_it():
    # With SyncBN over several GPUs it can be trained.
    setting = Setting(tiny(), 1, CROP)
    with pytest.raises(ValueError, match='more than 1 value per channel'):
        track_step(tiny(), batch_size=1, crop_size=CROP)
    chain = setting.measured()
    two = Setting(tiny(), 2, CROP).measured()
    assert 0 < chain.start_bytes < two.start_bytes
    whole = partition_of(chain, [], [])
    assert predicted_peak(chain, whole) < predicted_peak(two, whole)


def test_measuring_leaves_everything_as_it_was():
    model = tiny()
    before = copy.deepcopy(model)
    network = build(tiny())
    state = copy.deepcopy(network.state_dict())
    rng = torch.get_rng_state()
    grad_mode = torch.is_grad_enabled()
    profile_chain(model, batch_size=2, crop_size=(32, 32))
    network.eval()
    track_step(network, batch_size=2, crop_size=(32, 32))
    assert model == before
    assert torch.equal(torch.get_rng_state(), rng)
    assert torch.is_grad_enabled() == grad_mode
    assert not any(module.training for module in network.modules())
    assert all(grad is None for grad in gradients(network).values())
    assert network.local_backward is None
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.exhaustive
@pytest.mark.parametrize('head', ['lean', 'paper'])
def test_the_peak_with_each_local_head_and_the_lean_loss(head):
    model = tiny(head=head, lean_loss=True)
    chain = profile_chain(model, batch_size=BATCH, crop_size=CROP)
    chain = with_factors(chain, OPTIMIZERS['momentum'])
    for splits in SPLITS:
        check(chain, model, splits, [])


@pytest.mark.exhaustive
def test_frozen_units_keep_nothing_for_backward(chains):
    model = tiny()
    model['backbone'] = {**model['backbone'], 'frozen_stages': 1}
    frozen = profile_chain(model, batch_size=BATCH, crop_size=CROP)
    frozen = with_factors(frozen, OPTIMIZERS['momentum'])
    check(frozen, model, [], [], rtol=0.03)
    check(frozen, model, ['layer2.0'], [], rtol=0.03)
    whole = partition_of(frozen, [], [])
    trained = with_factors(chains[None], OPTIMIZERS['momentum'])
    assert predicted_peak(frozen, whole) < predicted_peak(trained, whole)


def test_the_wrapper_of_a_config_is_understood():
    amp = {**SGD_MOMENTUM, 'type': 'AmpOptimWrapper', 'loss_scale': 'dynamic'}
    step = track_step(tiny(), batch_size=2, crop_size=(32, 32), optim_wrapper=amp)
    assert step.peak_bytes > step.start_bytes > 0
    assert step.assumed == ('index',)

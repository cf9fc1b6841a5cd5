"""Contract: a map from before a wall needs no gradient, whoever reads it."""

import pytest
import torch

from infopro_seg.planner.profile.chain import profile_chain
from infopro_seg.settings.recompute_mode import RecomputeMode
from tests.planner.networks import BATCH, CROP, tiny
from tests.planner.test_prediction import OPTIMIZERS, check, with_factors
from tests.planner.test_prediction_product import BATCH as SMALL_BATCH
from tests.planner.test_prediction_product import CROP as SMALL_CROP
from tests.planner.test_prediction_product import network
from tests.samples import some_of


def reading_two_maps():
    """A decode head that reads the last map and, by convolution, an early one."""
    model = tiny()
    model['decode_head'].update(
        type='DepthwiseSeparableASPPHead', c1_in_channels=16, c1_channels=12
    )
    return model


@pytest.fixture(scope='module')
def two_maps():
    chain = profile_chain(reading_two_maps(), batch_size=BATCH, crop_size=CROP)
    return with_factors(chain, OPTIMIZERS['momentum'])


# Its gradient was counted wherever the decode head was not alone in its module.
@pytest.mark.parametrize('recompute', [[], ['all', 'decode_head']])
@pytest.mark.parametrize(
    'split', some_of(['layer1.1', 'layer2.1', 'layer3.0', 'layer3.1'], 'layer3.0')
)
def test_a_decode_head_reads_a_map_from_before_the_wall(two_maps, split, recompute):
    check(two_maps, reading_two_maps(), [split], recompute)


def test_each_map_from_before_a_wall_saves_work(two_maps):
    nothing = RecomputeMode.NOTHING
    flops = [two_maps.tail.choose(nothing, n).flops for n in (0, 1, 2)]
    assert flops[0] > flops[1] > flops[2]
    assert two_maps.tail.choose(nothing, None).flops == flops[2]


# STDC's fusion reads three skips through convolutions.
@pytest.mark.exhaustive
@pytest.mark.parametrize('dtype', [None, torch.bfloat16])
def test_a_unit_takes_skips_from_before_the_wall(dtype):
    model, names = network('stdc-context')
    setting = {'batch_size': SMALL_BATCH, 'crop_size': SMALL_CROP, 'amp_dtype': dtype}
    chain = with_factors(profile_chain(model, **setting), OPTIMIZERS['momentum'])
    for split in names[3:-1]:
        check(
            chain,
            model,
            [split],
            [],
            SMALL_BATCH,
            SMALL_CROP,
            rtol=0.003,
            amp_dtype=dtype,
        )

"""Planned pipelines: the balance of brute force, and numbers that fit together."""

import itertools

import pytest

from infopro_seg.planner.make import Setting
from infopro_seg.planner.pipeline import (
    balanced_partition,
    module_costs,
    plan_pipeline,
    stages_of,
)
from infopro_seg.planner.search.costs import Partition
from infopro_seg.planner.search.totals import module_flops, total_flops
from infopro_seg.report.pipeline_text import pipeline_report
from tests.helpers import NARROW, WIDTHS, deeplabv3, localized


@pytest.fixture(scope='module')
def setting():
    config = deeplabv3(NARROW, WIDTHS)
    return Setting(localized(config, splits=[]), batch_size=4, crop_size=(64, 64))


@pytest.fixture(scope='module')
def chain(setting):
    return setting.measured()


@pytest.mark.parametrize('num_stages', [2, 3, 4])
def test_the_slowest_stage_is_as_fast_as_by_brute_force(chain, num_stages):
    num_units = len(chain.units)
    found = balanced_partition(chain, num_stages)
    every = itertools.combinations(range(1, num_units), num_stages - 1)
    slowest = [max(module_flops(chain, Partition((*c, num_units)))) for c in every]
    assert max(module_flops(chain, found)) == min(slowest)
    assert len(found.ends) == num_stages
    assert not found.recompute


def test_module_flops_add_up(chain):
    for ends in itertools.combinations(range(1, len(chain.units)), 2):
        partition = Partition((*ends, len(chain.units)))
        assert sum(module_flops(chain, partition)) == total_flops(chain, partition)


def test_a_budget_brings_recompute_and_then_nothing_fits(chain):
    free = balanced_partition(chain, 2)
    peak = max(stage.peak_bytes for stage in stages_of(chain, free))
    tight = balanced_partition(chain, 2, budget=peak - 1)
    assert max(s.peak_bytes for s in stages_of(chain, tight)) < peak
    assert balanced_partition(chain, 2, budget=1) is None


def test_stages_hold_the_optimizer_state_of_their_own(chain):
    partition = balanced_partition(chain, 2)
    without = chain.with_optimizer(0.0, 0.0)
    both = zip(stages_of(chain, partition), stages_of(without, partition), strict=True)
    heads = chain.heads[partition.ends[0] - 1].parameter_bytes
    added = sum(with_.peak_bytes - plain.peak_bytes for with_, plain in both)
    # Each stage's own, and that of the local head in both.
    factor = chain.optimizer_factor
    assert added == pytest.approx(
        factor * (chain.parameter_bytes + 2 * heads), rel=0.01
    )


def test_more_stages_than_units(chain):
    num = len(chain.units)
    with pytest.raises(ValueError, match=f'--pipeline {num + 1}: .* 2 to {num} stages'):
        balanced_partition(chain, num + 1)


@pytest.mark.exhaustive
def test_the_report_shows_both_ways(setting):
    plan = plan_pipeline(setting, 2)
    text = pipeline_report(plan, 4, link=1e9, speed=1e12)
    assert f'splits: {plan.splits[0]}' in text
    assert 'pipeline of 2' in text
    assert 'data parallel on 2' in text
    assert f"--local pipeline=2 splits='[{plan.splits[0]}]'" in text
    odd = Setting(setting.model, batch_size=3, crop_size=(64, 64))
    assert plan_pipeline(odd, 2).parallel_peak_bytes is None
    costs = module_costs(setting, plan.splits)
    assert costs == tuple(stage.flops for stage in plan.stages)

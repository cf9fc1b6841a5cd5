"""The schedule on paper: against brute force, and against what can be said by hand."""

import itertools

import pytest

from infopro_seg.pipeline.schedule import (
    StageTimes,
    balanced_stages,
    simulate,
    summarize,
)


def times(*values):
    return [StageTimes(*value) for value in values]


def test_equal_stages_without_messages_only_wait_at_the_beginning():
    done = simulate(times((1, 1), (1, 1), (1, 1)), 10)
    # Stage s gets the first batch when s forward passes are done.
    assert [stage[0].start for stage in done] == [0, 1, 2]
    assert [stage[-1].end for stage in done] == [20, 21, 22]
    summary = summarize(times((1, 1), (1, 1), (1, 1)))
    assert summary.speed_up == pytest.approx(3)
    assert summary.idle == pytest.approx((0, 0, 0))


def test_the_slowest_stage_sets_the_pace_and_the_others_wait():
    summary = summarize(times((1, 0), (1, 3), (1, 1)))
    assert summary.seconds == pytest.approx(4)
    assert summary.speed_up == pytest.approx(7 / 4)
    assert summary.idle == pytest.approx((3 / 4, 0, 1 / 2))


@pytest.mark.parametrize('queue', [1, 2, 3])
def test_a_fast_stage_is_never_further_ahead_than_the_queue(queue):
    first, second = simulate(times((1, 0), (5, 0)), 20, queue)
    for work in first:
        taken = sum(other.start <= work.sent for other in second)
        assert work.batch - taken < queue
    assert second[-1].end == 1 + 20 * 5


def test_messages_delay_the_next_stage_and_not_the_sender():
    first, second = simulate(times((1, 1, 0.5), (1, 1)), 6)
    assert first[-1].end == 12
    assert [work.start for work in second] == [1.5 + 2 * i for i in range(6)]


def test_work_never_overlaps_and_never_begins_before_its_input():
    stages = times((0.3, 1.1, 0.2), (2, 0.1, 0.9), (0.5, 0.7, 0.1), (1, 0.2))
    done = simulate(stages, 30, 2)
    for index, stage in enumerate(done):
        for before, after in itertools.pairwise(stage):
            assert before.end == after.free <= after.start
        for work in stage:
            assert work.start <= work.sent <= work.end
            if index:
                earlier = done[index - 1][work.batch]
                assert work.start >= earlier.sent + stages[index - 1].message


@pytest.mark.parametrize('costs', [(3, 1, 4, 1, 5, 9, 2), (1, 1, 1, 1), (7, 0, 0)])
@pytest.mark.parametrize('num_stages', [1, 2, 3])
def test_stages_are_balanced_as_by_brute_force(costs, num_stages):
    def sums(sizes):
        ends = [0, *itertools.accumulate(sizes)]
        return [sum(costs[a:b]) for a, b in itertools.pairwise(ends)]

    sizes = balanced_stages(costs, num_stages)
    every = [
        candidate
        for candidate in itertools.product(range(1, len(costs) + 1), repeat=num_stages)
        if sum(candidate) == len(costs)
    ]
    assert sizes in every
    best = min(every, key=lambda c: (max(sums(c)), sum(x**2 for x in sums(c))))
    assert sums(sizes) == sums(best)


def test_wrong_numbers_are_told():
    with pytest.raises(ValueError, match='4 stages need as many local modules'):
        balanced_stages([1, 2, 3], 4)
    with pytest.raises(ValueError, match='queue=0'):
        simulate(times((1, 1)), 1, 0)

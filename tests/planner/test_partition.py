from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopro_seg.planner.search import frontiers
from infopro_seg.planner.search.costs import (
    Chain,
    HeadCost,
    Pass,
    UnitCost,
    Variants,
)
from infopro_seg.planner.search.decide import cheapest, smallest
from infopro_seg.planner.search.frontiers import choices_of
from infopro_seg.planner.search.totals import (
    extra_flops,
    predicted_peak,
)
from tests.planner.chains import all_partitions, chains

POLICIES = st.sampled_from(['never', 'auto', 'always'])


def equal_the_cheapest(chain, recompute, data):
    partitions = list(all_partitions(chain, recompute))
    peaks = [predicted_peak(chain, p) for p in partitions]
    budget = data.draw(st.integers(min(peaks) - 1, max(peaks)))
    fitting = [
        extra_flops(chain, p)
        for p, peak in zip(partitions, peaks, strict=True)
        if peak <= budget
    ]
    found = cheapest(chain, budget, recompute=recompute)
    assert (found is None) == (not fitting)
    if fitting:
        assert extra_flops(chain, found) == min(fitting)
        assert predicted_peak(chain, found) <= budget


@settings(max_examples=30, deadline=None)
@given(chain=chains(max_units=3), recompute=POLICIES, data=st.data())
def test_a_given_number_of_modules_is_kept(chain, recompute, data):
    num_modules = data.draw(st.integers(1, len(chain.units) + 1))
    partitions = list(all_partitions(chain, recompute, num_modules))
    if not partitions:
        return
    peaks = [predicted_peak(chain, p) for p in partitions]
    budget = data.draw(st.integers(min(peaks) - 1, max(peaks)))
    fitting = [
        extra_flops(chain, p)
        for p, peak in zip(partitions, peaks, strict=True)
        if peak <= budget
    ]
    found = cheapest(chain, budget, num_modules=num_modules, recompute=recompute)
    assert (found is None) == (not fitting)
    if fitting:
        assert len(found.ends) == num_modules
        assert extra_flops(chain, found) == min(fitting)


def equal_the_smallest(chain, recompute, data):
    num_modules = data.draw(st.none() | st.integers(1, len(chain.units) + 1))
    partitions = list(all_partitions(chain, recompute, num_modules))
    if not partitions:
        with pytest.raises(ValueError, match=f'num_modules={num_modules}'):
            smallest(chain, num_modules=num_modules, recompute=recompute)
        return
    found = smallest(chain, num_modules=num_modules, recompute=recompute)
    least = min(predicted_peak(chain, p) for p in partitions)
    assert predicted_peak(chain, found) == least
    assert num_modules in (None, len(found.ends))


def equal_the_choices(chain, recompute, num_modules):
    """Compare the choices with those of brute force that no other beats."""
    every = sorted(
        (extra_flops(chain, p), predicted_peak(chain, p))
        for p in all_partitions(chain, recompute, num_modules)
    )
    best = []
    for flops, peak in every:
        if not best or peak < best[-1][1]:
            best.append((flops, peak))
    found = choices_of(chain, recompute, num_modules, is_exact=False)
    assert [choice[:2] for choice in found] == best
    for flops, peak, partition in found:
        assert extra_flops(chain, partition) == flops
        assert predicted_peak(chain, partition) == peak
        assert num_modules in (None, len(partition.ends))


@settings(max_examples=20, deadline=None)
@given(
    chain=chains(max_units=3, max_state=3, casts=False),
    recompute=POLICIES,
    num_modules=st.sampled_from([None, None, 2, 3]),
)
def test_weights_of_local_heads_count_for_all_modules(chain, recompute, num_modules):
    equal_the_choices(chain, recompute, num_modules)


@settings(max_examples=10, deadline=None)
@given(
    chain=chains(min_units=4, max_units=7, max_state=3, casts=False),
    recompute=st.sampled_from(['never', 'always']),
)
def test_weights_of_many_local_heads(chain, recompute):
    equal_the_choices(chain, recompute, None)


@settings(max_examples=15, deadline=None)
@given(chain=chains(max_units=3, max_state=3), data=st.data())
def test_with_weight_copies_of_local_heads_what_is_found_fits(chain, data):
    partitions = list(all_partitions(chain))
    peaks = [predicted_peak(chain, p) for p in partitions]
    budget = data.draw(st.integers(min(peaks), max(peaks)))
    found = cheapest(chain, budget)
    if found is None:
        # Rare: only the copies that the last module no longer has decide.
        choices = choices_of(chain, 'auto', is_exact=False)
        assert min(choice.peak_bytes for choice in choices) > budget
    else:
        assert predicted_peak(chain, found) <= budget


@settings(max_examples=20, deadline=None)
@given(chain=chains(min_units=3, max_units=4))
def test_where_many_are_thinned_out_the_tightest_stay(chain):
    with mock.patch.object(frontiers, '_MAX_COMPARED', 3):
        choices = choices_of(chain, 'never', is_exact=False)
    peaks = [predicted_peak(chain, p) for p in all_partitions(chain, 'never')]
    assert choices[-1].peak_bytes == min(peaks)
    for flops, peak, partition in choices:
        assert extra_flops(chain, partition) == flops
        assert predicted_peak(chain, partition) == peak


def test_of_equal_work_the_lowest_peak_is_taken():
    nothing, much = (
        Variants(*[(Pass(forward_peak=kept, kept=kept), None, None)] * 2)
        for kept in (0, 9)
    )
    units = tuple(UnitCost(f'unit{i}', much, 0, 0) for i in range(3))
    heads = tuple(HeadCost(Pass(), weights) for weights in (1, 5, 1))
    chain = Chain(units, heads, nothing, start_bytes=20)
    found = cheapest(chain, 100)
    assert extra_flops(chain, found) == 0
    assert predicted_peak(chain, found) == min(
        predicted_peak(chain, p) for p in all_partitions(chain, 'never')
    )


def on_random_chains(body, max_examples, max_units, min_units=1, policies=POLICIES):
    """The body as a test on so many chains."""
    chain = chains(min_units=min_units, max_units=max_units)
    given_chains = given(chain=chain, recompute=policies, data=st.data())
    return settings(max_examples=max_examples, deadline=None)(given_chains(body))


test_the_cheapest_partition_is_that_of_brute_force = on_random_chains(
    equal_the_cheapest, 20, 3
)
test_the_smallest_partition_is_that_of_brute_force = on_random_chains(
    equal_the_smallest, 20, 3
)
test_the_cheapest_of_hundreds = pytest.mark.exhaustive(
    on_random_chains(equal_the_cheapest, 250, 4)
)
test_the_smallest_of_hundreds = pytest.mark.exhaustive(
    on_random_chains(equal_the_smallest, 250, 4)
)

ONE_MODE = st.sampled_from(['never', 'always'])
# More units: all ways to cut them, and for fewer of them all ways to recompute, too.
test_the_cheapest_of_many_units = on_random_chains(
    equal_the_cheapest,
    8,
    8,
    min_units=5,
    policies=ONE_MODE,
)
test_the_smallest_of_many_units = on_random_chains(
    equal_the_smallest,
    8,
    8,
    min_units=5,
    policies=ONE_MODE,
)
test_the_cheapest_of_five_units_in_all_modes = pytest.mark.exhaustive(
    on_random_chains(equal_the_cheapest, 8, 5, min_units=5, policies=st.just('auto'))
)

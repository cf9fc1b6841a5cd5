import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopro_seg.planner.search import partition
from infopro_seg.planner.search.costs import (
    Chain,
    HeadCost,
    Partition,
    Pass,
    UnitCost,
    Variants,
)
from infopro_seg.planner.search.partition import cheapest, smallest
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


@settings(max_examples=15, deadline=None)
@given(chain=chains(max_units=3, max_state=3), data=st.data())
def test_with_weights_in_local_heads_what_is_found_fits(chain, data):
    partitions = list(all_partitions(chain))
    peaks = [predicted_peak(chain, p) for p in partitions]
    budget = data.draw(st.integers(min(peaks), max(peaks)))
    found = cheapest(chain, budget)
    if found is None:
        # Rare: only the room for local heads decides.
        least = smallest(chain, recompute='auto')
        assert predicted_peak(chain, least) > budget
    else:
        assert predicted_peak(chain, found) <= budget


def test_what_leaves_more_memory_free_never_needs_more_in_all(monkeypatch):
    """Tightening looks at modules; weights of other local heads may be larger."""
    nothing = Variants((Pass(), None, None), (Pass(), None, None))
    units = tuple(UnitCost(f'unit{i}', nothing, 0, 0) for i in range(3))
    heads = tuple(HeadCost(Pass(), weights) for weights in (1, 5, 1))
    chain = Chain(units, heads, nothing, start_bytes=20)
    light, heavy = Partition((1, 3)), Partition((2, 3))
    assert extra_flops(chain, light) == extra_flops(chain, heavy)
    assert predicted_peak(chain, light) < predicted_peak(chain, heavy)
    monkeypatch.setattr(partition, 'cheapest_within', lambda *_, **__: heavy)
    assert partition._tightened(chain, light, None, 'auto') == light


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
test_the_cheapest_of_thousands = pytest.mark.exhaustive(
    on_random_chains(equal_the_cheapest, 1000, 4)
)
test_the_smallest_of_thousands = pytest.mark.exhaustive(
    on_random_chains(equal_the_smallest, 1000, 4)
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

"""Exact plans are those of brute force, and need what is predicted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopro_seg.planner.search.exact import exact_choices
from infopro_seg.planner.search.totals import (
    extra_flops,
    module_peaks,
    predicted_peak,
    total_flops,
)
from tests.planner.chains import all_exact_partitions, chains

POLICIES = st.sampled_from(['never', 'auto', 'always'])


def equal_brute_force(chain, recompute, num_modules):
    """Compare the choices with those of brute force that no other beats."""
    every = sorted(
        (extra_flops(chain, p), max(module_peaks(chain, p)))
        for p in all_exact_partitions(chain, recompute, num_modules)
    )
    best = []
    for flops, peak in every:
        if not best or peak < best[-1][1]:
            best.append((flops, peak))
    found = exact_choices(chain, recompute, num_modules)
    assert [choice[:2] for choice in found] == best
    for flops, peak, partition in found:
        assert extra_flops(chain, partition) == flops
        assert max(module_peaks(chain, partition)) == peak
        assert num_modules in (None, len(partition.ends))


def on_random_chains(max_examples, max_units, min_units=1, policies=POLICIES):
    chain = chains(min_units=min_units, max_units=max_units)
    given_chains = given(chain=chain, recompute=policies, num_modules=st.none())
    return settings(max_examples=max_examples, deadline=None)(
        given_chains(equal_brute_force)
    )


test_the_choices_are_those_of_brute_force = on_random_chains(100, 3)
test_the_choices_of_many_units = on_random_chains(
    30, 8, min_units=5, policies=st.sampled_from(['never', 'always'])
)
test_the_choices_of_four_units = pytest.mark.slow(on_random_chains(150, 4))


@settings(max_examples=60, deadline=None)
@given(chain=chains(max_units=4), data=st.data())
def test_a_given_number_of_segments_is_kept(chain, data):
    num_modules = data.draw(st.integers(1, len(chain.units) + 1))
    equal_brute_force(chain, 'never', num_modules)


@settings(max_examples=100, deadline=None)
@given(chain=chains())
def test_one_segment_is_end_to_end_training(chain):
    whole = chain.whole
    alone = type(whole)(whole.ends, is_exact=True)
    assert predicted_peak(chain, alone) == predicted_peak(chain, whole)
    assert total_flops(chain, alone) == total_flops(chain, whole)

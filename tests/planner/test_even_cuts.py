"""Modules that do not decide the peak are alike, too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopro_seg.planner.search.costs import (
    Chain,
    HeadCost,
    Output,
    Partition,
    Pass,
    UnitCost,
    Variants,
)
from infopro_seg.planner.search.decide import even_cuts, most_even, smallest
from infopro_seg.planner.search.frontiers import least_needs
from infopro_seg.planner.search.totals import module_peaks, predicted_peak
from infopro_seg.settings.splits import best_ends
from tests.planner.chains import all_partitions, chains


def unit(name, kept):
    plain = Pass(forward_peak=kept, kept=kept)
    return UnitCost(name, Variants(*[(plain, None, None)] * 2), 0, 0)


def equal_units(tail_bytes, num_units=6):
    """Units of 10 bytes each, cheap local heads, and a tail."""
    tail = Pass(forward_peak=tail_bytes, kept=tail_bytes)
    return Chain(
        units=tuple(unit(f'unit{i}', 10) for i in range(num_units)),
        heads=(HeadCost(Pass(), 0),) * num_units,
        tail=Variants(*[(tail, None, None)] * 2),
        tail_reads=(0,),
        outputs=(Output(num_units - 1, 0, True),),
    )


def test_a_heavy_decode_head_leaves_the_other_modules_even():
    chain = equal_units(tail_bytes=100)
    # The decode head and any unit would be more.
    assert most_even(chain, 4).ends == (2, 4, 6, 6)
    least, even = smallest(chain, num_modules=4), most_even(chain, 4)
    assert predicted_peak(chain, least) == predicted_peak(chain, even) == 100


def test_a_light_decode_head_joins_the_last_module():
    assert most_even(equal_units(tail_bytes=0), 3).ends == (2, 4, 6)


def test_the_decode_head_is_not_left_alone_for_nothing():
    # With one unit it needs 1% more than alone, or 2%.
    assert most_even(equal_units(tail_bytes=990), 3).ends == (2, 5, 6)
    assert most_even(equal_units(tail_bytes=480), 3).ends == (3, 6, 6)


def test_one_module_and_too_many():
    assert most_even(equal_units(tail_bytes=0), 1).ends == (6,)
    with pytest.raises(ValueError, match='num_modules=8 is out of range'):
        most_even(equal_units(tail_bytes=0), 8)


def test_even_cuts_that_cost_memory_are_not_taken():
    # The state of a local head that even cuts need is 4% of the peak.
    chain = equal_units(tail_bytes=100)
    heavy = [HeadCost(Pass(), 4 if i == 3 else 0) for i in range(6)]
    chain = Chain(**{**vars(chain), 'heads': tuple(heavy)})
    even = most_even(chain, 4)
    assert even == smallest(chain, num_modules=4)
    assert predicted_peak(chain, even) == 100


@settings(max_examples=30, deadline=None)
@given(chain=chains(max_units=4), data=st.data())
def test_squares_are_those_of_brute_force(chain, data):
    num_modules = data.draw(st.integers(1, len(chain.units) + 1))
    head_alone = data.draw(st.booleans())
    partitions = [
        p
        for p in all_partitions(chain, 'never', num_modules)
        if head_alone or p.starts[-1] < len(chain.units)
    ]
    if not partitions:
        return
    limit, _ = best_ends(least_needs(chain, 'never'), num_modules, np.maximum)
    squares = [
        sum(peak**2 for peak in module_peaks(chain, p))
        for p in partitions
        if max(module_peaks(chain, p)) <= limit
    ]
    cuts = even_cuts(chain, limit, num_modules, 'never', head_alone=head_alone)
    assert (cuts is None) == (not squares)
    if squares:
        found = Partition((*cuts, len(chain.units)))
        assert sum(p**2 for p in module_peaks(chain, found)) == min(squares)

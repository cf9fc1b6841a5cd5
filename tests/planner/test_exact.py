"""Exact plans are those of brute force, and need what is predicted."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopro_seg.planner.search.costs import (
    Chain,
    HeadCost,
    Output,
    Pass,
    Skip,
    UnitCost,
    Variants,
)
from infopro_seg.planner.search.decide import (
    PREFERENCES,
    Wish,
    decide,
    wants_exact,
)
from infopro_seg.planner.search.frontiers import choices_of
from infopro_seg.planner.search.totals import (
    extra_flops,
    flops_every_nth,
    module_peaks,
    peak_every_nth,
    predicted_peak,
    total_flops,
)
from tests.planner.chains import all_exact_partitions, chains

POLICIES = st.sampled_from(['never', 'auto', 'always'])


def equal_brute_force(chain, recompute, num_modules):
    """Compare the choices with those of brute force that no other beats."""
    every = sorted(
        (extra_flops(chain, p), predicted_peak(chain, p))
        for p in all_exact_partitions(chain, recompute, num_modules)
    )
    best = []
    for flops, peak in every:
        if not best or peak < best[-1][1]:
            best.append((flops, peak))
    found = choices_of(chain, recompute, num_modules, is_exact=True)
    assert [choice[:2] for choice in found] == best
    for flops, peak, partition in found:
        assert extra_flops(chain, partition) == flops
        assert predicted_peak(chain, partition) == peak
        assert num_modules in (None, len(partition.ends))


def on_random_chains(max_examples, max_units, min_units=1, policies=POLICIES):
    chain = chains(min_units=min_units, max_units=max_units)
    given_chains = given(chain=chain, recompute=policies, num_modules=st.none())
    return settings(max_examples=max_examples, deadline=None)(
        given_chains(equal_brute_force)
    )


test_the_choices_are_those_of_brute_force = on_random_chains(25, 3)
test_the_choices_of_many_units = on_random_chains(
    8, 8, min_units=5, policies=st.sampled_from(['never', 'always'])
)
test_the_choices_of_four_units = pytest.mark.exhaustive(on_random_chains(150, 4))


@settings(max_examples=15, deadline=None)
@given(chain=chains(max_units=4), data=st.data())
def test_a_given_number_of_segments_is_kept(chain, data):
    num_modules = data.draw(st.integers(1, len(chain.units) + 1))
    equal_brute_force(chain, 'never', num_modules)


@settings(max_examples=15, deadline=None)
@given(chain=chains())
def test_one_segment_is_end_to_end_training(chain):
    whole = chain.whole
    alone = type(whole)(whole.ends, is_exact=True)
    assert predicted_peak(chain, alone) == predicted_peak(chain, whole)
    assert total_flops(chain, alone) == total_flops(chain, whole)


@settings(max_examples=15, deadline=None)
@given(chain=chains(max_units=4), data=st.data())
def test_the_least_memory_is_that_of_the_better_kind(chain, data):
    least, _ = decide(chain, Wish(recompute='least'), 0)
    exact, local = (
        decide(chain, Wish(recompute='least', exact=is_exact), 0)[0]
        for is_exact in (True, False)
    )
    peaks = [predicted_peak(chain, plan) for plan in (exact, local)]
    assert predicted_peak(chain, least) == min(peaks)
    budget = data.draw(st.integers(min(peaks) - 1, 2 * max(peaks)))
    for prefer in PREFERENCES:
        found, fits = decide(chain, Wish(prefer=prefer), budget)
        assert fits == (predicted_peak(chain, found) <= budget)
        # Weights of local heads make what fits, but not all that would.
        assert fits or predicted_peak(chain, found) == min(peaks)


@settings(max_examples=15, deadline=None)
@given(chain=chains(max_units=4, max_state=3), period=st.integers(2, 5))
def test_every_nth_step_needs_as_much_as_its_kinds_of_steps(chain, period):
    wish = Wish(recompute='never', prefer='memory', period=period)
    plan, _ = decide(chain, wish, None)
    assert peak_every_nth(chain, plan) >= predicted_peak(chain, plan)
    exact = dataclasses.replace(plan, is_exact=True)
    assert peak_every_nth(chain, plan) >= max(module_peaks(chain, exact))
    _, total = flops_every_nth(chain, plan, period)
    heads = sum(chain.heads[cut - 1].step.flops for cut in plan.heads)
    kinds = (period - 1) * total_flops(chain, plan) + total_flops(chain, exact) + heads
    assert total == kinds // period


@settings(max_examples=150, deadline=None)
@given(chain=chains(min_units=3, max_units=5), data=st.data())
def test_every_nth_step_no_other_place_of_one_cut_is_better(chain, data):
    num_modules = data.draw(st.integers(2, 4))
    wish = Wish(num_modules, recompute='never', period=data.draw(st.integers(2, 5)))
    others = [
        dataclasses.replace(plan, is_exact=False)
        for plan in all_exact_partitions(chain, 'never', num_modules)
    ]
    if not others:
        return
    peaks = [peak_every_nth(chain, plan) for plan in others]
    # The least budget is where only the search for least memory finds what fits.
    budgets = st.just(min(peaks)) | st.integers(min(peaks), max(peaks))
    budget = data.draw(budgets)
    plan, fits = decide(chain, wish, budget)
    assert fits == (peak_every_nth(chain, plan) <= budget)

    def rank(plan):
        peak, (_, work) = (
            peak_every_nth(chain, plan),
            flops_every_nth(chain, plan, wish.period),
        )
        return (peak > budget, work) if fits else (True, peak)

    cuts = set(plan.heads)
    for other in others:
        if len(cuts - set(other.heads)) == 1:
            assert rank(plan) <= rank(other)


def chain_with_one_small_cut():
    """Costs where few cuts fit: the search for least memory alone finds them."""
    own = Pass(both_held=6, all_held=6)
    kept = own._replace(kept=6)

    def piece(inner=own, first=own, maps=1):
        between = ((own, None, None),) * (maps - 1)
        return Variants((inner, None, None), (first, None, None), between)

    pieces = [
        piece(),
        piece(first=kept, maps=2),
        piece(),
        piece(maps=2),
        piece(inner=own._replace(backward_peak=4)),
    ]
    chain = Chain(
        units=tuple(
            UnitCost(f'unit{i}', passes, 0, 0, writes_input=i == 4)
            for i, passes in enumerate(pieces)
        ),
        heads=tuple(HeadCost(own._replace(flops=6 * (i == 1)), 0) for i in range(5)),
        tail=piece(),
        tail_reads=(0,),
        outputs=(Output(3, 0, False), Output(4, 0, False)),
        skips=(Skip(0, 1, 0, 0), Skip(2, 3, 0, 0)),
    )
    return dataclasses.replace(
        chain, end_to_end=dataclasses.replace(chain, tail=piece(inner=kept))
    )


def test_every_nth_step_what_alone_fits_is_improved_in_work():
    chain, wish = chain_with_one_small_cut(), Wish(2, recompute='never', period=2)
    exact = choices_of(chain, 'never', 2, is_exact=True)
    assert {choice.partition.ends for choice in exact} == {(1, 5)}
    assert peak_every_nth(chain, chain.cut_after(['unit0'])) > 6
    plan, fits = decide(chain, wish, 6)
    assert fits
    # A cut after unit1 fits, too, but its head needs 6 FLOPs, every other step none.
    assert flops_every_nth(chain, plan, 2)[1] == 0


@pytest.mark.parametrize(
    ('wish', 'is_wanted'),
    [
        (Wish(prefer='accuracy'), True),
        (Wish(prefer='speed'), False),
        (Wish(prefer='accuracy', exact=True), False),
        (Wish(prefer='accuracy', exact=False), False),
        (Wish(prefer='accuracy', recompute='least'), False),
        (Wish(prefer='accuracy', period=4), False),
    ],
)
def test_only_a_preference_stops_at_what_is_exact(wish, is_wanted):
    assert wants_exact(wish) == is_wanted

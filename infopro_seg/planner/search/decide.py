"""What is planned for a budget: exact training, or local modules. Pure numbers."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from ...settings.splits import best_ends
from .costs import Chain, Partition
from .frontiers import (
    ALWAYS,
    AUTO,
    CHOICES,
    LEAST,
    NEVER,
    choices_of,
    least_needs,
    recomputed_within,
)
from .segments import can_run_again
from .totals import (
    extra_flops,
    flops_every_nth,
    peak_every_nth,
    predicted_peak,
    total_flops,
)

ACCURACY, SPEED, MEMORY = 'accuracy', 'speed', 'memory'
PREFERENCES = (ACCURACY, SPEED, MEMORY)
#: What exact training may add to the FLOPs of a step before local modules are
#: preferred: more than a checkpoint of every unit, which adds a third.
MOST_EXACT_WORK = 0.4
# What even modules may cost.
_UNEVEN_PEAK = 1.02
# Single changes that are tried to improve a plan whose steps are of two kinds.
_MAX_CHANGES = 1000


class Wish(NamedTuple):
    """What a plan is to be like.

    Args:
        num_modules: Number of local modules or segments; None leaves it open.
        recompute: ``never``, ``always``, ``auto`` for where it is needed, or ``least``.
        prefer: One of `PREFERENCES`.
        exact: Whether gradients cross the walls; None for either.
        period: Every so many steps, from 2, one is exact and the others are local;
            None for plans whose steps are all alike.
    """

    num_modules: int | None = None
    recompute: str = AUTO
    prefer: str = SPEED
    exact: bool | None = None
    period: int | None = None


def decide(
    chain: Chain, wish: Wish, budget: int | None
) -> tuple[Partition, bool | None]:
    """The partition that is wished for.

    Args:
        chain: Costs.
        wish: What it is to be like.
        budget: Bytes that it may need; None for no limit.

    Returns:
        The partition, and whether it fits; None without a budget. If nothing fits, the
        partition of the least memory.

    Raises:
        ValueError: if the network cannot be cut into so many modules.
    """
    if wish.period is not None:
        return _every_nth(chain, wish, wish.period, budget)
    if budget is None and wish.recompute != LEAST and wish.prefer != MEMORY:
        policy = ALWAYS if wish.recompute == ALWAYS else NEVER
        if wish.exact:
            return _least(chain, wish._replace(recompute=policy)), None
        return most_even(chain, wish.num_modules or 1, policy), None
    if wish.recompute == LEAST or wish.prefer == MEMORY:
        least = _least(chain, wish)
        return least, None if budget is None else predicted_peak(chain, least) <= budget
    found = _fitting(chain, wish, budget or 0)
    return (_least(chain, wish), False) if found is None else (found, True)


def totals_of(chain: Chain, wish: Wish, plan: Partition) -> tuple[int, int, int]:
    """Peak of a plan in bytes, FLOPs that it adds to end-to-end training, all FLOPs."""
    if wish.period is not None and plan.heads:
        flops = flops_every_nth(chain, plan, wish.period)
        return peak_every_nth(chain, plan), *flops
    return (
        predicted_peak(chain, plan),
        extra_flops(chain, plan),
        total_flops(chain, plan),
    )


def cheapest(
    chain: Chain,
    budget: int,
    *,
    num_modules: int | None = None,
    recompute: str = AUTO,
    is_exact: bool = False,
) -> Partition | None:
    """The partition of least extra FLOPs whose training step fits.

    Args:
        chain: Costs.
        budget: Bytes.
        num_modules: Number of modules; None leaves it open.
        recompute: ``never``, ``always``, or ``auto`` for where it is needed.
        is_exact: Whether to cut into segments, or into local modules.

    Returns:
        The partition, or None if none fits. Among equal FLOPs, that of the lowest peak.
    """
    choices = choices_of(chain, recompute, num_modules, is_exact=is_exact)
    fitting = (choice for choice in choices if choice.peak_bytes <= budget)
    return next((choice.partition for choice in fitting), None)


def smallest(
    chain: Chain,
    *,
    num_modules: int | None = None,
    recompute: str = NEVER,
    is_exact: bool = False,
) -> Partition:
    """The partition of the lowest peak; among equal ones, that of least extra FLOPs.

    Args:
        chain: Costs.
        num_modules: Number of modules, from 1; None leaves it open.
        recompute: ``never``, ``always``, or ``auto`` for whatever needs least.
        is_exact: Whether to cut into segments, or into local modules.

    Raises:
        ValueError: if the chain cannot be cut into so many modules.
    """
    choices = choices_of(chain, recompute, num_modules, is_exact=is_exact)
    if choices:
        return choices[-1].partition
    if is_exact:
        raise ValueError(
            f'num_modules={num_modules} is out of range: this network cannot be '
            'cut into so many segments.'
        )
    most = 1 + sum(unit.is_trainable for unit in chain.units)
    raise ValueError(
        f'num_modules={num_modules} is out of range: this network of '
        f'{len(chain.units)} units can be cut into 1 (end-to-end) to '
        f'{most} modules with something to train in each.'
    )


def most_even(chain: Chain, num_modules: int, recompute: str = NEVER) -> Partition:
    """As `smallest`, but modules that do not decide the peak are alike, too.

    Where the decode head is the largest module whatever is cut, `smallest` may leave
    the others as they come, a single unit beside ten. If there is a choice, the decode
    head does not stand alone: units with it learn from the network's own loss.

    Args:
        chain: Costs.
        num_modules: See `smallest`.
        recompute: See `smallest`.

    Returns:
        A partition whose peak is at most 2% above the smallest one.

    Raises:
        ValueError: see `smallest`.
    """
    least = smallest(chain, num_modules=num_modules, recompute=recompute)
    highest = int(_UNEVEN_PEAK * predicted_peak(chain, least))
    peak, _ = best_ends(least_needs(chain, recompute), num_modules, np.maximum)
    for slack, head_alone in ((1, False), (_UNEVEN_PEAK, False), (1, True)):
        limit = int(slack * peak)
        cuts = even_cuts(chain, limit, num_modules, recompute, head_alone=head_alone)
        if cuts is not None:
            found = recomputed_within(chain, limit, cuts, recompute)
            # Local heads, of which `even_cuts` knows little, may be larger.
            if predicted_peak(chain, found) <= highest:
                return found
    return least


def even_cuts(
    chain: Chain, peak: int, num_modules: int, recompute: str, *, head_alone: bool
) -> tuple[int, ...] | None:
    """The cuts whose modules are most alike, none above a peak.

    Where one module (the decode head, often) decides the largest peak, the others are
    free to be anything below it: here the sum of their squared peaks is least.

    Args:
        chain: Costs.
        peak: Bytes, without the state of local heads.
        num_modules: Number of modules.
        recompute: As for `least_needs`.
        head_alone: Whether the last module may be the decode head alone.

    Returns:
        One cut less than modules, as indices of the unit behind; None if all cuts
        need more.
    """
    needs = least_needs(chain, recompute)
    squares = np.where(needs <= peak, (needs / max(peak, 1)) ** 2, np.inf)
    if not head_alone:
        squares[-1] = np.inf
    total, ends = best_ends(squares, num_modules, np.add)
    return ends[:-1] if np.isfinite(total) else None


def _every_nth(
    chain: Chain, wish: Wish, period: int, budget: int | None
) -> tuple[Partition, bool | None]:
    """The plan of least work that fits, or of least memory, of those that are tried.

    Tried are the cuts of exact and of local plans, and from the best one on whatever
    differs in a single cut or unit: what is found fits, but need not be the best.
    """
    is_least = wish.prefer == MEMORY or wish.recompute == LEAST
    if budget is None:
        if not is_least:
            policy = ALWAYS if wish.recompute == ALWAYS else NEVER
            wish = wish._replace(recompute=policy)
        return _least_every_nth(chain, wish), None

    def work(plan: Partition) -> float:
        fits = peak_every_nth(chain, plan) <= budget
        return flops_every_nth(chain, plan, period)[1] if fits else np.inf

    found = None if is_least else min(_repeatable(chain, wish), key=work, default=None)
    if found is None or work(found) == np.inf:
        # The plan of least memory may fit where none of these does.
        found = _least_every_nth(chain, wish)
    fits = work(found) < np.inf
    if fits and not is_least:
        found = _improved(chain, wish, found, work)
    return found, fits


def _least_every_nth(chain: Chain, wish: Wish) -> Partition:
    """The plan of least memory of those that are tried."""
    found = _repeatable(chain, wish)
    if not found:
        raise ValueError(
            f'num_modules={wish.num_modules} is out of range: exact steps cannot run '
            'so many modules again.'
        )

    def peak(plan: Partition) -> int:
        return peak_every_nth(chain, plan)

    return _improved(chain, wish, min(found, key=peak), peak)


def _improved(
    chain: Chain, wish: Wish, plan: Partition, measure: Callable[[Partition], float]
) -> Partition:
    """The plan after single changes, as long as one of them lowers a measure."""
    lowest, changes = measure(plan), _changed(chain, wish, plan)
    for _ in range(_MAX_CHANGES):
        other = next(changes, None)
        if other is None:
            break
        if (value := measure(other)) < lowest:
            plan, lowest = other, value
            changes = _changed(chain, wish, plan)
    return plan


def _changed(chain: Chain, wish: Wish, plan: Partition) -> Iterator[Partition]:
    """Plans that differ in one cut, or in how one unit or the tail is recomputed."""
    needs, num_units = least_needs(chain, wish.recompute), len(chain.units)
    for cut, to in itertools.product(plan.ends[:-1], range(1, num_units + 1)):
        if to in plan.ends[:-1]:
            continue
        cuts = sorted({*plan.ends[:-1], to} - {cut})
        modules = itertools.pairwise((0, *cuts, num_units + 1))
        other = dataclasses.replace(plan, ends=(*cuts, num_units))
        if all(np.isfinite(needs[module]) for module in modules) and can_run_again(
            chain, other
        ):
            yield other
    for i, unit in enumerate(chain.units):
        others = {k: mode for k, mode in plan.recompute.items() if k != i}
        for mode in unit.passes.among(CHOICES[wish.recompute]):
            if mode != plan.mode(i):
                own = {} if mode is RecomputeMode.NOTHING else {i: mode}
                yield dataclasses.replace(plan, recompute={**others, **own})
    for mode in chain.tail.among(CHOICES[wish.recompute]):
        if mode != plan.tail_mode:
            yield dataclasses.replace(plan, tail_mode=mode)


def _repeatable(chain: Chain, wish: Wish) -> list[Partition]:
    """The cuts of exact plans, and of local plans that can be run again."""
    exact, local = (
        [
            choice.partition
            for choice in choices_of(
                chain, wish.recompute, wish.num_modules, is_exact=is_exact
            )
        ]
        for is_exact in (True, False)
    )
    found = [dataclasses.replace(plan, is_exact=False) for plan in exact]
    return [*found, *(plan for plan in local if can_run_again(chain, plan))]


def wants_exact(wish: Wish) -> bool:
    """Whether exact training is preferred, but not demanded."""
    is_open = wish.exact is None and wish.period is None
    return is_open and wish.prefer == ACCURACY and wish.recompute != LEAST


def is_worth(chain: Chain, wish: Wish, budget: int) -> bool:
    """Whether a batch or crop of these costs fits in the way that is preferred.

    Who prefers accuracy wants the largest one that still trains exactly.
    """
    # Local modules need the least memory: most often they answer alone.
    is_local = wish.prefer == SPEED and not wish.exact and wish.period is None
    if is_local and _cheapest(chain, wish, budget, is_exact=False) is not None:
        return True
    found, fits = decide(chain, wish, budget)
    if not wants_exact(wish):
        return bool(fits)
    most = MOST_EXACT_WORK * total_flops(chain, chain.whole)
    return bool(fits) and not found.heads and extra_flops(chain, found) <= most


def least_exact(chain: Chain, most_work: float) -> Partition:
    """The exact plan of the least memory for at most this extra work.

    Args:
        chain: Costs.
        most_work: Extra FLOPs, divided by those of end-to-end training; from 0.
    """
    most = most_work * total_flops(chain, chain.whole)
    choices = choices_of(chain, AUTO, is_exact=True)
    return [choice.partition for choice in choices if choice.flops <= most][-1]


def _fitting(chain: Chain, wish: Wish, budget: int) -> Partition | None:
    """The partition that is preferred among those that fit."""
    if wish.exact is not None:
        return (
            _cheapest(chain, wish, budget, is_exact=True)
            if wish.exact
            else _preferred_local(chain, wish, budget)
        )
    exact = _cheapest(chain, wish, budget, is_exact=True)
    if wish.prefer == ACCURACY:
        most = MOST_EXACT_WORK * total_flops(chain, chain.whole)
        if exact is not None and extra_flops(chain, exact) <= most:
            return exact
        local = _preferred_local(chain, wish, budget)
        return exact if local is None else local
    found = exact, _preferred_local(chain, wish, budget)
    return min(
        (plan for plan in found if plan is not None),
        key=lambda plan: total_flops(chain, plan),
        default=None,
    )


def _preferred_local(chain: Chain, wish: Wish, budget: int) -> Partition | None:
    """The local modules of the least work; for accuracy, as few as fit."""
    found = _cheapest(chain, wish, budget, is_exact=False)
    if found is None or wish.prefer != ACCURACY or wish.num_modules is not None:
        return found
    needs = least_needs(chain, wish.recompute)
    for num_modules in range(2, len(found.ends)):
        if best_ends(needs, num_modules, np.maximum)[0] <= budget:
            few = wish._replace(num_modules=num_modules)
            fewer = _cheapest(chain, few, budget, is_exact=False)
            if fewer is not None:
                return fewer
    return found


def _cheapest(
    chain: Chain, wish: Wish, budget: int, *, is_exact: bool
) -> Partition | None:
    return cheapest(
        chain,
        budget,
        num_modules=wish.num_modules,
        recompute=wish.recompute,
        is_exact=is_exact,
    )


def _least(chain: Chain, wish: Wish) -> Partition:
    """The partition of the least memory."""
    policy = LEAST if wish.recompute == AUTO else wish.recompute
    kinds = [False, True] if wish.exact is None else [wish.exact]
    if wish.exact is None and not choices_of(
        chain, policy, wish.num_modules, is_exact=True
    ):
        kinds = [False]
    plans = [
        smallest(
            chain, num_modules=wish.num_modules, recompute=policy, is_exact=is_exact
        )
        for is_exact in kinds
    ]
    return min(plans, key=lambda plan: predicted_peak(chain, plan))

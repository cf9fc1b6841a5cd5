"""What is planned for a budget: exact training, or local modules. Pure numbers."""

import dataclasses
from typing import NamedTuple

from .costs import Chain, Partition
from .every_nth import (
    cheapest_every_nth,
    flops_every_nth,
    least_every_nth,
    peak_every_nth,
)
from .exact import exact_choices
from .partition import cheapest, most_even, smallest
from .rows import ALWAYS, AUTO, LEAST, NEVER
from .totals import extra_flops, predicted_peak, total_flops

ACCURACY, SPEED, MEMORY = 'accuracy', 'speed', 'memory'
PREFERENCES = (ACCURACY, SPEED, MEMORY)
#: What exact training may add to the FLOPs of a step before local modules are
#: preferred: more than a checkpoint of every unit, which adds a third.
MOST_EXACT_WORK = 0.4


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
            return _least_exact(chain, wish._replace(recompute=policy)), None
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


def _every_nth(
    chain: Chain, wish: Wish, period: int, budget: int | None
) -> tuple[Partition, bool | None]:
    is_least = wish.prefer == MEMORY or wish.recompute == LEAST
    if budget is None and not is_least:
        policy = ALWAYS if wish.recompute == ALWAYS else NEVER
        return _least_every_nth(chain, wish._replace(recompute=policy)), None
    if budget is not None and not is_least:
        found = cheapest_every_nth(
            chain,
            budget,
            period,
            num_modules=wish.num_modules,
            recompute=wish.recompute,
        )
        if found is not None:
            return found, True
    least = _least_every_nth(chain, wish)
    fits = None if budget is None else peak_every_nth(chain, least) <= budget
    return least, fits


def _least_every_nth(chain: Chain, wish: Wish) -> Partition:
    return least_every_nth(
        chain, num_modules=wish.num_modules, recompute=wish.recompute
    )


def wants_exact(wish: Wish) -> bool:
    """Whether exact training is preferred, but not demanded."""
    is_open = wish.exact is None and wish.period is None
    return is_open and wish.prefer == ACCURACY and wish.recompute != LEAST


def is_worth(chain: Chain, wish: Wish, budget: int) -> bool:
    """Whether a batch or crop of these costs fits in the way that is preferred.

    Who prefers accuracy wants the largest one that still trains exactly.
    """
    if wish.prefer == SPEED and not wish.exact and wish.period is None:
        # Local modules need the least memory, and are found sooner.
        local = cheapest(
            chain, budget, num_modules=wish.num_modules, recompute=wish.recompute
        )
        if local is not None:
            return True
    found, fits = decide(chain, wish, budget)
    if not wants_exact(wish):
        return bool(fits)
    most = MOST_EXACT_WORK * total_flops(chain, chain.whole)
    return bool(fits) and not found.heads and extra_flops(chain, found) <= most


def _fitting(chain: Chain, wish: Wish, budget: int) -> Partition | None:
    """The partition that is preferred among those that fit."""
    local = None
    if not wish.exact and wish.prefer == SPEED:
        local = cheapest(
            chain, budget, num_modules=wish.num_modules, recompute=wish.recompute
        )
        if local is not None and not extra_flops(chain, local):
            return local
    exact = None if wish.exact is False else _cheapest_exact(chain, wish, budget)
    if wish.exact:
        return exact
    if wish.prefer == ACCURACY:
        most = MOST_EXACT_WORK * total_flops(chain, chain.whole)
        if exact is not None and extra_flops(chain, exact) <= most:
            return exact
        local = _fewest_modules(chain, wish, budget)
        return exact if local is None else local
    found = [plan for plan in (exact, local) if plan is not None]
    return min(found, key=lambda plan: total_flops(chain, plan), default=None)


def _fewest_modules(chain: Chain, wish: Wish, budget: int) -> Partition | None:
    """The cheapest partition into as few local modules as fit."""
    found = cheapest(
        chain, budget, num_modules=wish.num_modules, recompute=wish.recompute
    )
    if found is None or wish.num_modules is not None:
        return found
    for num_modules in range(2, len(found.ends)):
        fewer = cheapest(
            chain, budget, num_modules=num_modules, recompute=wish.recompute
        )
        if fewer is not None:
            return fewer
    return found


def least_exact(chain: Chain, most_work: float) -> Partition:
    """The exact plan of the least memory for at most this extra work.

    Args:
        chain: Costs.
        most_work: Extra FLOPs, divided by those of end-to-end training; from 0.
    """
    most = most_work * total_flops(chain, chain.whole)
    plans = [_without_walls(choice.partition) for choice in exact_choices(chain, AUTO)]
    affordable = [plan for plan in plans if extra_flops(chain, plan) <= most]
    return min(affordable, key=lambda plan: predicted_peak(chain, plan))


def _cheapest_exact(chain: Chain, wish: Wish, budget: int) -> Partition | None:
    for choice in exact_choices(chain, wish.recompute, wish.num_modules):
        if predicted_peak(chain, choice.partition) <= budget:
            return _without_walls(choice.partition)
    return None


def _least(chain: Chain, wish: Wish) -> Partition:
    """The partition of the least memory."""
    policy = LEAST if wish.recompute == AUTO else wish.recompute
    wish = wish._replace(recompute=policy)
    if wish.exact:
        return _least_exact(chain, wish)
    local = smallest(chain, num_modules=wish.num_modules, recompute=policy)
    if wish.exact is False or not exact_choices(chain, policy, wish.num_modules):
        return local
    both = local, _least_exact(chain, wish)
    return min(both, key=lambda plan: predicted_peak(chain, plan))


def _least_exact(chain: Chain, wish: Wish) -> Partition:
    choices = exact_choices(chain, wish.recompute, wish.num_modules)
    if not choices:
        raise ValueError(
            f'num_modules={wish.num_modules} is out of range: this network cannot be '
            'cut into so many segments.'
        )
    return _without_walls(choices[-1].partition)


def _without_walls(partition: Partition) -> Partition:
    """One segment is end-to-end training."""
    return dataclasses.replace(partition, is_exact=len(partition.ends) > 1)

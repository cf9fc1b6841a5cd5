"""The inverse questions: the largest batch or crop that fits, and what cards can do."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

from ..models.recompute.run import ALL
from ..settings.plan import Plan
from ..settings.recompute_mode import DECODE_HEAD, parsed
from .make import RESERVE_BYTES, Setting, make_plan
from .search.costs import Chain
from .search.partition import cheapest
from .search.rows import AUTO
from .search.scaling import interpolate

#: Memory of common GPUs.
CARDS_GIB = (8, 11, 16, 24, 40, 80)
# Strides of the backbones divide crops of this step.
_CROP_STEP = 32
#: Where searches end.
MAX_BATCH = 2**12
MAX_CROP_STEPS = 2**13 // _CROP_STEP


class Fit(NamedTuple):
    """What a card can do with a setting.

    Args:
        card_gib: Memory of the card.
        end_to_end: Whether end-to-end training fits.
        checkpointing: Whether it fits with all units recomputed.
        num_modules: Of the plan; 0 if nothing fits.
        num_recomputed: Recomputed units of the plan.
        peak_bytes: Of the plan.
        flops_overhead: Of the plan, see `Plan`.
    """

    card_gib: int
    end_to_end: bool
    checkpointing: bool
    num_modules: int = 0
    num_recomputed: int = 0
    peak_bytes: int = 0
    flops_overhead: float = 0.0


def what_fits(setting: Setting, reserve: int, recompute: str = AUTO) -> list[Fit]:
    """For common cards: what fits, and the plan of least extra work.

    Whatever is said to fit has been checked by a step on fake tensors.
    """
    return [_fit(setting, card, reserve, recompute) for card in CARDS_GIB]


def _fit(setting: Setting, card_gib: int, reserve: int, recompute: str) -> Fit:
    card = card_gib * 2**30
    if card <= reserve:
        return Fit(card_gib, False, False)
    plan = make_plan(setting, gpu_memory=card, recompute=recompute, reserve=reserve)
    budget = card - reserve
    fit = Fit(
        card_gib,
        end_to_end=plan.end_to_end_peak_bytes <= budget
        and setting.tracked_peak((), ()) <= budget,
        checkpointing=plan.checkpointing_peak_bytes <= budget
        and setting.tracked_peak((), (ALL,)) <= budget,
    )
    if not plan.fits:
        return fit
    return fit._replace(
        num_modules=len(plan.splits) + 1,
        num_recomputed=sum(parsed(name)[0] != DECODE_HEAD for name in plan.recompute),
        peak_bytes=plan.predicted_peak_bytes,
        flops_overhead=plan.flops_overhead,
    )


def largest_batch(
    setting: Setting,
    gpu_memory: int,
    *,
    num_modules: int | None = None,
    recompute: str = AUTO,
    reserve: int = RESERVE_BYTES,
) -> Plan | None:
    """The plan of the most images a step that fits; None if not even one does."""
    chain_of = chain_by_batch(setting)

    def fits(batch_size: int) -> bool:
        chain = chain_of(batch_size)
        return _fits(chain, gpu_memory - reserve, num_modules, recompute)

    def plan(batch_size: int) -> Plan:
        return make_plan(
            dataclasses.replace(setting, batch_size=batch_size),
            num_modules=num_modules,
            gpu_memory=gpu_memory,
            recompute=recompute,
            reserve=reserve,
        )

    return _holding(last_that(fits, MAX_BATCH), plan)


def largest_crop(
    setting: Setting,
    gpu_memory: int,
    *,
    num_modules: int | None = None,
    recompute: str = AUTO,
    reserve: int = RESERVE_BYTES,
) -> Plan | None:
    """The plan of the largest crop of the same shape that fits, in steps of 32 rows."""
    chain_of = chain_by_rows(setting)

    def fits(step: int) -> bool:
        return _fits(chain_of(step), gpu_memory - reserve, num_modules, recompute)

    def plan(step: int) -> Plan:
        return make_plan(
            dataclasses.replace(setting, crop_size=crop_of(setting, step)),
            num_modules=num_modules,
            gpu_memory=gpu_memory,
            recompute=recompute,
            reserve=reserve,
        )

    return _holding(last_that(fits, MAX_CROP_STEPS), plan)


def chain_by_batch(setting: Setting) -> Callable[[int], Chain]:
    """The costs of a network for any batch size, from two measurements."""
    twice = dataclasses.replace(setting, batch_size=2 * setting.batch_size)
    chains = setting.measured(), twice.measured()
    return lambda batch_size: interpolate(*chains, batch_size / setting.batch_size - 1)


def chain_by_rows(setting: Setting) -> Callable[[int], Chain]:
    """The costs of a network for any crop of `crop_of`, from two measurements."""
    height, width = setting.crop_size
    area = height * width
    larger = crop_of(setting, round(1.5 * height / _CROP_STEP) + 1)
    slope = larger[0] * larger[1] - area
    chains = (
        setting.measured(),
        dataclasses.replace(setting, crop_size=larger).measured(),
    )

    def chain_of(step: int) -> Chain:
        rows, columns = crop_of(setting, step)
        return interpolate(*chains, (rows * columns - area) / slope)

    return chain_of


def crop_of(setting: Setting, step: int) -> tuple[int, int]:
    """The crop of ``step`` times 32 rows, of the shape of the setting's crop."""
    height, width = setting.crop_size
    rows = step * _CROP_STEP
    columns = round(rows * width / height / _CROP_STEP) * _CROP_STEP
    return rows, max(_CROP_STEP, columns)


def last_that(fits: Callable[[int], bool], most: int) -> int:
    """The largest of 1, 2, ... that fits, by bisection; 0 if none does."""
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    return _between(fits, low, min(high, most + 1))


def last_down_from(size: int, holds: Callable[[int], bool]) -> int:
    """The largest of ``size``, ``size`` - 1, ... that holds; 0 if none does.

    Starts at ``size``, a prediction that is hardly ever wrong by much.
    """
    low, high, stride = size, size + 1, 1
    while low > 0 and not holds(low):
        low, high, stride = max(0, low - stride), low, 2 * stride
    return _between(holds, low, high)


def _between(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The last that fits, where ``low`` is known to and ``high`` is known not to."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _fits(chain: Chain, budget: int, num_modules: int | None, recompute: str) -> bool:
    found = cheapest(chain, budget, num_modules=num_modules, recompute=recompute)
    return found is not None


def _holding(size: int, plan: Callable[[int], Plan]) -> Plan | None:
    """Measure at the predicted size, and go down until a plan holds."""
    plans: dict[int, Plan] = {}

    def holds(smaller: int) -> bool:
        plans[smaller] = plan(smaller)
        return bool(plans[smaller].fits)

    return plans.get(last_down_from(size, holds))

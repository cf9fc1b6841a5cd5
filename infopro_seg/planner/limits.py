"""The inverse questions: the largest batch or crop that fits, and what cards can do."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

from ..models.recompute.run import ALL
from ..settings.plan import Plan
from .make import RESERVE_BYTES, Setting, make_plan, wish_for
from .search.costs import Chain
from .search.decide import ACCURACY, MEMORY, SPEED, is_worth
from .search.rows import AUTO
from .search.scaling import interpolate

#: Memory of common GPUs.
CARDS_GIB = (8, 11, 16, 24, 40, 80)
# Strides of the backbones divide crops of this step.
_CROP_STEP = 32
#: Where searches end.
MAX_BATCH = 2**12
# Of the plans whose steps are not all alike, the one that is shown.
_PERIOD = 4
MAX_CROP_STEPS = 2**13 // _CROP_STEP


class Fit(NamedTuple):
    """What a card can do with a setting.

    Args:
        card_gib: Memory of the card.
        end_to_end: Whether end-to-end training fits.
        checkpointing: Whether it fits with all units recomputed.
        exact: The exact plan of the least work; None if none fits.
        local: The plan of the least work with local modules, likewise.
    """

    card_gib: int
    end_to_end: bool
    checkpointing: bool
    exact: Plan | None = None
    local: Plan | None = None


def what_fits(setting: Setting, reserve: int, recompute: str = AUTO) -> list[Fit]:
    """For common cards: what fits, and the plans of least extra work.

    Whatever is said to fit has been checked by a step on fake tensors.
    """
    return [_fit(setting, card, reserve, recompute) for card in CARDS_GIB]


def _fit(setting: Setting, card_gib: int, reserve: int, recompute: str) -> Fit:
    card = card_gib * 2**30
    if card <= reserve:
        return Fit(card_gib, False, False)
    exact, local = (
        make_plan(
            setting,
            gpu_memory=card,
            recompute=recompute,
            reserve=reserve,
            exact=is_exact,
        )
        for is_exact in (True, False)
    )
    budget = card - reserve
    return Fit(
        card_gib,
        end_to_end=exact.end_to_end_peak_bytes <= budget
        and setting.tracked_peak((), ()) <= budget,
        checkpointing=exact.checkpointing_peak_bytes <= budget
        and setting.tracked_peak((), (ALL,)) <= budget,
        exact=exact if exact.fits else None,
        local=local if local.fits else None,
    )


def largest_batch(
    setting: Setting, gpu_memory: int, *, reserve: int = RESERVE_BYTES, **wish: Any
) -> Plan | None:
    """The plan of the most images per step that fits; None if not even one does.

    Args:
        setting: What is to be trained; its batch size is where the search starts.
        gpu_memory: Bytes of the GPU.
        reserve: Bytes of the GPU that the model may not use.
        wish: ``num_modules``, ``recompute``, ``prefer`` and ``exact`` of `make_plan`.
            Who prefers accuracy gets the largest batch that still trains exactly.
    """
    chain_of = chain_by_batch(setting)
    wanted = wish_for(setting, **wish)

    def fits(batch_size: int) -> bool:
        return is_worth(chain_of(batch_size), wanted, gpu_memory - reserve)

    def plan(batch_size: int) -> Plan:
        larger = dataclasses.replace(setting, batch_size=batch_size)
        return make_plan(larger, gpu_memory=gpu_memory, reserve=reserve, **wish)

    found = _holding(last_that(fits, MAX_BATCH), plan)
    if found is None and wanted.prefer == ACCURACY:
        wish['prefer'] = SPEED
        return largest_batch(setting, gpu_memory, reserve=reserve, **wish)
    return found


def largest_crop(
    setting: Setting, gpu_memory: int, *, reserve: int = RESERVE_BYTES, **wish: Any
) -> Plan | None:
    """The plan of the largest crop of the same shape that fits, in steps of 32 rows.

    Args: see `largest_batch`.
    """
    chain_of = chain_by_rows(setting)
    wanted = wish_for(setting, **wish)

    def fits(step: int) -> bool:
        return is_worth(chain_of(step), wanted, gpu_memory - reserve)

    def plan(step: int) -> Plan:
        larger = dataclasses.replace(setting, crop_size=crop_of(setting, step))
        return make_plan(larger, gpu_memory=gpu_memory, reserve=reserve, **wish)

    found = _holding(last_that(fits, MAX_CROP_STEPS), plan)
    if found is None and wanted.prefer == ACCURACY:
        wish['prefer'] = SPEED
        return largest_crop(setting, gpu_memory, reserve=reserve, **wish)
    return found


def along_the_dial(
    setting: Setting, gpu_memory: int, *, reserve: int = RESERVE_BYTES, **wish: Any
) -> dict[str, Plan]:
    """The few plans for a GPU that matter, from exact training to the least memory.

    Args:
        setting: What is to be trained.
        gpu_memory: Bytes of the GPU.
        reserve: Bytes of the GPU that the model may not use.
        wish: ``num_modules`` and ``recompute`` of `make_plan`.

    Returns:
        Plans by what they are; they are predicted, not checked by a step.
    """

    def plan(prefer: str, *, is_exact: bool, period: int | None = None) -> Plan:
        local = {**(setting.model.get('local') or {}), 'end_to_end_every': period}
        model = {**setting.model, 'local': local}
        return make_plan(
            dataclasses.replace(setting, model=model),
            gpu_memory=gpu_memory,
            reserve=reserve,
            prefer=prefer,
            exact=None if period else is_exact,
            verify=False,
            **wish,
        )

    found = {
        'exact end-to-end': plan(SPEED, is_exact=True),
        f'every {_PERIOD}th step exact': plan(SPEED, is_exact=False, period=_PERIOD),
        'fewest local modules': plan(ACCURACY, is_exact=False),
        'least work': plan(SPEED, is_exact=False),
        'least memory': plan(MEMORY, is_exact=False),
    }
    return {
        name: option
        for i, (name, option) in enumerate(found.items())
        if option not in list(found.values())[:i]
    }


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


def _holding(size: int, plan: Callable[[int], Plan]) -> Plan | None:
    """Measure at the predicted size, and go down until a plan holds."""
    plans: dict[int, Plan] = {}

    def holds(smaller: int) -> bool:
        plans[smaller] = plan(smaller)
        return bool(plans[smaller].fits)

    return plans.get(last_down_from(size, holds))

"""The inverse questions: the largest batch or crop that fits, and what cards can do."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from ..models.recompute.run import ALL
from ..settings import LocalSettings, without_cuts, without_end_to_end
from ..settings.heads import LEAN, complete_head, look_ahead_of
from ..settings.plan import Plan
from .make import RESERVE_BYTES, Setting, make_plan, wish_for
from .profile.simulation import SimulationError
from .search.costs import Chain, interpolate
from .search.decide import ACCURACY, MEMORY, SPEED, is_worth, wants_exact
from .search.frontiers import AUTO

#: Memory of common GPUs.
CARDS_GIB = (8, 11, 16, 24, 40, 80)
# Strides of the backbones divide crops of this step.
_CROP_STEP = 32
#: Where searches end.
MAX_BATCH = 2**12
# Of the plans whose steps are not all alike, the one that is shown.
_PERIOD = 4
MAX_CROP_STEPS = 2**13 // _CROP_STEP

Found = TypeVar('Found')


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
            If accuracy is preferred: the largest batch that still trains exactly, if
            there is one.
    """

    def with_batch(batch_size: int) -> Setting:
        return dataclasses.replace(setting, batch_size=batch_size)

    sizes = _Sizes(with_batch, chain_by_batch(setting), MAX_BATCH)
    return _largest(sizes, gpu_memory, reserve, wish)


def largest_crop(
    setting: Setting, gpu_memory: int, *, reserve: int = RESERVE_BYTES, **wish: Any
) -> Plan | None:
    """The plan of the largest crop of the same shape that fits, in steps of 32 rows.

    Args: see `largest_batch`.
    """

    def with_crop(step: int) -> Setting:
        return dataclasses.replace(setting, crop_size=crop_of(setting, step))

    sizes = _Sizes(with_crop, chain_by_rows(setting), MAX_CROP_STEPS)
    return above_refused(
        setting,
        lambda least: _largest(sizes._replace(least=least), gpu_memory, reserve, wish),
    )


def above_refused(setting: Setting, search: Callable[[int], Found]) -> Found:
    """Search crops for the largest that fits, among those that the network takes.

    Args:
        setting: What is to be trained.
        search: Gets the first step of `crop_of` to try.

    Raises:
        SimulationError: if it is not the size for which a crop was refused.
    """
    try:
        return search(1)
    except SimulationError:
        least = smallest_crop_step(setting)
        if least == 1:
            raise
    return search(least)


def smallest_crop_step(setting: Setting) -> int:
    """The step of the smallest crop of `crop_of` that the network takes.

    A pooling window may be larger than the map of a small image.
    """

    def is_refused(step: int) -> bool:
        crop_size = crop_of(setting, step)
        try:
            dataclasses.replace(setting, crop_size=crop_size).measured()
        except SimulationError:
            return True
        return False

    return 1 + _between(is_refused, 0, _measured_step(setting))


class _Sizes(NamedTuple):
    """Sizes: what they set, what they cost, the last and the first one to try."""

    setting: Callable[[int], Setting]
    chain: Callable[[int], Chain]
    most: int
    least: int = 1


def _largest(
    sizes: _Sizes, gpu_memory: int, reserve: int, wish: dict[str, Any]
) -> Plan | None:
    wanted = wish_for(sizes.setting(sizes.least), **wish)

    def fits(size: int) -> bool:
        return is_worth(sizes.chain(size), wanted, gpu_memory - reserve)

    def plan(size: int) -> Plan:
        setting = sizes.setting(size)
        return make_plan(setting, gpu_memory=gpu_memory, reserve=reserve, **wish)

    def holds(found: Plan) -> bool:
        is_local = bool(found.splits) and found.end_to_end_every is None
        return bool(found.fits) and not (is_local and wants_exact(wanted))

    found = _holding(last_that(fits, sizes.most), plan, holds, sizes.least)
    if found is None and wanted.prefer == ACCURACY:
        return _largest(sizes, gpu_memory, reserve, {**wish, 'prefer': SPEED})
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
    _, period = without_end_to_end(setting.model.get('local'))
    if period in (None, 1):
        period = _PERIOD

    def plan(prefer: str, *, is_exact: bool, period: int | None) -> Plan:
        return make_plan(
            _with_local(setting, end_to_end_every=period) if period else setting,
            gpu_memory=gpu_memory,
            reserve=reserve,
            prefer=prefer,
            exact=None if period else is_exact,
            verify=False,
            **wish,
        )

    kinds: dict[str, tuple[str, bool, int | None]] = {
        'exact end-to-end': (SPEED, True, None),
        f'every {period}th step exact': (SPEED, False, period),
        'fewest local modules': (ACCURACY, False, None),
        'least work': (SPEED, False, None),
        'least memory': (MEMORY, False, None),
    }
    found = {}
    for name, (prefer, is_exact, every) in kinds.items():
        # A network may have so many local modules, but not so many segments.
        with contextlib.suppress(ValueError):
            found[name] = plan(prefer, is_exact=is_exact, period=every)
    return {
        name: option
        for i, (name, option) in enumerate(found.items())
        if option not in list(found.values())[:i]
    }


def with_lean_heads(setting: Setting, **wish: Any) -> Plan | None:
    """What local modules would need with the smallest heads, which train differently.

    Args:
        setting: What is to be trained.
        wish: Arguments of `make_plan`.

    Returns:
        A plan, predicted and not checked by a step; None if the heads are lean already.
    """
    head = (setting.model.get('local') or {}).get('head')
    if (complete_head(head), look_ahead_of(head)) == (complete_head(LEAN), 0):
        return None
    lean = _with_local(setting, head=LEAN)
    return make_plan(lean, **wish, exact=False, verify=False)


def has_default_heads(setting: Setting) -> bool:
    """Whether local heads and the weights of their losses are the default ones."""
    local = setting.model.get('local') or {}
    given, default = (
        LocalSettings.parse({'num_modules': 1, **entries})
        for entries in (without_cuts({**local, 'end_to_end_every': None}), {})
    )
    kinds = ('head', 'look_ahead', 'weights')
    return all(getattr(given, kind) == getattr(default, kind) for kind in kinds)


def _with_local(setting: Setting, **changes: Any) -> Setting:
    local = {**(setting.model.get('local') or {}), **changes}
    return dataclasses.replace(setting, model={**setting.model, 'local': local})


def chain_by_batch(setting: Setting) -> Callable[[int], Chain]:
    """The costs of a network for any batch size, from two measurements."""
    twice = dataclasses.replace(setting, batch_size=2 * setting.batch_size)
    chains = setting.measured(), twice.measured()
    return lambda batch_size: interpolate(*chains, batch_size / setting.batch_size - 1)


def chain_by_rows(setting: Setting) -> Callable[[int], Chain]:
    """The costs of a network for any crop of `crop_of`, from two measurements."""
    height, width = setting.crop_size
    area = height * width
    larger = crop_of(setting, _measured_step(setting))
    slope = larger[0] * larger[1] - area
    chains = (
        setting.measured(),
        dataclasses.replace(setting, crop_size=larger).measured(),
    )

    def chain_of(step: int) -> Chain:
        rows, columns = crop_of(setting, step)
        return interpolate(*chains, (rows * columns - area) / slope)

    return chain_of


def _measured_step(setting: Setting) -> int:
    """A crop larger than the setting's, at which the network is measured as well."""
    return round(1.5 * setting.crop_size[0] / _CROP_STEP) + 1


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


def last_down_from(size: int, holds: Callable[[int], bool], least: int = 1) -> int:
    """The largest of ``size``, ``size`` - 1, ..., ``least`` that holds.

    Starts at ``size``, a prediction that is hardly ever wrong by much.

    Returns:
        That size; less than ``least`` if none holds.
    """
    low, high, stride = size, size + 1, 1
    while low >= least and not holds(low):
        low, high, stride = max(least - 1, low - stride), low, 2 * stride
    return _between(holds, low, high)


def _between(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The last that fits, where ``low`` is known to and ``high`` is known not to."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _holding(
    size: int,
    plan: Callable[[int], Plan],
    holds: Callable[[Plan], bool],
    least: int,
) -> Plan | None:
    """Measure at the predicted size, and go down until a plan holds."""
    plans: dict[int, Plan] = {}

    def is_held(smaller: int) -> bool:
        plans[smaller] = plan(smaller)
        return holds(plans[smaller])

    return plans.get(last_down_from(size, is_held, least))

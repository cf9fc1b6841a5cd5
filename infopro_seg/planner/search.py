"""Finds partitions: least extra FLOPs within a limit, or least memory. Pure numbers.

Weights, optimizer state and gradients of local heads are left out here: they depend on
all cuts at once. `partition` sets room for them aside.
"""

from collections.abc import Collection

import numpy as np

from ..settings.recompute_mode import RecomputeMode
from .costs import MODES, Chain, Partition
from .fold import Fold
from .labels import LINK, NO_LINK, WORST, Closed, Kind, Labels, Trunk
from .needs import IMPOSSIBLE, module_needs
from .room import crossing_skips, end_room, start_rooms

NEVER, AUTO, LEAST, ALWAYS = 'never', 'auto', 'least', 'always'
CHOICES = {
    NEVER: (RecomputeMode.NOTHING,),
    AUTO: MODES,
    LEAST: MODES,
    ALWAYS: (RecomputeMode.WHOLE,),
}
_UNLIMITED = 2**62


def cheapest_within(
    chain: Chain,
    limit: int,
    *,
    recompute: str = AUTO,
    num_modules: int | None = None,
    cuts: Collection[int] | None = None,
    most_flops: int = _UNLIMITED,
) -> Partition | None:
    """The partition of least extra FLOPs whose modules stay within a limit.

    Args:
        chain: Costs.
        limit: Bytes that a module may reach, without local heads' state.
        recompute: ``never``, ``always``, or ``auto`` for where it is needed.
        num_modules: Number of modules; None leaves it open.
        cuts: Cut exactly before these units; None leaves it open.
        most_flops: What the extra FLOPs may be.

    Returns:
        The partition; among equal FLOPs, one of low peaks. None if there is none.
    """
    fold = Fold(chain, limit, CHOICES[recompute], most_flops=most_flops)
    must_cut = frozenset(cuts or ())
    may_cut = range(fold.num_units + 1) if cuts is None else must_cut | {0}
    ended, closed = _tails(fold, num_modules, must_cut, may_cut)
    opened: Labels = {}
    trunk: Trunk | None = None
    for a in reversed(range(fold.num_units)):
        if a + 1 in must_cut:
            opened, trunk = {}, None
        if a + 1 < fold.num_units:
            ended = _ended(fold, a + 1, closed, num_modules)
        if chain.units[a].is_trainable:
            trunk = (a, ended, opened)
        closed = fold.close(a, trunk) if a in may_cut else {}
        opened = fold.extend(a, 0, ended, opened, a - 1)
    best = closed.get(num_modules or 0)
    return None if best is None else _partition(fold, best)


def least_peaks(chain: Chain, recompute: str) -> list[tuple[int, tuple[int, ...]]]:
    """The cuts that make the largest module smallest, for every number of modules.

    Args:
        chain: Costs.
        recompute: ``never``, ``always``, or ``auto`` for whatever needs least.

    Returns:
        For K = 1, 2, ...: the peak of the largest module, without local heads' state,
        and the K - 1 cuts, as indices of the unit behind.
    """
    # peak[a]: of the best partition from unit a on, in one, two, ... modules.
    needs, peak = _all_needs(chain, recompute)
    nexts: list[np.ndarray] = []
    result: list[tuple[int, tuple[int, ...]]] = [(int(peak[0]), ())]
    for _ in range(len(chain.units)):
        by_cut = np.maximum(needs, peak)
        nexts.append(by_cut.argmin(axis=1))
        peak = by_cut.min(axis=1)
        if peak[0] == IMPOSSIBLE:
            break
        result.append((int(peak[0]), _followed(nexts)))
    return result


def even_cuts(
    chain: Chain, peak: int, num_modules: int, recompute: str, *, head_alone: bool
) -> tuple[int, ...] | None:
    """The cuts whose modules are most alike, none above a peak.

    Where one module (the decode head, often) decides the largest peak, the others are
    free to be anything below it: here the sum of their squared peaks is least.

    Args:
        chain: Costs.
        peak: As `least_peaks` gives it for this number of modules, or more.
        num_modules: Number of modules.
        recompute: As for `least_peaks`.
        head_alone: Whether the last module may be the decode head alone.

    Returns:
        One cut less than modules, as indices of the unit behind; None if all cuts
        need more.
    """
    needs, last = (
        np.where(needs <= peak, (needs / max(peak, 1)) ** 2, np.inf)
        for needs in _all_needs(chain, recompute)
    )
    if not head_alone:
        last[-1] = np.inf
    nexts: list[np.ndarray] = []
    for _ in range(num_modules - 1):
        by_cut = needs + last
        nexts.append(by_cut.argmin(axis=1))
        last = by_cut.min(axis=1)
    return _followed(nexts) if np.isfinite(last[0]) else None


def _all_needs(chain: Chain, recompute: str) -> tuple[np.ndarray, np.ndarray]:
    """The least peak of every possible module, and of every possible last one."""
    num_units = len(chain.units)
    needs = np.full((num_units + 1, num_units + 1), IMPOSSIBLE, dtype=np.int64)
    needs[:num_units] = module_needs(chain, CHOICES[recompute])
    return needs, _last_needs(chain, recompute)


def _followed(nexts: list[np.ndarray]) -> tuple[int, ...]:
    cuts, a = [], 0
    for cut_after in reversed(nexts):
        a = int(cut_after[a])
        cuts.append(a)
    return tuple(cuts)


def _last_needs(chain: Chain, recompute: str) -> np.ndarray:
    """The least peak of every possible last module, by its first unit."""
    fold = Fold(chain, _UNLIMITED, CHOICES[recompute], counts_flops=False)
    num_units = fold.num_units
    needs = np.full(num_units + 1, IMPOSSIBLE, dtype=np.int64)
    ended, closed = _tails(fold, 1, (), (num_units,))
    needs[num_units] = closed[1][WORST]
    opened: Labels = {}
    trunk: Trunk | None = None
    for a in reversed(range(num_units)):
        if chain.units[a].is_trainable:
            trunk = (a, ended, opened)
        closed = fold.close(a, trunk)
        if closed:
            needs[a] = closed[1][WORST]
        opened, ended = fold.extend(a, 0, ended, opened, a - 1), {}
    return needs


def _tails(
    fold: Fold,
    num_modules: int | None,
    must_cut: Collection[int],
    may_cut: Collection[int],
) -> tuple[Labels, Closed]:
    """Labels of modules that end with the last unit, and of the tail alone."""
    end = fold.num_units
    kind = Kind(0 if num_modules is None else 1, True, end, end)
    ended: Labels = {}
    closed: Closed = {}
    for chain, starts in _last_starts(fold.chain):
        for mode, cost in fold.modes(chain.tail):
            link = fold.decide('tail', end, mode, NO_LINK)
            label = np.array([cost, 0, 0, 0, 0, 0, link], dtype=np.int64)
            if end not in must_cut:
                fold.begin(ended, label, kind, start_rooms(chain, end, mode, starts))
            if end in may_cut and end in starts:
                room = end_room(chain, end, end, mode)
                alone = np.array([[cost, *room[:4], 0, link]], dtype=np.int64)
                fold.offer(closed, end, kind, alone)
    ended.update(_ended(fold, end, closed, num_modules))
    return ended, closed


def _last_starts(chain: Chain) -> list[tuple[Chain, range]]:
    """Where the last module may start, and the costs that count then."""
    num_units = len(chain.units)
    if chain.end_to_end is None:
        return [(chain, range(num_units + 1))]
    return [(chain.end_to_end, range(1)), (chain, range(1, num_units + 1))]


def _ended(fold: Fold, end: int, closed: Closed, num_modules: int | None) -> Labels:
    """Labels of modules that end before a cut."""
    ended: Labels = {}
    for count, label in closed.items():
        if num_modules is None or count < num_modules:
            step = fold.chain.heads[end - 1].step
            label = label.copy()
            label[0] += step.flops
            label[LINK] = fold.decide('cut', end, 0, int(label[LINK]))
            kind = Kind(
                0 if num_modules is None else count + 1,
                False,
                crossing=crossing_skips(fold.chain, end),
            )
            fold.begin(ended, label, kind, start_rooms(fold.chain, end, None))
    return ended


def _partition(fold: Fold, label: np.ndarray) -> Partition:
    cuts, recompute, tail_mode = [], {}, RecomputeMode.NOTHING
    link = int(label[LINK])
    while link != NO_LINK:
        what, (place, mode), link = fold.decisions[link]
        if what == 'cut':
            cuts.append(place)
        elif what == 'unit':
            recompute[place] = RecomputeMode(mode)
        else:
            tail_mode = RecomputeMode(mode)
    return Partition((*cuts, fold.num_units), recompute, tail_mode)

"""Finds partitions: least extra FLOPs within a limit, or least memory. Pure numbers.

The chain is folded from its end to its start, in all ways at once: every unit is put
before what is open, in every mode, and every boundary may be a wall. What one way needs
is a row of numbers. A row that another one of its group beats in every number is
dropped: whatever comes before depends on these numbers alone.

Weights, optimizer state and gradients of local heads are left out here: they depend on
all cuts at once. `partition` sets room for them aside.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from .costs import MODES, Chain, Partition, Skip, Variants, Waiting
from .memory import (
    Effect,
    Room,
    base_bytes,
    carried_skips,
    crossing_skips,
    end_room,
    holds_start,
    module_peak,
    num_carried_skips,
    start_rooms,
    unit_effect,
    unit_step,
    waiting_skips,
)

NEVER, AUTO, LEAST, ALWAYS = 'never', 'auto', 'least', 'always'
CHOICES = {
    NEVER: (RecomputeMode.NOTHING,),
    AUTO: MODES,
    LEAST: MODES,
    ALWAYS: (RecomputeMode.WHOLE,),
}
#: The least peak of a module that cannot be: nothing in it can be trained.
IMPOSSIBLE = np.iinfo(np.int64).max
_UNLIMITED = 2**62

# Columns of a row: the group within which rows are compared; extra FLOPs; the room of
# the open module; the highest peak of the closed ones; the index of the last decision;
# how the unit that was just put before is recomputed.
_GROUP, _COST, _FORWARD, _BACKWARD, _HELD, _AFTER, _WORST, _DECISION, _MODE = range(9)
_ROOM = [_FORWARD, _BACKWARD, _HELD, _AFTER]
_NO_ROWS = np.empty((0, 9), dtype=np.int64)
_NO_DECISION = -1
# Chains of repeated blocks need far fewer; the bound is for adversarial numbers. What
# is thinned out leaves a partition that fits, if not the cheapest.
_MAX_ROWS = 100
# Groups are compared all at once if they are small, and one by one if they have more
# rows than this on average, or in total.
_LARGE_GROUP, _MAX_COMPARED = 25, 1500


class Common(NamedTuple):
    """What rows must have in common to go through the same passes.

    Args:
        is_last: Whether the open module is the last one.
        low: The least unit that the open module may start with.
        high: The greatest one; within, it makes the same maps that heads read.
        waiting: See `Room`.
        crossing: Skips of units still to come that later modules take; none of the
            last module.
    """

    is_last: bool
    low: int = 0
    high: int = 0
    waiting: tuple[Waiting, ...] = ()
    crossing: tuple[Skip, ...] = ()


Open = dict[Common, np.ndarray]
#: A trainable unit, and the rows of modules that end with it and that go on behind it.
Trunk = tuple[int, Open, Open]


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
    search = _Search(chain, limit, CHOICES[recompute], most_flops=most_flops)
    num_units = len(chain.units)
    must_cut = frozenset(cuts or ())
    may_cut = range(num_units + 1) if cuts is None else must_cut | {0}
    # The group of a row is its number of modules, if that is given.
    group = 0 if num_modules is None else 1
    ended: Open = defaultdict(lambda: _NO_ROWS)
    closed = search.end_with_tail(ended, group, is_open=num_units not in must_cut)
    if num_units not in may_cut:
        closed = _NO_ROWS
    opened: Open = {}
    trunk: Trunk | None = None
    for a in reversed(range(num_units)):
        if a + 1 in must_cut:
            ended.clear()
            opened, trunk = {}, None
        if num_modules is not None:
            closed = closed[closed[:, _GROUP] < num_modules]
        search.cut(ended, a + 1, closed, counts=num_modules is not None)
        if chain.units[a].is_trainable:
            trunk = (a, dict(ended), opened)
        closed = search.close(a, trunk) if a in may_cut else _NO_ROWS
        opened = search.put_before(a, 0, ended, opened, a - 1)
        ended.clear()
    best = closed[closed[:, _GROUP] == (num_modules or 0)]
    return search.partition(int(best[0, _DECISION])) if len(best) else None


def least_needs(chain: Chain, recompute: str) -> tuple[np.ndarray, np.ndarray]:
    """The least peak of every possible module, without the state of local heads.

    Args:
        chain: Costs.
        recompute: ``never``, ``always``, or ``auto`` for whatever needs least.

    Returns:
        (n + 1, n + 1) bytes for n units, where [a, b] is the module of units a to
        b - 1 with its local head; and (n + 1,) bytes, where [a] is the last module
        from unit a on.
    """
    choices = CHOICES[recompute]
    key = 'needs', choices
    if key not in chain.memo:
        chain.memo[key] = _least_needs(chain, choices)
    return chain.memo[key]


def _least_needs(
    chain: Chain, choices: Sequence[RecomputeMode]
) -> tuple[np.ndarray, np.ndarray]:
    search = _Search(chain, _UNLIMITED, choices, counts_flops=False)
    num_units = len(chain.units)
    needs = np.full((num_units + 1, num_units + 2), IMPOSSIBLE, dtype=np.int64)
    # The group of a row is where its module ends.
    last = num_units + 1
    ended: Open = defaultdict(lambda: _NO_ROWS)
    needs[num_units, last] = search.end_with_tail(ended, last)[0, _WORST]
    opened: Open = {}
    trunk: Trunk | None = None
    for a in reversed(range(num_units)):
        search.end(ended, a + 1, _row(group=a + 1))
        if chain.units[a].is_trainable:
            trunk = (a, dict(ended), opened)
        closed = search.close(a, trunk)
        needs[a, closed[:, _GROUP]] = closed[:, _WORST]
        opened = search.put_before(a, 0, ended, opened, a - 1)
        ended.clear()
    return needs[:, :last], needs[:, last]


def least_peaks(chain: Chain, recompute: str) -> list[tuple[int, tuple[int, ...]]]:
    """The cuts that make the largest module smallest, for every number of modules.

    Args:
        chain: Costs.
        recompute: As for `least_needs`.

    Returns:
        For K = 1, 2, ...: the peak of the largest module, without local heads' state,
        and the K - 1 cuts, as indices of the unit behind.
    """
    # peak[a]: of the best partition from unit a on, in one, two, ... modules.
    needs, peak = least_needs(chain, recompute)
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
        recompute: As for `least_needs`.
        head_alone: Whether the last module may be the decode head alone.

    Returns:
        One cut less than modules, as indices of the unit behind; None if all cuts
        need more.
    """
    needs, last = (
        np.where(needs <= peak, (needs / max(peak, 1)) ** 2, np.inf)
        for needs in least_needs(chain, recompute)
    )
    if not head_alone:
        last[-1] = np.inf
    nexts: list[np.ndarray] = []
    for _ in range(num_modules - 1):
        by_cut = needs + last
        nexts.append(by_cut.argmin(axis=1))
        last = by_cut.min(axis=1)
    return _followed(nexts) if np.isfinite(last[0]) else None


def _followed(nexts: list[np.ndarray]) -> tuple[int, ...]:
    cuts, a = [], 0
    for cut_after in reversed(nexts):
        a = int(cut_after[a])
        cuts.append(a)
    return tuple(cuts)


class _Search:
    """Folds a chain; position ``a`` is the boundary before unit ``a``.

    Args:
        chain: Costs.
        limit: Bytes that a module may reach.
        choices: How units and tail may be recomputed.
        counts_flops: Whether more room for fewer FLOPs can be better.
        most_flops: Most extra FLOPs of interest.
    """

    def __init__(
        self,
        chain: Chain,
        limit: int,
        choices: Sequence[RecomputeMode],
        *,
        counts_flops: bool = True,
        most_flops: int = _UNLIMITED,
    ):
        self.chain = chain
        self.limit = min(limit, _UNLIMITED)
        self.choices = choices
        self.counts_flops = counts_flops
        self.most_flops = most_flops
        #: Decisions: what, place, mode, index of the decision to the right.
        self.decisions: list[tuple[str, int, int, int]] = []
        self._memo = chain.memo.setdefault(
            ('effects', tuple(choices), counts_flops), {}
        )
        num_units = len(chain.units)
        self.bases = [base_bytes(chain, a, ()) for a in range(num_units + 1)]
        self.least_base = min(base for base, _ in self.bases)
        # A pass may free its input, so that more units may need less room.
        self.freed = [0]
        for i in range(num_units):
            kept = [
                effect.kept - effect.frees_skips
                for start in {0, i, max(0, i - 1)}
                for num_carried in range(num_carried_skips(chain, i, i) + 1)
                for *_, effect in self._effects(i, start, num_carried, False, True)
            ]
            self.freed.append(self.freed[-1] + min(0, *kept))

    def end_with_tail(
        self, ended: Open, group: int, *, is_open: bool = True
    ) -> np.ndarray:
        """Start with the tail: behind the last unit, and alone behind a wall.

        Args:
            ended: The rows of last modules that end with the last unit are added.
            group: Of all rows.
            is_open: Whether there are such modules.

        Returns:
            The best row of the tail alone, if it fits.
        """
        end = len(self.chain.units)
        common = Common(is_last=True)
        alone = [_NO_ROWS]
        for chain, starts in _last_starts(self.chain):
            for mode, cost in self._modes(chain.tail):
                decision = self._decide('tail', end, mode, _NO_DECISION)
                row = _row(group=group, cost=cost, decision=decision)
                if is_open:
                    rooms = start_rooms(chain, end, mode, starts)
                    _begin(ended, row, common, rooms)
                if end in starts:
                    room = end_room(chain, end, end, mode)
                    alone.append(self._closed(end, common, _with_room(row, room)))
        return _best(np.concatenate(alone))

    def end(self, ended: Open, end: int, rows: np.ndarray) -> None:
        """Let modules end before unit ``end``, with a local head."""
        common = Common(is_last=False, crossing=crossing_skips(self.chain, end))
        _begin(ended, rows, common, start_rooms(self.chain, end, None))

    def cut(self, ended: Open, end: int, closed: np.ndarray, *, counts: bool) -> None:
        """Put a wall before unit ``end``, where modules start already.

        Args:
            ended: The rows of modules that end there are added.
            end: The unit.
            closed: The rows of what starts with it.
            counts: Whether groups count modules.
        """
        if not len(closed):
            return
        rows = closed.copy()
        rows[:, _COST] += self.chain.heads[end - 1].step.flops
        rows[:, _GROUP] += counts
        links = rows[:, _DECISION].tolist()
        rows[:, _DECISION] = [self._decide('cut', end, 0, link) for link in links]
        self.end(ended, end, rows)

    def close(self, a: int, trunk: Trunk | None) -> np.ndarray:
        """Let modules start with unit ``a``.

        Args:
            a: The unit.
            trunk: Of the nearest trainable unit from ``a`` on; None if no module can
                start here. Units before it need less in a module that starts here.

        Returns:
            The best row of each group, of those that fit.
        """
        if trunk is None:
            return _NO_ROWS
        first, ended, opened = trunk
        found = self.put_before(first, max(a, first - 1), ended, opened, a)
        for i in reversed(range(a, first)):
            found = self.put_before(i, max(a, i - 1), {}, found, a)
        closed = [
            self._closed(a, common, rows)
            for common, rows in found.items()
            if common.low <= a <= common.high
        ]
        return _best(np.concatenate([_NO_ROWS, *closed]))

    def put_before(
        self, i: int, start: int, ended: Open, opened: Open, low: int
    ) -> Open:
        """Put unit ``i`` before what is folded.

        Args:
            i: The unit.
            start: 0 inside a module, ``i`` at its start, ``i`` - 1 behind frozen units.
            ended: Rows of modules that end with this unit.
            opened: Rows of modules that go on behind it.
            low: The module starts with this unit or an earlier one.

        Returns:
            All rows with the unit, without those that others beat.
        """
        result: dict[Common, list[np.ndarray]] = defaultdict(list)
        limit = self.limit - self.least_base - self.freed[i]
        for group, is_end in ((ended, True), (opened, False)):
            for common, rows in group.items():
                if common.low > low:
                    continue
                for after, new in self._with_unit(i, start, is_end, common, rows):
                    room = np.maximum(new[:, _FORWARD], new[:, _BACKWARD])
                    fits = (room <= limit) & (new[:, _COST] <= self.most_flops)
                    after = after._replace(high=min(common.high, low))
                    result[after].append(new[fits])
        return {
            common: self._noted(i, _undominated(np.concatenate(parts)))
            for common, parts in result.items()
            if any(len(part) for part in parts)
        }

    def partition(self, decision: int) -> Partition:
        """What the decisions say that lead to one."""
        cuts, recompute, tail_mode = [], {}, RecomputeMode.NOTHING
        while decision != _NO_DECISION:
            what, place, mode, decision = self.decisions[decision]
            if what == 'cut':
                cuts.append(place)
            elif what == 'unit':
                recompute[place] = RecomputeMode(mode)
            else:
                tail_mode = RecomputeMode(mode)
        return Partition((*cuts, len(self.chain.units)), recompute, tail_mode)

    def _with_unit(
        self, i: int, start: int, is_end: bool, common: Common, rows: np.ndarray
    ) -> Iterator[tuple[Common, np.ndarray]]:
        """Rows with unit ``i`` before them, for each mode."""
        chain, low = self.chain, common.low
        room = _room_of(rows)._replace(waiting=common.waiting).arrive(i)
        carried = carried_skips(chain, i, low)
        effects = self._effects(
            i,
            start,
            num_carried_skips(chain, i, low),
            is_end,
            common.is_last,
            common.crossing,
        )
        crossing = tuple(skip for skip in common.crossing if skip.unit < i)
        for mode, cost, effect in effects:
            after = room.before(effect.taking(carried))
            after = after.wait(waiting_skips(chain, i, low))
            new = _with_room(rows, after)
            new[:, _COST] += cost
            new[:, _MODE] = mode
            yield common._replace(waiting=after.waiting, crossing=crossing), new

    def _closed(self, a: int, common: Common, rows: np.ndarray) -> np.ndarray:
        """The rows of modules that start with unit ``a`` and fit."""
        is_last = common.is_last
        is_held = holds_start(self.chain, a, is_last=is_last, crossing=common.crossing)
        room = _room_of(rows)
        peak = module_peak(room, self.bases[a], is_last=is_last, is_held=is_held)
        rows = rows.copy()
        rows[:, _WORST] = np.maximum(rows[:, _WORST], peak)
        return rows[peak <= self.limit]

    def _modes(self, passes: Variants) -> Iterator[tuple[RecomputeMode, int]]:
        """How a piece may be recomputed, and the FLOPs that count for it."""
        for mode in self.choices:
            if len(self.choices) == 1 or mode in passes.modes():
                yield mode, passes.recompute_flops(mode) * self.counts_flops

    def _decide(self, what: str, place: int, mode: int, link: int) -> int:
        """Note a decision; returns its index."""
        self.decisions.append((what, place, mode, link))
        return len(self.decisions) - 1

    def _noted(self, i: int, rows: np.ndarray) -> np.ndarray:
        """Note the decision to recompute unit ``i`` in the rows that do."""
        is_new = rows[:, _MODE] > 0
        first = len(self.decisions)
        self.decisions += (
            ('unit', i, mode, link)
            for mode, link in rows[is_new][:, [_MODE, _DECISION]].tolist()
        )
        rows[is_new, _DECISION] = np.arange(first, len(self.decisions))
        return rows

    def _effects(
        self,
        i: int,
        start: int,
        num_carried: int,
        is_end: bool,
        is_last: bool,
        crossing: tuple[Skip, ...] = (),
    ) -> list[tuple[RecomputeMode, int, Effect]]:
        """The effects of a unit at its place, in each mode; see `put_before`."""
        place = i, start, num_carried, is_end, is_last, crossing
        if place not in self._memo:
            end = i + 1 if is_end else len(self.chain.units) + 1
            effects = []
            for mode, extra in self._modes(self.chain.units[i].passes):
                step = unit_step(self.chain, i, start, num_carried, mode=mode)
                effect = unit_effect(
                    self.chain, i, step, end, is_last=is_last, crossing=crossing
                )
                effects.append((mode, extra, effect))
            self._memo[place] = effects
        return self._memo[place]


def _last_starts(chain: Chain) -> list[tuple[Chain, range]]:
    """Where the last module may start, and the costs that count then."""
    num_units = len(chain.units)
    if chain.end_to_end is None:
        return [(chain, range(num_units + 1))]
    return [(chain.end_to_end, range(1)), (chain, range(1, num_units + 1))]


def _row(*, group: int, cost: int = 0, decision: int = _NO_DECISION) -> np.ndarray:
    """One row without room."""
    return np.array([[group, cost, 0, 0, 0, 0, 0, decision, 0]], dtype=np.int64)


def _room_of(rows: np.ndarray) -> Room:
    """The room of all rows, as arrays; nothing waits."""
    forward, backward, held, after = rows[:, _ROOM].T
    return Room(forward, backward, held, after)


def _with_room(rows: np.ndarray, room: Room) -> np.ndarray:
    """The same rows with another room."""
    rows = rows.copy()
    rows[:, _ROOM] = np.stack(np.broadcast_arrays(*room[:4]), axis=-1)
    return rows


def _begin(
    ended: Open,
    rows: np.ndarray,
    common: Common,
    rooms: Iterable[tuple[int, int, Room]],
) -> None:
    """Add the rows of a module that ends here, for every way it may start.

    Args:
        ended: Are added to.
        rows: Cost, worst peak and decisions of what comes later.
        common: Whether it is the last module, and the skips that cross its end.
        rooms: As `start_rooms` gives them.
    """
    for low, high, room in rooms:
        key = common._replace(low=low, high=high, waiting=room.waiting)
        ended[key] = np.concatenate([ended[key], _with_room(rows, room)])


def _best(rows: np.ndarray) -> np.ndarray:
    """The cheapest row of each group; of equal ones, that of the lowest peak."""
    rows = rows[np.lexsort(rows[:, [_WORST, _COST, _GROUP]].T)]
    return rows[np.unique(rows[:, _GROUP], return_index=True)[1]]


def _undominated(rows: np.ndarray) -> np.ndarray:
    """Drop rows that another one of their group beats; sort by group and cost."""
    order = [_WORST, _AFTER, _HELD, _BACKWARD, _FORWARD, _COST, _GROUP]
    rows = rows[np.lexsort(rows[:, order].T)]
    groups = rows[:, _GROUP]
    starts = np.unique(groups, return_index=True)[1]
    most = min(_MAX_COMPARED, _LARGE_GROUP * len(starts))
    if len(starts) > 1 and len(rows) > most:
        return np.concatenate([_undominated(r) for r in np.split(rows, starts[1:])])
    # beats[j, i]: j comes first and needs no more room than i.
    room = rows[:, _ROOM]
    beats = np.all(room[:, None] <= room[None], axis=2)
    beats &= groups[:, None] == groups[None]
    rows = rows[~np.triu(beats, k=1).any(axis=0)]
    if len(rows) <= _MAX_ROWS:
        return rows
    starts = np.unique(rows[:, _GROUP], return_index=True)[1]
    return np.concatenate([_thinned(part) for part in np.split(rows, starts[1:])])


def _thinned(rows: np.ndarray) -> np.ndarray:
    """A sample of the rows of one group, if there are many."""
    if len(rows) <= _MAX_ROWS:
        return rows
    # The tightest ones must stay, or a limit that can be met might be missed.
    tightest = [
        np.maximum(rows[:, _FORWARD], rows[:, _BACKWARD]).argmin(),
        np.maximum(rows[:, _FORWARD], rows[:, _HELD]).argmin(),
        rows[:, _BACKWARD].argmin(),
        rows[:, _HELD].argmin(),
    ]
    kept = np.linspace(0, len(rows) - 1, _MAX_ROWS).round().astype(int)
    return rows[np.union1d(kept, tightest)]

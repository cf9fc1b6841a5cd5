"""Finds exact plans: where segments end and what is recomputed inside. Pure numbers.

First every segment alone: which peaks it can have, and for how much work. Then, from
the end to the start, which segments make a chain: a wall keeps its maps for all that
comes behind it, so what is needed behind a boundary grows with every wall before it.
Both keep all choices that no other beats in work and memory, so one search answers for
every budget.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from .costs import Chain, Partition, Variants
from .memory import Effect, Room, unit_effect
from .rows import CHOICES
from .segments import (
    last_peak,
    last_room,
    put_before,
    repeated_flops,
    segment_effect,
    segment_end,
    segment_peak,
    segment_step,
    wall_bytes,
)

# Rooms kept while a segment is folded. Repeated blocks need far fewer; what is thinned
# out leaves plans that are valid, if not the best.
_MAX_ROOMS = 60
# More choices than this are compared in steps of the memory that they need.
_MAX_COMPARED, _NUM_STEPS = 256, 100
# Columns of the choices inside a segment.
_COST, _LINK = 0, 5
_ROOM = slice(1, 5)
# Columns of the choices behind a boundary: extra FLOPs, what the last segment needs,
# what the others need, the number of segments, the decision.
_LAST, _OTHERS, _COUNT, _DECISION = range(1, 5)
_NONE = -1


class Choice(NamedTuple):
    """An exact plan that no other beats in both work and memory.

    Args:
        flops: Extra FLOPs.
        peak_bytes: Most bytes alive while a segment trains.
        partition: The plan.
    """

    flops: int
    peak_bytes: int
    partition: Partition


def exact_choices(
    chain: Chain, recompute: str, num_modules: int | None = None
) -> list[Choice]:
    """The exact plans that no other beats, the least work first.

    Args:
        chain: Costs.
        recompute: Inside the segments: ``never``, ``always``, or ``auto`` for where it
            helps.
        num_modules: Number of segments; None leaves it open.
    """
    key = 'exact', CHOICES[recompute], num_modules
    if key not in chain.memo:
        chain.memo[key] = _Search(chain.uncut, recompute, num_modules).choices()
    return chain.memo[key]


class _Search:
    """Finds the choices of one chain.

    Args:
        chain: Costs.
        recompute: See `exact_choices`.
        num_modules: See `exact_choices`.
    """

    def __init__(self, chain: Chain, recompute: str, num_modules: int | None):
        self.chain = chain
        self.modes = CHOICES[recompute]
        self.num_modules = num_modules
        #: Decisions inside segments: unit (or the tail behind the last one), mode, and
        #: the decision for what is behind it.
        self.inside: list[tuple[int, int, int]] = []
        #: Segments: end, decision inside, decision behind.
        self.segments: list[tuple[int, int, int]] = []

    def choices(self) -> list[Choice]:
        """Search from the end to the start."""
        num_units = len(self.chain.units)
        inside = {
            end: dict(self._segments_before(end)) for end in range(1, num_units + 1)
        }
        last = dict(self._last_segments())
        behind: dict[int, np.ndarray] = {}
        for start in reversed(range(num_units + 1)):
            if start > 0 and not self._may_start(start):
                continue
            found = [self._ended(last[start])]
            for end in behind:
                found.append(self._joined(start, end, inside[end][start], behind[end]))
            behind[start] = self._best(np.concatenate(found))
        rows = behind[0]
        if self.num_modules is not None:
            rows = rows[rows[:, _COUNT] == self.num_modules]
        return self._improving(rows)

    def _may_start(self, start: int) -> bool:
        """Whether there can be a wall before a unit."""
        if start < len(self.chain.units) and self.chain.units[start].writes_input:
            return False  # its input is needed again
        return start > self.chain.first_trainable

    def _segments_before(self, end: int) -> Iterator[tuple[int, np.ndarray]]:
        """Choices of the segments that end before a unit, by where they start."""
        chain, begun = self.chain, segment_end(self.chain, end)

        def effect(i: int, mode: RecomputeMode) -> Effect:
            return segment_effect(chain, i, segment_step(chain, i, mode), end)

        for start, room, rows in self._folded(
            _row(0, begun, _NONE), begun, end, effect
        ):
            peak = segment_peak(chain, start, end, room)
            yield start, _with_peak(rows, peak, repeated_flops(chain, end, start))

    def _last_segments(self) -> Iterator[tuple[int, np.ndarray]]:
        """Choices of the last segments, likewise."""
        chain, end = self.chain, len(self.chain.units)

        def effect(i: int, mode: RecomputeMode) -> Effect:
            step = segment_step(chain, i, mode)
            return unit_effect(chain, i, step, end, is_last=True)

        parts = []
        for mode in self._modes_of(chain.tail):
            begun = last_room(chain, mode)
            link = self._note(end, mode, _NONE)
            parts.append(_row(chain.tail.recompute_flops(mode), begun, link))
        tails = np.concatenate(parts)
        yield end, _with_peak(tails, last_peak(chain, end, _room_of(tails, begun)), 0)
        for start, room, rows in self._folded(tails, begun, end, effect):
            yield start, _with_peak(rows, last_peak(chain, start, room), 0)

    def _folded(
        self,
        rows: np.ndarray,
        room: Room,
        end: int,
        effect: Callable[[int, RecomputeMode], Effect],
    ) -> Iterator[tuple[int, Room, np.ndarray]]:
        """Put units before what is behind them, one after the other.

        Args:
            rows: Choices behind the last unit.
            room: Tells what waits there.
            end: Index behind the last unit.
            effect: Of a unit, by mode.

        Yields:
            The index of the first unit, the room of all choices, and the choices.
        """
        for i in reversed(range(end)):
            passes, parts = self.chain.units[i].passes, []
            before = _room_of(rows, room)
            for mode in self._modes_of(passes):
                room = put_before(self.chain, before, i, effect(i, mode))
                new = _with_room(rows, room)
                new[:, _COST] += passes.recompute_flops(mode)
                if mode is not RecomputeMode.NOTHING:
                    links = new[:, _LINK].tolist()
                    new[:, _LINK] = [self._note(i, mode, link) for link in links]
                parts.append(new)
            rows = _thinned(_undominated(np.concatenate(parts), _ROOM))
            yield i, _room_of(rows, room), rows

    def _modes_of(self, passes: Variants) -> list[RecomputeMode]:
        if len(self.modes) == 1:
            return list(self.modes)
        return [mode for mode in self.modes if mode in passes.modes()]

    def _note(self, place: int, mode: RecomputeMode, link: int) -> int:
        self.inside.append((place, mode, link))
        return len(self.inside) - 1

    def _ended(self, last: np.ndarray) -> np.ndarray:
        """Choices of the last segment alone."""
        end = len(self.chain.units)
        cost, peak, inside = last.T
        nothing = np.zeros_like(cost)
        decisions = self._segment(end, inside, np.full_like(cost, _NONE))
        return np.stack([cost, peak, nothing, nothing + 1, decisions], axis=1)

    def _joined(
        self, start: int, end: int, inside: np.ndarray, behind: np.ndarray
    ) -> np.ndarray:
        """Choices of a segment with all choices of what is behind it."""
        others_wall, last_wall = wall_bytes(self.chain, start, end)
        i, j = (
            index.ravel() for index in np.indices((len(inside), len(behind)), np.intp)
        )
        cost, peak, decision = inside[i].T
        rows = behind[j]
        rows[:, _COST] += cost
        rows[:, _LAST] += last_wall
        rows[:, _OTHERS] = np.maximum(rows[:, _OTHERS] + others_wall, peak)
        rows[:, _COUNT] += 1
        rows = np.concatenate([rows, decision[:, None], i[:, None]], axis=1)
        rows = self._best(rows)
        rows[:, _DECISION] = self._segment(end, rows[:, 5], rows[:, _DECISION])
        return rows[:, :5]

    def _segment(self, end: int, inside: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """Note segments; returns the indices of the decisions."""
        first = len(self.segments)
        self.segments += (
            (end, *links)
            for links in zip(inside.tolist(), behind.tolist(), strict=True)
        )
        return np.arange(first, len(self.segments))

    def _best(self, rows: np.ndarray) -> np.ndarray:
        """Rows that no other beats, for each number of segments if that is given."""
        if self.num_modules is None:
            return _worthwhile(rows, slice(_LAST, _COUNT))
        parts = [
            _worthwhile(rows[rows[:, _COUNT] == k], slice(_LAST, _COUNT))
            for k in range(1, self.num_modules + 1)
        ]
        return np.concatenate(parts)

    def _improving(self, rows: np.ndarray) -> list[Choice]:
        """The choices among rows, each in less memory than all of less work."""
        peaks = rows[:, _LAST:_COUNT].max(axis=1)
        choices: list[Choice] = []
        for k in np.lexsort((peaks, rows[:, _COST])):
            if not choices or peaks[k] < choices[-1].peak_bytes:
                partition = self._partition(int(rows[k, _DECISION]))
                choices.append(Choice(int(rows[k, _COST]), int(peaks[k]), partition))
        return choices

    def _partition(self, decision: int) -> Partition:
        ends, recompute = [], {}
        while decision != _NONE:
            end, inside, decision = self.segments[decision]
            ends.append(end)
            while inside != _NONE:
                place, mode, inside = self.inside[inside]
                recompute[place] = RecomputeMode(mode)
        tail_mode = recompute.pop(len(self.chain.units), RecomputeMode.NOTHING)
        return Partition(tuple(ends), recompute, tail_mode, is_exact=True)


def _row(cost: int, room: Room, link: int) -> np.ndarray:
    return np.array([[cost, *room[:4], link]], dtype=np.int64)


def _room_of(rows: np.ndarray, room: Room) -> Room:
    """The room of all rows, as arrays; what waits is the same for all."""
    return room._replace(**dict(zip(Room._fields[:4], rows[:, _ROOM].T, strict=True)))


def _with_room(rows: np.ndarray, room: Room) -> np.ndarray:
    rows = rows.copy()
    rows[:, _ROOM] = np.stack(np.broadcast_arrays(*room[:4]), axis=-1)
    return rows


def _with_peak(rows: np.ndarray, peak: np.ndarray, extra: int) -> np.ndarray:
    """FLOPs, peak and decision, of the choices that no other beats in both."""
    found = np.stack([rows[:, _COST] + extra, peak, rows[:, _LINK]], axis=1)
    return _worthwhile(found, slice(1, 2))


def _worthwhile(rows: np.ndarray, columns: slice) -> np.ndarray:
    """Rows that none of no more cost beats in the given columns; sorted by cost."""
    if len(rows) > _MAX_COMPARED:
        rows = _coarse(rows, columns)
    return _undominated(rows, columns)


def _undominated(rows: np.ndarray, columns: slice) -> np.ndarray:
    """Drop rows that one of no more cost beats in all given columns; sort by cost."""
    needs = rows[:, columns]
    order = np.lexsort((*needs.T[::-1], rows[:, _COST]))
    rows, needs = rows[order], needs[order]
    beats = np.all(needs[:, None] <= needs[None], axis=2)
    return rows[~np.triu(beats, k=1).any(axis=0)]


def _coarse(rows: np.ndarray, columns: slice) -> np.ndarray:
    """The cheapest row for every step of the needs, if no lower one is as cheap."""
    needs = rows[:, columns]
    low = needs.min(axis=0)
    step = (needs.max(axis=0) - low) // _NUM_STEPS + 1
    cells = tuple(((needs - low) // step).T)
    order = np.lexsort((needs.sum(axis=1), rows[:, _COST]))[::-1]
    cost = np.full([_NUM_STEPS] * len(cells), np.iinfo(np.int64).max)
    place = np.full(cost.shape, _NONE)
    cells = tuple(cell[order] for cell in cells)
    cost[cells], place[cells] = rows[order, _COST], order
    lowest, is_kept = cost, place != _NONE
    for axis in range(cost.ndim):
        before = np.roll(lowest, 1, axis)
        before[(slice(None),) * axis + (0,)] = np.iinfo(np.int64).max
        is_kept &= cost < np.minimum.accumulate(before, axis)
        lowest = np.minimum.accumulate(lowest, axis)
    return rows[place[is_kept]]


def _thinned(rows: np.ndarray) -> np.ndarray:
    """A sample of the rooms of a segment, if there are many; sorted by cost."""
    if len(rows) <= _MAX_ROOMS:
        return rows
    # The tightest must stay, or a budget that can be met might be missed.
    needs = rows[:, _ROOM]
    tightest = [*needs.argmin(axis=0), needs[:, [0, 2]].max(axis=1).argmin()]
    sample = np.linspace(0, len(rows) - 1, _MAX_ROOMS).round().astype(int)
    return rows[np.union1d(sample, tightest)]

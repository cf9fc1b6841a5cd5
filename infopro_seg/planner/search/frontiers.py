"""Finds the plans that no other beats in both work and memory. Pure numbers.

First every module alone, local or a segment: which peaks it can have, and for how much
work. It is folded from its end to its start, all ways to recompute its units at once.
Then, from the end of the network to its start, which modules follow each other. A wall
adds to the needs of what is behind it (the maps at the wall, the gradients of a local
head) or of all modules (the weights of a local head). Both keep all choices that no
other beats, so one search answers for every budget.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from .costs import MODES, Chain, Partition
from .local_modules import LocalModules, optimizer_peak
from .memory import Modules, Open, Room
from .segments import Segments

NEVER, AUTO, LEAST, ALWAYS = 'never', 'auto', 'least', 'always'
CHOICES = {
    NEVER: (RecomputeMode.NOTHING,),
    AUTO: MODES,
    LEAST: MODES,
    ALWAYS: (RecomputeMode.WHOLE,),
}

# Rooms kept while a module is folded. Repeated blocks need far fewer; what is thinned
# out leaves plans that are valid, if not the best.
_MAX_ROOMS = 100
# Of more sequences of modules than this, one is kept where needs differ by less than a
# part of themselves.
_MAX_COMPARED, _PRECISION = 512, 0.0025
# Columns of the ways to fold a module: extra FLOPs, its room, the last decision, how
# the unit that was just put before is recomputed.
_COST, _LINK, _MODE = 0, 5, 6
_ROOM = slice(1, 5)
# Columns of a module: extra FLOPs, its peak, the last decision.
_PEAK, _INSIDE = 1, 2
# Columns of a sequence of modules up to the last: extra FLOPs, two needs, the number of
# modules, the decision behind the first one, the decision inside of it, its end, and
# the least second need of a sequence that beats it in all else. The first need grows at
# each wall before; so does the second, which is also at least the peak of each module
# before.
_FIRST, _SECOND, _COUNT, _DECISION, _WITHIN, _END, _BEATEN = range(1, 8)
_NEEDS = slice(_FIRST, _COUNT)
_NUM_COLUMNS = 8
_NOTHING = np.empty((0, _NUM_COLUMNS), dtype=np.int64)
_NEVER_BEATEN = 2**62
_NONE = -1


class Choice(NamedTuple):
    """A plan that no other beats in both work and memory.

    Args:
        flops: Extra FLOPs.
        peak_bytes: Most bytes alive in a training step.
        partition: The plan.
    """

    flops: int
    peak_bytes: int
    partition: Partition


def choices_of(
    chain: Chain, recompute: str, num_modules: int | None = None, *, is_exact: bool
) -> list[Choice]:
    """The plans that no other beats, the least work first.

    Args:
        chain: Costs.
        recompute: Inside the modules: ``never``, ``always``, or ``auto`` for where it
            helps.
        num_modules: Number of modules; None leaves it open.
        is_exact: Whether they are segments, or local modules.
    """
    key = 'choices', CHOICES[recompute], is_exact, num_modules
    if key not in chain.memo:
        found = _folded(chain, recompute, is_exact=is_exact)
        chain.memo[key] = _Join(found, num_modules).choices()
    return chain.memo[key]


def least_needs(chain: Chain, recompute: str) -> np.ndarray:
    """The least peak of every possible local module, without the state of heads.

    Args:
        chain: Costs.
        recompute: See `choices_of`.

    Returns:
        (n + 1, n + 2) bytes for n units, where [a, b] is the module of units a to
        b - 1 with its local head, and [a, n + 1] the last module from unit a on;
        infinite where there is no such module.
    """
    num_units = len(chain.units)
    needs = np.full((num_units + 1, num_units + 2), np.inf)
    fold = _folded(chain, recompute, is_exact=False)
    for (start, end), rows in fold.modules.items():
        needs[start, end] = rows[-1, _PEAK]
    return needs


def recomputed_within(
    chain: Chain, limit: int, cuts: Sequence[int], recompute: str
) -> Partition:
    """Local modules between given cuts that recompute what a limit asks for.

    Args:
        chain: Costs.
        limit: Bytes of a module, without the state of heads; from its `least_needs`.
        cuts: Indices of the units behind the cuts.
        recompute: See `choices_of`.
    """
    fold = _folded(chain, recompute, is_exact=False)
    found: dict[int, RecomputeMode] = {}
    for start, end in itertools.pairwise((0, *cuts, fold.num_units + 1)):
        rows = fold.modules[start, end]
        cheapest = rows[(rows[:, _PEAK] <= limit).argmax()]
        found.update(fold.recompute(int(cheapest[_INSIDE])))
    return fold.partition((*cuts, fold.num_units), found)


def _folded(chain: Chain, recompute: str, *, is_exact: bool) -> '_Fold':
    key = 'fold', CHOICES[recompute], is_exact
    if key not in chain.memo:
        chain.memo[key] = _Fold(chain, recompute, is_exact=is_exact)
    return chain.memo[key]


class _Fold:
    """Folds every module of a chain alone.

    Args:
        chain: Costs.
        recompute: See `choices_of`.
        is_exact: See `choices_of`.
    """

    def __init__(self, chain: Chain, recompute: str, *, is_exact: bool):
        self.kind: Modules = Segments(chain.uncut) if is_exact else LocalModules(chain)
        self.chain = self.kind.chain
        self.modes = CHOICES[recompute]
        self.num_units = num_units = len(self.chain.units)
        #: Decisions: unit (or the tail behind the last one), mode, and the decision
        #: for what is behind it.
        self.decisions: list[tuple[int, int, int]] = []
        #: Extra FLOPs, peaks and decisions by start and end; the end of last modules
        #: is the number of units + 1.
        self.modules: dict[tuple[int, int], np.ndarray] = {}
        for end in range(1, num_units + 1):
            for start, rows in self._modules_before(end, is_last=False):
                self.modules[start, end] = rows
        for start, rows in self._modules_before(num_units, is_last=True):
            self.modules[start, num_units + 1] = rows

    def recompute(self, decision: int) -> dict[int, RecomputeMode]:
        """How the units of a module are recomputed, and the tail behind the last."""
        found = {}
        while decision != _NONE:
            place, mode, decision = self.decisions[decision]
            found[place] = RecomputeMode(mode)
        return found

    def partition(
        self, ends: tuple[int, ...], found: dict[int, RecomputeMode]
    ) -> Partition:
        """A partition whose units, and whose tail, are recomputed in these modes."""
        recompute = {i: mode for i, mode in found.items() if i < self.num_units}
        return Partition(
            ends,
            recompute,
            found.get(self.num_units, RecomputeMode.NOTHING),
            is_exact=self.kind.is_exact and len(ends) > 1,
        )

    def _modules_before(
        self, end: int, *, is_last: bool
    ) -> Iterator[tuple[int, np.ndarray]]:
        """The modules that end before a unit, by where they start."""
        for starts in self.kind.starts(end, is_last=is_last):
            opened = Open(starts[0], end, is_last)
            endings = self.kind.endings(starts, opened, self.modes)
            room = endings[0][2]
            rows = np.concatenate(
                [
                    _row(flops, room, self._note(end, mode, _NONE))
                    for mode, flops, room in endings
                ]
            )
            if end in starts:
                yield end, self._closed(end, opened, rows, room)
            trunk = None
            for i in reversed(range(starts[0], end)):
                if self.chain.units[i].is_trainable or not self.kind.differs_at_start:
                    trunk = i, rows, room
                if i in starts and trunk is not None and self.kind.may_start(i):
                    yield i, self._started(i, opened, *trunk)
                if i > starts[0]:
                    rows, room = self._put_before(i, 0, opened, rows, room)
                    rows = self._noted(i, _thinned(rows[_undominated(rows, _ROOM)]))

    def _started(
        self, start: int, opened: Open, first: int, rows: np.ndarray, room: Room
    ) -> np.ndarray:
        """A module that starts with a unit.

        Args:
            start: The unit.
            opened: The module.
            first: Its first trainable unit.
            rows: Ways to fold what is behind that.
            room: Tells what waits there.
        """
        for i in reversed(range(start, first + 1)):
            rows, room = self._put_before(i, start, opened, rows, room)
            if i > start:
                rows = self._noted(i, _thinned(rows[_undominated(rows, _ROOM)]))
        return self._closed(start, opened, rows, room)

    def _closed(
        self, start: int, opened: Open, rows: np.ndarray, room: Room
    ) -> np.ndarray:
        """Extra FLOPs, peak and decision, of what no other beats in both."""
        peak = self.kind.peak(start, opened, _room_of(rows, room))
        order = np.lexsort((peak, rows[:, _COST]))
        lowest = np.minimum.accumulate(peak[order])
        order = order[np.append(True, lowest[1:] < lowest[:-1])]
        rows, peak = self._noted(start, rows[order]), peak[order]
        extra = self.kind.flops(start, opened)
        return np.stack([rows[:, _COST] + extra, peak, rows[:, _LINK]], axis=1)

    def _put_before(
        self, i: int, start: int, opened: Open, rows: np.ndarray, room: Room
    ) -> tuple[np.ndarray, Room]:
        """Put a unit before what is folded, in every mode; and what waits then."""
        passes, parts = self.chain.units[i].passes, []
        before = _room_of(rows, room)
        for mode in passes.among(self.modes):
            room = self.kind.put_before(before, i, mode, opened, start)
            new = _with_room(rows, room)
            new[:, _COST] += passes.recompute_flops(mode)
            new[:, _MODE] = mode
            parts.append(new)
        return np.concatenate(parts), room

    def _noted(self, i: int, rows: np.ndarray) -> np.ndarray:
        """Note how a unit is recomputed in the ways that do so."""
        is_new = rows[:, _MODE] > 0
        if not is_new.any():
            return rows
        first = len(self.decisions)
        self.decisions += (
            (i, mode, link) for link, mode in rows[is_new][:, [_LINK, _MODE]].tolist()
        )
        rows[is_new, _LINK] = np.arange(first, len(self.decisions))
        rows[:, _MODE] = 0
        return rows

    def _note(self, place: int, mode: int, link: int) -> int:
        if not mode:
            return link
        self.decisions.append((place, mode, link))
        return len(self.decisions) - 1


class _Join:
    """Joins the modules of a network, from its end to its start.

    Args:
        fold: The modules.
        num_modules: See `choices_of`.
    """

    def __init__(self, fold: _Fold, num_modules: int | None):
        self.fold = fold
        self.num_modules = num_modules
        #: Modules: end, decision inside, decision behind.
        self.decisions: list[tuple[int, int, int]] = []

    def choices(self) -> list[Choice]:
        """Each in less memory than all of less work."""
        last = self.fold.num_units + 1
        behind: dict[int, np.ndarray] = {}
        for start in reversed(range(last)):
            parts = []
            if (start, last) in self.fold.modules:
                parts.append(self._ended(self.fold.modules[start, last]))
            for end in range(start + 1, last):
                if end in behind and (start, end) in self.fold.modules:
                    parts.append(self._joined(start, end, behind[end]))
            rows = np.concatenate([_NOTHING, *parts])
            rows[:, _NEEDS] = self.fold.kind.levelled(start, rows[:, _NEEDS])
            rows = self._best(rows)
            if len(rows):
                behind[start] = self._noted(rows)
        return self._improving(behind[0]) if 0 in behind else []

    def _ended(self, modules: np.ndarray) -> np.ndarray:
        """Sequences of the last module alone."""
        rows = np.zeros((len(modules), _NUM_COLUMNS), dtype=np.int64)
        rows[:, _COUNT] = 1
        rows[:, _COST], peaks, rows[:, _WITHIN] = modules.T
        rows[:, _FIRST], rows[:, _SECOND] = self.fold.kind.needs_of_last(peaks)
        rows[:, _END], rows[:, _DECISION] = self.fold.num_units, _NONE
        return rows

    def _joined(self, start: int, end: int, behind: np.ndarray) -> np.ndarray:
        """Sequences that start with a module."""
        modules = self.fold.modules[start, end]
        walls = self.fold.kind.wall(start, end)
        needs, beaten = behind[:, [_SECOND, _BEATEN]].T + walls[1]
        # Of modules that need no more than what is behind, the cheapest; of sequences
        # behind that need less than the module, those that no other of them beats.
        peaks = modules[:, _PEAK, None]
        fits = peaks <= needs
        is_wanted: np.ndarray = ~fits & (peaks < beaten)
        is_wanted[0] |= fits[0]
        is_wanted[1:] |= fits[1:] & ~fits[:-1]
        i, j = np.nonzero(is_wanted)
        rows = behind[j]
        rows[:, _COST] += modules[i, _COST]
        rows[:, _FIRST] += walls[0]
        rows[:, _SECOND] = np.maximum(needs[j], modules[i, _PEAK])
        rows[:, _COUNT] += 1
        rows[:, _WITHIN], rows[:, _END] = modules[i, _INSIDE], end
        return rows

    def _noted(self, rows: np.ndarray) -> np.ndarray:
        """Note the first modules of sequences."""
        first = len(self.decisions)
        self.decisions += map(tuple, rows[:, [_END, _WITHIN, _DECISION]].tolist())
        rows[:, _DECISION] = np.arange(first, len(self.decisions))
        beats: np.ndarray = rows[:, None, _COST] <= rows[:, _COST]
        beats &= rows[:, None, _FIRST] <= rows[:, _FIRST]
        if self.num_modules is not None:
            beats &= rows[:, None, _COUNT] == rows[:, _COUNT]
        np.fill_diagonal(beats, False)
        needs = np.where(beats, rows[:, None, _SECOND], _NEVER_BEATEN)
        rows[:, _BEATEN] = needs.min(axis=0)
        return rows

    def _best(self, rows: np.ndarray) -> np.ndarray:
        """Sequences that no other beats; of each number of modules, if it is given."""
        peaks = self.fold.kind.highest(rows[:, _FIRST], rows[:, _SECOND])
        if self.num_modules is None:
            return _worthwhile(rows, peaks)
        parts = [rows[:0]]
        for k in range(1, self.num_modules + 1):
            is_k = rows[:, _COUNT] == k
            parts.append(_worthwhile(rows[is_k], peaks[is_k]))
        return np.concatenate(parts)

    def _improving(self, rows: np.ndarray) -> list[Choice]:
        """The choices among rows, each in less memory than all of less work."""
        if self.num_modules is not None:
            rows = rows[rows[:, _COUNT] == self.num_modules]
        peaks = self.fold.kind.highest(rows[:, _FIRST], rows[:, _SECOND])
        partitions = [self._partition(link) for link in rows[:, _DECISION].tolist()]
        at_step = [optimizer_peak(self.fold.chain, p.heads) for p in partitions]
        peaks = np.maximum(peaks, at_step)
        choices: list[Choice] = []
        for k in np.lexsort((rows[:, _COUNT], peaks, rows[:, _COST])):
            if not choices or peaks[k] < choices[-1].peak_bytes:
                found = Choice(int(rows[k, _COST]), int(peaks[k]), partitions[k])
                choices.append(found)
        return choices

    def _partition(self, decision: int) -> Partition:
        ends, found = [], {}
        while decision != _NONE:
            end, inside, decision = self.decisions[decision]
            ends.append(end)
            found.update(self.fold.recompute(inside))
        return self.fold.partition(tuple(ends), found)


def _row(cost: int, room: Room, link: int) -> np.ndarray:
    return np.array([[cost, *room[:4], link, 0]], dtype=np.int64)


def _room_of(rows: np.ndarray, room: Room) -> Room:
    """The room of all rows, as arrays; what waits is the same for all."""
    forward, backward, held, after = rows[:, _ROOM].T
    return Room(forward, backward, held, after, room.waiting)


def _with_room(rows: np.ndarray, room: Room) -> np.ndarray:
    rows = rows.copy()
    for column, need in enumerate(room[:4], _ROOM.start):
        rows[:, column] = need
    return rows


def _undominated(rows: np.ndarray, columns: slice) -> np.ndarray:
    """Indices of the rows that none of no more cost beats in all given columns.

    They are in order of the cost.
    """
    order = np.lexsort((*rows[:, columns].T[::-1], rows[:, _COST]))
    if len(rows) < 2:
        return order
    needs = rows[order, columns].T
    beats = needs[0][:, None] <= needs[0]
    for need in needs[1:]:
        beats &= need[:, None] <= need
    return order[~np.triu(beats, k=1).any(axis=0)]


def _worthwhile(rows: np.ndarray, peaks: np.ndarray) -> np.ndarray:
    """Sequences that none of no more cost beats in both needs; sorted by cost.

    Args:
        rows: The sequences.
        peaks: The highest peak of each.
    """
    precision = _PRECISION
    is_many = len(rows) > _MAX_COMPARED
    while len(rows) > _MAX_COMPARED:
        # The cheapest of each cell. Cells are the same at all walls, so what is lost
        # does not add up.
        levels = np.log(np.maximum(peaks, 1)) // np.log1p(precision)
        steps = np.maximum(precision * np.exp(levels * np.log1p(precision)), 1)
        cells = rows[:, _NEEDS] // steps[:, None]
        order = np.lexsort((peaks, rows[:, _COST], *cells.T, levels))
        keys = np.column_stack([levels, cells])[order]
        is_kept = np.r_[True, (keys[1:] != keys[:-1]).any(axis=1)]
        # The tightest must stay, or a budget that can be met might be missed.
        is_kept[peaks[order].argmin()] = True
        rows, peaks = rows[order[is_kept]], peaks[order[is_kept]]
        kept = _undominated(rows, _NEEDS)
        rows, peaks = rows[kept], peaks[kept]
        precision *= 2
    return rows if is_many else rows[_undominated(rows, _NEEDS)]


def _thinned(rows: np.ndarray) -> np.ndarray:
    """A sample of the rooms of a module, if there are many; sorted by cost."""
    if len(rows) <= _MAX_ROOMS:
        return rows
    # The tightest must stay, or a budget that can be met might be missed.
    needs = rows[:, _ROOM]
    tightest = [
        *needs.argmin(axis=0),
        needs[:, [0, 1]].max(axis=1).argmin(),
        needs[:, [0, 2]].max(axis=1).argmin(),
    ]
    sample = np.linspace(0, len(rows) - 1, _MAX_ROOMS).round().astype(int)
    return rows[np.union1d(sample, tightest)]

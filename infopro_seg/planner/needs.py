"""The least memory of every possible local module. Pure numbers."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from ..settings.recompute_mode import RecomputeMode
from .costs import Chain, Waiting
from .peaks import base_bytes
from .room import (
    Effect,
    carried_skips,
    crossing_skips,
    holds_start,
    num_carried_skips,
    start_rooms,
    unit_effect,
    unit_step,
    waiting_skips,
)

#: The need of a module that cannot be, for want of something to train.
IMPOSSIBLE = np.iinfo(np.int64).max


def module_needs(chain: Chain, choices: Sequence[RecomputeMode]) -> np.ndarray:
    """The least peak of every possible module with a local head, without its state.

    Args:
        chain: Costs.
        choices: How units may be recomputed; each takes what needs least.

    Returns:
        (n, n + 1) bytes for n units; entry [a, b] is that of units a to b - 1.
    """
    num_units = len(chain.units)
    needs = np.full((num_units, num_units + 1), IMPOSSIBLE, dtype=np.int64)
    lanes = _Lanes.of(chain)
    trunk: tuple[int, _Lanes] | None = None
    for a in reversed(range(num_units)):
        if chain.units[a].is_trainable:
            trunk = (a, lanes)
        if trunk is not None:
            # Up to its first trainable unit, a module that starts here needs less.
            first, closing = trunk
            for i in reversed(range(a, first + 1)):
                closing = closing.extended(chain, i, max(a, i - 1), choices)
            closing.note(needs, chain, a, first)
        lanes = lanes.extended(chain, a, 0, choices)
    return needs


@dataclasses.dataclass(frozen=True)
class _Lanes:
    """All modules at once, each folded from its own end; arrays of equal length.

    Arrays of two rows hold what is best if the map that flows in is freed early, and
    what is best if it stays alive (see `Room`): which of them counts is known only
    when the unit before is put there.

    Args:
        end: Index behind the module's last unit.
        low: Least unit it may start with.
        high: Greatest one.
        room: Most bytes, forward and backward; two rows.
        after: See `Room`; two rows.
        waiting: All gradients that will wait in the module, see `Room`.
    """

    end: np.ndarray
    low: np.ndarray
    high: np.ndarray
    room: np.ndarray
    after: np.ndarray
    waiting: tuple[tuple[Waiting, ...], ...]

    @classmethod
    def of(cls, chain: Chain) -> '_Lanes':
        rows, waiting = [], []
        for end in range(1, len(chain.units) + 1):
            for low, high, room in start_rooms(chain, end, None):
                freed = max(room.forward, room.backward)
                held = max(room.forward, room.held)
                rows.append((end, low, high, freed, held, room.after))
                inside = range(end)
                skips = [s for i in inside for s in waiting_skips(chain, i, low)]
                waiting.append((*room.waiting, *skips))
        end, low, high, freed, held, after = np.array(rows, dtype=np.int64).T
        rooms = np.stack([freed, held])
        return cls(end, low, high, rooms, np.stack([after, after]), tuple(waiting))

    def extended(
        self, chain: Chain, i: int, start: int, choices: Sequence[RecomputeMode]
    ) -> '_Lanes':
        """With unit ``i`` put before those modules that end behind it."""
        lanes = self._arrived(i)
        options = [lanes.with_unit(chain, i, start, choice) for choice in choices]
        best = options[0]
        for option in options[1:]:
            is_less = option.room < best.room
            best = dataclasses.replace(
                best,
                room=np.where(is_less, option.room, best.room),
                after=np.where(is_less, option.after, best.after),
            )
        return best

    def note(self, needs: np.ndarray, chain: Chain, a: int, first: int) -> None:
        """Write down the needs of modules from ``a`` to the trainable ``first`` on."""
        base, casts = base_bytes(chain, a, ())
        fits = (self.low <= a) & (a <= self.high) & (self.end > first)
        is_held = np.array(
            [
                holds_start(
                    chain, a, is_last=False, crossing=crossing_skips(chain, end)
                )
                for end in self.end.tolist()
            ]
        )
        room = np.where(is_held, self.room[1], self.room[0])
        needs[a, self.end[fits]] = (base + casts + room)[fits]

    def _arrived(self, i: int) -> '_Lanes':
        here = [[w for w in waiting if w.unit == i] for waiting in self.waiting]
        if not any(here):
            return self
        most = np.array([max((w.map_bytes for w in maps), default=0) for maps in here])
        total = np.array([sum(w.num_bytes for w in maps) for maps in here])
        waits = np.array([bool(maps) for maps in here]) & (self.end > i)
        raised = np.maximum(self.room, self.after + 2 * most)
        return dataclasses.replace(
            self,
            room=np.where(waits, raised, self.room),
            after=np.where(waits, self.after - total, self.after),
        )

    def with_unit(
        self, chain: Chain, i: int, start: int, mode: RecomputeMode
    ) -> '_Lanes':
        lows = self.low.tolist()
        effects = [
            effect.taking(carried_skips(chain, i, low))
            for effect, low in zip(
                self._effects(chain, i, start, mode), lows, strict=True
            )
        ]
        (forward_peak, _, kept, peak, held_peak, left, holds_output, _) = (
            np.array(values) for values in zip(*effects, strict=True)
        )
        later = np.where(holds_output, self.room[1], self.room[0])
        after = np.where(holds_output, self.after[1], self.after[0])
        room = kept + np.maximum(later, after + np.stack([peak, held_peak]))
        room = np.maximum(forward_peak, room)
        skips = [sum(w.num_bytes for w in waiting_skips(chain, i, low)) for low in lows]
        runs = self.end > i
        return dataclasses.replace(
            self,
            room=np.where(runs, room, self.room),
            after=np.where(runs, after + left + np.array(skips), self.after),
        )

    def _effects(
        self, chain: Chain, i: int, start: int, mode: RecomputeMode
    ) -> list[Effect]:
        """The effect of unit ``i`` in each module."""
        behind = len(chain.units) + 1
        crossing = crossing_skips(chain, i + 1)
        # Until which end a skip of the unit goes on.
        crosses = max((s.reader for s in chain.skips if s.unit == i), default=-1)

        @functools.cache
        def effect(num_carried: int, is_end: bool, goes_on: bool) -> Effect:
            step = unit_step(chain, i, start, num_carried, mode=mode)
            return unit_effect(
                chain,
                i,
                step,
                i + 1 if is_end else behind,
                is_last=False,
                crossing=crossing if is_end or goes_on else (),
            )

        return [
            effect(num_carried_skips(chain, i, low), end == i + 1, end <= crosses)
            for low, end in zip(self.low.tolist(), self.end.tolist(), strict=True)
        ]

"""The least memory of every possible local module. Pure numbers."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..recompute_mode import RecomputeMode
from .costs import Chain
from .peaks import base_bytes
from .room import start_rooms, unit_effect, unit_step

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

    Args:
        end: Index behind the module's last unit.
        low: Least unit it may start with.
        high: Greatest one.
        forward: See `Room`.
        backward: See `Room`.
        after: See `Room`.
        waiting: See `Room`.
    """

    end: np.ndarray
    low: np.ndarray
    high: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    after: np.ndarray
    waiting: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, chain: Chain) -> '_Lanes':
        rows = [
            (end, low, high, *room[:3], room.waiting)
            for end in range(1, len(chain.units) + 1)
            for low, high, room in start_rooms(chain, end, None)
        ]
        *columns, waiting = zip(*rows, strict=True)
        arrays = (np.array(column, dtype=np.int64) for column in columns)
        end, low, high, forward, backward, after = arrays
        return cls(end, low, high, forward, backward, after, waiting)

    def extended(
        self, chain: Chain, i: int, start: int, choices: Sequence[RecomputeMode]
    ) -> '_Lanes':
        """With unit ``i`` put before those modules that end behind it."""
        lanes = self._arrived(i)
        options = [lanes._with_unit(chain, i, start, choice) for choice in choices]
        best = options[0]
        for option in options[1:]:
            is_less = option._room() < best._room()
            best = dataclasses.replace(
                best,
                forward=np.where(is_less, option.forward, best.forward),
                backward=np.where(is_less, option.backward, best.backward),
                after=np.where(is_less, option.after, best.after),
            )
        return best

    def note(self, needs: np.ndarray, chain: Chain, a: int, first: int) -> None:
        """Write down the needs of modules from ``a`` to the trainable ``first`` on."""
        base, casts = base_bytes(chain, a, ())
        fits = (self.low <= a) & (a <= self.high) & (self.end > first)
        needs[a, self.end[fits]] = (base + casts + self._room())[fits]

    def _room(self) -> np.ndarray:
        return np.maximum(self.forward, self.backward)

    def _arrived(self, i: int) -> '_Lanes':
        here = [[b for unit, b in waiting if unit == i] for waiting in self.waiting]
        if not any(here):
            return self
        most = np.array([max(maps, default=0) for maps in here])
        total = np.array([sum(maps) for maps in here])
        waits = (total > 0) & (self.end > i)
        raised = np.maximum(self.backward, self.after + 2 * most)
        return dataclasses.replace(
            self,
            backward=np.where(waits, raised, self.backward),
            after=np.where(waits, self.after - total, self.after),
        )

    def _with_unit(
        self, chain: Chain, i: int, start: int, mode: RecomputeMode
    ) -> '_Lanes':
        step = unit_step(chain, i, start, mode=mode)
        ending, inner = (
            unit_effect(chain, i, step, end, is_last=False)
            for end in (i + 1, len(chain.units) + 1)
        )
        is_end = self.end == i + 1
        peak, kept = np.where(is_end, ending.peak, inner.peak), inner.kept
        runs = self.end > i
        forward = np.maximum(inner.forward_peak, inner.forward_kept + self.forward)
        backward = kept + np.maximum(self.backward, self.after + peak)
        after = self.after + np.where(is_end, ending.left, inner.left)
        return dataclasses.replace(
            self,
            forward=np.where(runs, forward, self.forward),
            backward=np.where(runs, backward, self.backward),
            after=np.where(runs, after, self.after),
        )

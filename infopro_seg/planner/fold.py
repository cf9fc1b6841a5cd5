"""Folds a chain from its end to its start and keeps what may be best. Pure numbers."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..settings.recompute_mode import RecomputeMode
from .costs import Chain, Skip, Variants
from .labels import (
    AFTER,
    BACKWARD,
    COST,
    FORWARD,
    HELD,
    LINK,
    NO_LINK,
    WORST,
    Closed,
    Kind,
    Labels,
    Trunk,
    arrived,
    extended,
    stacked,
    undominated,
    unmarked,
)
from .peaks import base_bytes
from .room import (
    Effect,
    Room,
    carried_skips,
    holds_start,
    num_carried_skips,
    unit_effect,
    unit_step,
    waiting_skips,
)

_UNLIMITED = 2**62


class Fold:
    """The fold; position ``a`` is the boundary before unit ``a``.

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
        self.num_units = len(chain.units)
        #: Decisions: what, (place, mode), index of the decision to the right.
        self.decisions: list[tuple[str, tuple[int, int], int]] = []
        self._memo = chain.memo.setdefault(
            ('effects', tuple(choices), counts_flops), {}
        )
        self.bases = [base_bytes(chain, a, ()) for a in range(self.num_units + 1)]
        self.least_base = min(base for base, _ in self.bases)
        # A pass may free its input, so that more units may need less room.
        self.freed = [0]
        for i in range(self.num_units):
            kept = [
                effect.kept - effect.frees_skips
                for start in {0, i, max(0, i - 1)}
                for num_carried in range(num_carried_skips(chain, i, i) + 1)
                for *_, effect in self._effects(i, start, num_carried, False, True)
            ]
            self.freed.append(self.freed[-1] + min(0, *kept))

    def modes(self, passes: Variants) -> Iterator[tuple[RecomputeMode, int]]:
        """How a piece may be recomputed, and the FLOPs that count for it."""
        for mode in self.choices:
            if len(self.choices) == 1 or mode in passes.modes():
                yield mode, passes.recompute_flops(mode) * self.counts_flops

    def decide(self, what: str, place: int, mode: int, link: int) -> int:
        """Note a decision; returns its index."""
        self.decisions.append((what, (place, mode), link))
        return len(self.decisions) - 1

    def begin(
        self,
        labels: Labels,
        label: np.ndarray,
        kind: Kind,
        rooms: Iterable[tuple[int, int, Room]],
    ) -> None:
        """Add the labels of a module that ends here, for every way it may start.

        Args:
            labels: Are added to.
            label: Cost, worst peak and decisions of what comes later.
            kind: Whether it is the last module, and the number of modules.
            rooms: As `start_rooms` gives them.
        """
        for low, high, room in rooms:
            kind = kind._replace(low=low, high=high, waiting=room.waiting)
            row = label.copy()
            row[[FORWARD, BACKWARD, HELD, AFTER]] = room[:4]
            labels[kind] = stacked(labels.get(kind), row[None])

    def close(self, a: int, trunk: Trunk | None) -> Closed:
        """Let modules start with unit ``a``.

        Args:
            a: The unit.
            trunk: Of the nearest trainable unit from ``a`` on; None if no module can
                start here. Units before it need less in a module that starts here.

        Returns:
            The best labels that fit.
        """
        closed: Closed = {}
        if trunk is None:
            return closed
        first, ended, opened = trunk
        labels = self.extend(first, max(a, first - 1), ended, opened, a)
        for i in reversed(range(a, first)):
            labels = self.extend(i, max(a, i - 1), {}, labels, a)
        for kind, found in labels.items():
            if kind.low <= a <= kind.high:
                self.offer(closed, a, kind, found)
        return closed

    def offer(self, closed: Closed, a: int, kind: Kind, labels: np.ndarray) -> None:
        """Keep the best of the labels whose module starts here and fits."""
        base, casts = self.bases[a]
        is_held = holds_start(
            self.chain, a, is_last=kind.is_last, crossing=kind.crossing
        )
        backward = labels[:, HELD if is_held else BACKWARD]
        if kind.is_last:
            room = np.maximum(labels[:, FORWARD] + casts, backward)
        else:
            room = np.maximum(labels[:, FORWARD], backward) + casts
        labels = labels.copy()
        labels[:, WORST] = np.maximum(labels[:, WORST], base + room)
        labels = labels[base + room <= self.limit]
        if kind.num_modules in closed:
            labels = stacked(closed[kind.num_modules][None], labels)
        if len(labels):
            best = np.lexsort((labels[:, WORST], labels[:, COST]))[0]
            closed[kind.num_modules] = labels[best]

    def extend(
        self, i: int, start: int, ended: Labels, opened: Labels, low: int
    ) -> Labels:
        """Put unit ``i`` before what is folded.

        Args:
            i: The unit.
            start: 0 inside a module, ``i`` at its start, ``i`` - 1 behind frozen units.
            ended: Labels of modules that end with this unit.
            opened: Labels of modules that go on behind it.
            low: The module starts with this unit or an earlier one.

        Returns:
            All labels with the unit, without those that others beat.
        """
        result: dict[Kind, list[np.ndarray]] = defaultdict(list)
        room = self.limit - self.least_base - self.freed[i]
        for labels, is_end in ((ended, True), (opened, False)):
            for kind, found in labels.items():
                if kind.low > low:
                    continue
                found = arrived(found, kind, i)
                left = [w for w in kind.waiting if w.unit != i]
                skips = waiting_skips(self.chain, i, kind.low)
                waiting = (*left, *skips)
                after = kind._replace(
                    high=min(kind.high, low),
                    waiting=waiting,
                    crossing=tuple(s for s in kind.crossing if s.unit < i),
                )
                carried = carried_skips(self.chain, i, kind.low)
                num_carried = num_carried_skips(self.chain, i, kind.low)
                effects = self._effects(
                    i, start, num_carried, is_end, kind.is_last, kind.crossing
                )
                for mode, cost, effect in effects:
                    new = extended(found, mode, cost, effect.taking(carried))
                    new[:, AFTER] += sum(skip.num_bytes for skip in skips)
                    fits = np.maximum(new[:, FORWARD], new[:, BACKWARD]) <= room
                    fits &= new[:, COST] <= self.most_flops
                    result[after].append(new[fits])
        return {
            kind: self._decided(i, undominated(np.concatenate(parts)))
            for kind, parts in result.items()
            if any(len(part) for part in parts)
        }

    def _decided(self, i: int, labels: np.ndarray) -> np.ndarray:
        """Note the decision to recompute in the labels that `extended` has marked."""
        is_marked = labels[:, LINK] < NO_LINK
        modes, links = unmarked(labels[is_marked, LINK])
        first = len(self.decisions)
        self.decisions += (
            ('unit', (i, mode), link)
            for mode, link in zip(modes.tolist(), links.tolist(), strict=True)
        )
        labels[is_marked, LINK] = np.arange(first, len(self.decisions))
        return labels

    def _effects(
        self,
        i: int,
        start: int,
        num_carried: int,
        is_end: bool,
        is_last: bool,
        crossing: tuple[Skip, ...] = (),
    ) -> list[tuple[RecomputeMode, int, Effect]]:
        """The effects of a unit at its place, in each mode; see `extend`."""
        place = i, start, num_carried, is_end, is_last, crossing
        if place not in self._memo:
            self._memo[place] = self._effects_of(*place)
        return self._memo[place]

    def _effects_of(
        self,
        i: int,
        start: int,
        num_carried: int,
        is_end: bool,
        is_last: bool,
        crossing: tuple[Skip, ...],
    ) -> list[tuple[RecomputeMode, int, Effect]]:
        end = i + 1 if is_end else self.num_units + 1
        effects = []
        for mode, extra in self.modes(self.chain.units[i].passes):
            step = unit_step(self.chain, i, start, num_carried, mode=mode)
            effect = unit_effect(
                self.chain, i, step, end, is_last=is_last, crossing=crossing
            )
            effects.append((mode, extra, effect))
        return effects

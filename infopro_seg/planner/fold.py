"""Folds a chain from its end to its start, keeping what may be optimal. Pure numbers.

A label is one way to run everything from a unit on: what it costs, and what room its
module, still open to the left, needs. A label that another one beats in every number
is dropped: whatever comes before depends on these numbers alone.
"""

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from .costs import Chain, Pass
from .peaks import Effect, Room, base_bytes, end_room, unit_effect, unit_step

# Columns of an array of labels: extra FLOPs; the room as in `Room`; the highest peak of
# the modules that are closed; the index of the last decision.
COST, FORWARD, BACKWARD, AFTER, WORST, LINK = range(6)
# Chains of repeated blocks need far fewer; the bound is for adversarial numbers. What
# is thinned out leaves a partition that fits, if not the cheapest.
_MAX_LABELS = 150
_UNLIMITED = 2**62
NO_LINK = -1


class Kind(NamedTuple):
    """What labels must have in common to be compared.

    Args:
        num_modules: Modules so far; 0 if their number does not matter.
        is_last: Whether the open module is the last one.
        low: The least unit that the open module may start with.
        high: The greatest one; within, it makes the same maps that heads read.
        waiting: See `Room`.
    """

    num_modules: int
    is_last: bool
    low: int = 0
    high: int = 0
    waiting: tuple[tuple[int, int], ...] = ()


Labels = dict[Kind, np.ndarray]
#: The best closed label, by number of modules.
Closed = dict[int, np.ndarray]
#: A trainable unit, and the labels of modules that end with it and that go on.
Trunk = tuple[int, Labels, Labels]


class Fold:
    """The fold; position ``a`` is the boundary before unit ``a``.

    Args:
        chain: Costs.
        limit: Bytes that a module may reach.
        choices: Whether to recompute, the possible answers.
        counts_flops: Whether more room for fewer FLOPs can be better.
    """

    def __init__(
        self,
        chain: Chain,
        limit: int,
        choices: Sequence[bool],
        *,
        counts_flops: bool = True,
    ):
        self.chain = chain
        self.limit = min(limit, _UNLIMITED)
        self.choices = choices
        self.counts_flops = counts_flops
        self.num_units = len(chain.units)
        #: Decisions: what, value, index of the decision to the right.
        self.decisions: list[tuple[str, int, int]] = []
        self.bases = [base_bytes(chain, a, ()) for a in range(self.num_units + 1)]
        self.least_base = min(base for base, _ in self.bases)
        self._effects = functools.cache(self._effects_of)
        # A pass may free its input, so that more units may need less room.
        self.freed = [0]
        for i in range(self.num_units):
            kept = [
                effect.kept
                for start in {0, i, max(0, i - 1)}
                for *_, effect in self._effects(i, start, False, True)
            ]
            self.freed.append(self.freed[-1] + min(0, *kept))

    def tail_choices(self) -> Iterator[tuple[bool, int]]:
        """Whether the tail is recomputed, and what that costs."""
        tail = self.chain.tail
        for recomputes in self.choices:
            if not recomputes:
                yield False, 0
            elif tail.recomputed is not None or len(self.choices) == 1:
                yield True, tail.recompute_flops() if self.counts_flops else 0

    def decide(self, what: str, value: int, link: int) -> int:
        """Note a decision; returns its index."""
        self.decisions.append((what, value, link))
        return len(self.decisions) - 1

    def begin(
        self, labels: Labels, end: int, label: np.ndarray, kind: Kind, step: Pass
    ):
        """Add the labels of a module that ends here, for every way it may start.

        Args:
            labels: Are added to.
            end: Index behind the module's last unit.
            label: Cost, worst peak and decisions of what comes later.
            kind: Whether it is the last module, and the number of modules.
            step: The pass of the tail or the local head.
        """
        tail = step if kind.is_last else None
        for low, high, room in start_rooms(self.chain, end, tail):
            kind = kind._replace(low=low, high=high, waiting=room.waiting)
            row = label.copy()
            row[[FORWARD, BACKWARD, AFTER]] = room[:3]
            labels[kind] = _stacked(labels.get(kind), row[None])

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
        if kind.is_last:
            room = np.maximum(labels[:, FORWARD] + casts, labels[:, BACKWARD])
        else:
            room = np.maximum(labels[:, FORWARD], labels[:, BACKWARD]) + casts
        labels = labels.copy()
        labels[:, WORST] = np.maximum(labels[:, WORST], base + room)
        labels = labels[base + room <= self.limit]
        if kind.num_modules in closed:
            labels = _stacked(closed[kind.num_modules][None], labels)
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
                left = tuple(w for w in kind.waiting if w[0] != i)
                after = kind._replace(high=min(kind.high, low), waiting=left)
                for effect in self._effects(i, start, is_end, kind.is_last):
                    new = _before(found, *effect)
                    fits = np.maximum(new[:, FORWARD], new[:, BACKWARD]) <= room
                    result[after].append(new[fits])
        return {
            kind: self._decided(i, _undominated(np.concatenate(parts)))
            for kind, parts in result.items()
            if any(len(part) for part in parts)
        }

    def _decided(self, i: int, labels: np.ndarray) -> np.ndarray:
        """Note the decision to recompute in the labels that `_before` has marked."""
        for j in np.flatnonzero(labels[:, LINK] < NO_LINK):
            labels[j, LINK] = self.decide('unit', i, _mark(int(labels[j, LINK])))
        return labels

    def _effects_of(
        self, i: int, start: int, is_end: bool, is_last: bool
    ) -> list[tuple[bool, int, Effect]]:
        end = i + 1 if is_end else self.num_units + 1
        extra = self.chain.units[i].passes.recompute_flops() * self.counts_flops
        effects = []
        for recomputes in self.choices:
            step = unit_step(self.chain, i, start, recomputes=recomputes)
            effect = unit_effect(self.chain, i, step, end, is_last=is_last)
            effects.append((recomputes, extra if recomputes else 0, effect))
        return effects


def start_rooms(
    chain: Chain, end: int, tail: Pass | None
) -> Iterator[tuple[int, int, Room]]:
    """The room behind the last unit of a module, for every way it may start.

    Args:
        chain: Costs.
        end: Index behind the module's last unit.
        tail: The tail's pass for the last module, None for a local head.

    Yields:
        The least and the greatest first unit of the module, and the room. Within this
        range the module makes the same maps that heads read.
    """
    read = set(chain.tail_reads).union(*(r.reads for r in chain.auxiliaries))
    marks = {chain.outputs[i].unit for i in read}
    low = 0
    for high in sorted({unit for unit in marks if unit < end - 1} | {end - 1}):
        yield low, high, end_room(chain, high, end, tail)
        low = high + 1


def arrived(labels: np.ndarray, kind: Kind, i: int) -> np.ndarray:
    """`Room.arrive` for labels."""
    here = [num_bytes for unit, num_bytes in kind.waiting if unit == i]
    if not here:
        return labels
    labels = labels.copy()
    three_maps = labels[:, AFTER] + 2 * max(here)
    labels[:, BACKWARD] = np.maximum(labels[:, BACKWARD], three_maps)
    labels[:, AFTER] -= sum(here)
    return labels


def _before(
    labels: np.ndarray, recomputes: bool, cost: int, effect: Effect
) -> np.ndarray:
    """`Room.before` for labels; the links of recomputed ones are marked."""
    new = labels.copy()
    new[:, COST] += cost
    forward = effect.forward_kept + labels[:, FORWARD]
    new[:, FORWARD] = np.maximum(effect.forward_peak, forward)
    new[:, BACKWARD] = effect.kept + np.maximum(
        labels[:, BACKWARD], labels[:, AFTER] + effect.peak
    )
    new[:, AFTER] += effect.left
    if recomputes:
        new[:, LINK] = _mark(labels[:, LINK])
    return new


def _mark(link):
    """Links below `NO_LINK` wait for a decision to be noted; twice is undone."""
    return -3 - link


def _undominated(labels: np.ndarray) -> np.ndarray:
    """Those that no other one beats in cost and room, by cost."""
    labels = labels[np.lexsort(labels[:, [WORST, AFTER, BACKWARD, FORWARD, COST]].T)]
    if len(labels) < 2:
        return labels
    room = labels[:, [FORWARD, BACKWARD, AFTER]]
    # beats[j, i]: j comes first and needs no more room than i.
    beats = np.all(room[:, None] <= room[None], axis=2)
    labels = labels[~np.triu(beats, k=1).any(axis=0)]
    if len(labels) <= _MAX_LABELS:
        return labels
    # The tightest ones must stay, or a limit that can be met might be missed.
    tightest = [
        np.maximum(labels[:, FORWARD], labels[:, BACKWARD]).argmin(),
        labels[:, BACKWARD].argmin(),
    ]
    kept = np.linspace(0, len(labels) - 1, _MAX_LABELS).round().astype(int)
    return labels[np.union1d(kept, tightest)]


def _stacked(first: np.ndarray | None, second: np.ndarray) -> np.ndarray:
    return second if first is None else np.concatenate([first, second])

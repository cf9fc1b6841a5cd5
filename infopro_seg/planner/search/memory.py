"""The memory of modules, added up from their links. Pure numbers.

A module is folded from its end to its start: `Room` says what the rest of it needs, and
`Effect` what the pass right before does to that.
"""

import abc
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from .costs import Chain, Partition, Pass, Skip, Waiting

#: An integer, or an array of them.
Bytes = Any


class Effect(NamedTuple):
    """What a pass does to the bytes alive, at its place in a module.

    Args:
        forward_peak: As in `Pass`.
        forward_kept: Bytes that stay, while the forward passes run.
        kept: Bytes that stay until its backward.
        peak: Most bytes beyond those alive when its backward starts.
        held_peak: The same if its input stays alive until it is done.
        left: Bytes that its backward leaves behind.
        holds_output: Whether its output is alive while the next backward runs,
            whatever that one keeps.
        frees_skips: As in `Pass`.
    """

    forward_peak: int
    forward_kept: int
    kept: int
    peak: int
    held_peak: int
    left: int
    holds_output: bool
    frees_skips: int = 0

    def taking(self, carried_bytes: int) -> 'Effect':
        """The same where so many bytes of the skips it takes come from before a wall.

        They are alive as the module starts, and freed here.
        """
        freed = min(self.frees_skips, carried_bytes)
        return self._replace(
            forward_kept=self.forward_kept - freed, kept=self.kept - freed
        )


def effect_of(
    step: Pass, *, outlives_autocast: bool, held: int = 0, is_held: bool = False
) -> Effect:
    """The effect of a pass at its place.

    Args:
        step: The pass.
        outlives_autocast: Whether its backward runs after autocast has ended, as that
            of the last module does.
        held: Bytes of its output that stay alive until the module is done.
        is_held: Whether its output is still referenced as its backward runs.
    """
    cache = step.cache if outlives_autocast else 0
    peak = step.backward_peak + cache
    return Effect(
        forward_peak=step.forward_peak,
        forward_kept=step.kept - step.frees_input,
        kept=step.kept - step.frees_input - cache,
        peak=peak + (step.released if is_held else 0),
        held_peak=peak + (step.both_held if is_held else step.input_held),
        left=step.grads + held + (0 if outlives_autocast else step.casts),
        holds_output=is_held or step.keeps_output,
        frees_skips=step.frees_skips,
    )


def unit_effect(
    chain: Chain,
    i: int,
    step: Pass,
    end: int,
    *,
    is_last: bool,
    crossing: Sequence[Skip] = (),
    outlives_autocast: bool = False,
) -> Effect:
    """The effect of unit ``i`` in a module that ends before unit ``end``.

    Args:
        chain: Costs.
        i: Index of the unit.
        step: Its pass.
        end: Index behind the last unit of its module.
        is_last: Whether that is the last module.
        crossing: Skips that later modules take, see `crossing_skips`.
        outlives_autocast: See `effect_of`; true of the last module.
    """
    if is_last:
        return effect_of(step, outlives_autocast=True)
    # The state that crosses the wall is referenced while the module's backward runs,
    # and with it the stage outputs and the skips.
    is_end = i == end - 1
    emitted = [out for out in chain.outputs if out.unit == i]
    held = sum(out.num_bytes for out in emitted if not (out.is_flow and is_end))
    own = sum(skip.num_bytes for skip in crossing if skip.unit == i)
    if is_end:
        # Skips of earlier units stay where those units have put them.
        earlier = sum(skip.num_bytes for skip in crossing if skip.unit < i)
        held += chain.units[i].flow_bytes - earlier
    else:
        # A map may be skip and output at once.
        held = max(held, own)
    is_held = is_end or own > 0 or any(out.is_flow for out in emitted)
    return effect_of(
        step,
        outlives_autocast=outlives_autocast,
        held=held,
        is_held=is_held,
    )


class Room(NamedTuple):
    """What the rest of a module needs, folded from its end to its start.

    The numbers are integers for one plan, or arrays of one number per plan: a search
    adds up as this file does.

    Args:
        forward: Most bytes in its forward passes beyond those alive before them.
        backward: Most bytes in its backward passes, likewise.
        held: The same if the map that flows in stays alive until they are done.
        after: Bytes that its backward passes leave behind.
        waiting: Gradients of maps inside the module that are read more than once.
    """

    forward: Bytes = 0
    backward: Bytes = 0
    held: Bytes = 0
    after: Bytes = 0
    waiting: tuple[Waiting, ...] = ()

    def before(self, effect: Effect) -> 'Room':
        """What is needed from the start of a pass that runs right before."""
        later = self.held if effect.holds_output else self.backward
        forward = np.maximum(effect.forward_peak, effect.forward_kept + self.forward)
        return self._replace(
            forward=forward,
            backward=effect.kept + np.maximum(later, self.after + effect.peak),
            held=effect.kept + np.maximum(later, self.after + effect.held_peak),
            after=self.after + effect.left,
        )

    def wait(self, maps: Sequence[Waiting]) -> 'Room':
        """Let gradients of earlier maps wait for the rest of their gradient."""
        return self._replace(
            after=self.after + sum(waiting.num_bytes for waiting in maps),
            waiting=(*self.waiting, *maps),
        )

    def arrive(self, unit: int) -> 'Room':
        """Add the gradients that wait for a unit to the one that has come."""
        here = [waiting for waiting in self.waiting if waiting.unit == unit]
        if not here:
            return self
        # The old, the new and the sum: three maps for a moment.
        sum_peak = self.after + 2 * max(waiting.map_bytes for waiting in here)
        return self._replace(
            backward=np.maximum(self.backward, sum_peak),
            held=np.maximum(self.held, sum_peak),
            after=self.after - sum(waiting.num_bytes for waiting in here),
            waiting=tuple(w for w in self.waiting if w.unit != unit),
        )


def unit_step(
    chain: Chain, i: int, start: int, num_carried: int, *, mode: RecomputeMode
) -> Pass:
    """The pass of unit ``i`` in a module that starts at unit ``start``.

    Its input needs no gradient if all units of the module before it are frozen. The
    map between two frozen units is freed at once.

    Args:
        chain: Costs.
        i: Index of the unit.
        start: Index of the module's first unit.
        num_carried: As `num_carried_skips` gives it.
        mode: How the unit is recomputed.
    """
    unit = chain.units[i]
    is_first = not any(before.is_trainable for before in chain.units[start:i])
    step = unit.passes.choose(mode, None if is_first else num_carried)
    is_emitted = any(out.is_flow and out.unit == i - 1 for out in chain.outputs)
    if is_first and i > start and not unit.is_trainable and not is_emitted:
        step = step._replace(kept=step.kept - chain.units[i - 1].flow_bytes)
    # A skip at the wall may be kept by the unit that takes it: never too low.
    is_skip = any(skip.unit == i - 1 for skip in chain.skips)
    if not 0 < i == start or is_skip or is_read(chain, i - 1):
        step = step._replace(frees_input=0)
    return step


def tail_step(chain: Chain, start: int, mode: RecomputeMode) -> Pass:
    """The pass of the tail in a module that starts at unit ``start``."""
    if start == len(chain.units):
        return chain.tail.choose(mode, None)
    num_carried = sum(chain.outputs[i].unit < start for i in chain.tail_reads)
    return chain.tail.choose(mode, num_carried)


def is_read(chain: Chain, unit: int) -> bool:
    """Whether a head of a later module reads the very map that a unit hands on."""
    readers = [r.reads for r in chain.auxiliaries if chain.last_read(r) > unit]
    read = set(chain.tail_reads).union(*readers)
    return any(
        out.is_flow and out.unit == unit and i in read
        for i, out in enumerate(chain.outputs)
    )


def end_room(chain: Chain, start: int, end: int, tail: RecomputeMode | None) -> Room:
    """The room for what follows the units of a module: heads and losses.

    Args:
        chain: Costs.
        start: Index of the module's first unit; any within a range of
            `Modules.starts` gives the same.
        end: Index behind its last unit.
        tail: How the tail of the last module is recomputed, None for a local head.
    """
    is_last = tail is not None
    room = Room()
    step = chain.heads[end - 1].step if tail is None else tail_step(chain, start, tail)
    for reader in reversed(chain.attached(start, end)):
        room = room.before(effect_of(reader.step, outlives_autocast=is_last))
        reads = list(reader.reads)
        again = None if is_last else chain.heads[end - 1].after_reader
        if again is not None and any(_is_end(chain, i, end) for i in reads):
            # Counted in this pass of the local head: it adds to the reader's gradient.
            step = again
            reads = [i for i in reads if not _is_end(chain, i, end)]
        room = room.wait(waiting_maps(chain, reads, start))
    room = room.before(effect_of(step, outlives_autocast=is_last))
    if is_last:
        inner = [i for i in chain.tail_reads if not _is_end(chain, i, end)]
        room = room.wait(waiting_maps(chain, inner, start))
    return room


def waiting_maps(chain: Chain, reads: Sequence[int], start: int) -> list[Waiting]:
    """The gradients of read outputs that are made inside a module."""
    outputs = [chain.outputs[i] for i in reads]
    return [
        Waiting(out.unit, out.num_bytes, out.num_bytes)
        for out in outputs
        if out.unit >= start
    ]


def waiting_skips(chain: Chain, reader: int, start: int) -> list[Waiting]:
    """The gradients that a unit makes for maps put aside inside its module."""
    return [
        Waiting(skip.unit, skip.grad_bytes, skip.num_bytes)
        for skip in chain.skips
        if skip.reader == reader and skip.unit >= start
    ]


def crossing_skips(chain: Chain, end: int) -> tuple[Skip, ...]:
    """The skips that are made before unit ``end`` and taken from there on."""
    return tuple(skip for skip in chain.skips if skip.unit < end <= skip.reader)


def carried_skips(chain: Chain, reader: int, start: int) -> int:
    """Bytes of the skips that a unit takes from before the wall of its module.

    The map right at the wall is left out: it is the input of the module's first unit,
    which may keep it.
    """
    return sum(
        skip.num_bytes
        for skip in chain.skips
        if skip.reader == reader and skip.unit < start - 1
    )


def _is_end(chain: Chain, output: int, end: int) -> bool:
    return chain.outputs[output].is_flow and chain.outputs[output].unit == end - 1


def num_carried_skips(chain: Chain, reader: int, start: int) -> int:
    """How many skips a unit takes from before the wall of its module."""
    return sum(skip.reader == reader and skip.unit < start for skip in chain.skips)


class Open(NamedTuple):
    """A module while it is folded.

    Args:
        low: The least unit that it may start with. Whichever it is, the same maps that
            are read in it come from before it.
        end: Index behind its last unit.
        is_last: Whether it is the last module.
    """

    low: int
    end: int
    is_last: bool


#: How the tail is recomputed, the FLOPs that this adds, the room of heads and losses.
Ending = tuple[RecomputeMode, int, Room]


class Modules(abc.ABC):
    """One kind of modules, as they are folded: local modules, or segments.

    A module is folded from its end to its start. What a wall adds to the needs of
    others is left out of its peak.

    Args:
        chain: Costs.
    """

    #: Whether gradients cross the walls.
    is_exact: bool
    #: Whether the first units of a module have effects of their own.
    differs_at_start: bool

    def __init__(self, chain: Chain):
        self.chain = chain

    @abc.abstractmethod
    def starts(self, end: int, *, is_last: bool) -> Iterator[range]:
        """Where a module may start that ends before unit ``end``.

        Within each range, the same maps that are read in it come from before it. The
        end itself is the tail alone.
        """

    def may_start(self, start: int) -> bool:
        """Whether there can be a wall before a unit."""
        return True

    @abc.abstractmethod
    def end(self, start: int, opened: Open, tail_mode: RecomputeMode) -> Room:
        """The room behind the last unit of a module."""

    @abc.abstractmethod
    def put_before(
        self, room: Room, i: int, mode: RecomputeMode, opened: Open, start: int
    ) -> Room:
        """The room with unit ``i`` before what is folded.

        Args:
            room: Of what is folded.
            i: Index of the unit.
            mode: How it is recomputed.
            opened: The module.
            start: Where the module starts; 0 if it starts anywhere before the unit, and
                something in between can be trained.
        """

    @abc.abstractmethod
    def peak(self, start: int, opened: Open, room: Room) -> Bytes:
        """Most bytes alive while a module trains that starts with a unit."""

    @abc.abstractmethod
    def flops(self, start: int, opened: Open) -> int:
        """FLOPs that a module adds, beside recompute inside of it."""

    @abc.abstractmethod
    def wall(self, start: int, end: int) -> tuple[int, int]:
        """What the wall at the end of a module adds to both needs of what is behind it.

        `highest` tells what these needs are for. The second one is at least the peak of
        each module but the last.
        """

    @abc.abstractmethod
    def needs_of_last(self, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both needs of the last module alone, from its peak."""

    @abc.abstractmethod
    def highest(self, first: Bytes, second: Bytes) -> Bytes:
        """The highest peak in a sequence of modules, from its needs."""

    def levelled(self, start: int, needs: np.ndarray) -> np.ndarray:
        """Needs of sequences from a unit on, raised where that can never matter."""
        return needs

    def counting(self, start: int) -> Chain:
        """The costs that count if the last module starts with a unit."""
        return self.chain

    def endings(
        self, starts: range, opened: Open, modes: Sequence[RecomputeMode]
    ) -> list[Ending]:
        """What may follow the last unit of a module.

        Args:
            starts: Where it may start, see `starts`.
            opened: The module.
            modes: How the tail may be recomputed.
        """
        start, nothing = starts[-1], RecomputeMode.NOTHING
        if not opened.is_last:
            return [(nothing, 0, self.end(start, opened, nothing))]
        tail = self.counting(start).tail
        return [
            (mode, tail.recompute_flops(mode), self.end(start, opened, mode))
            for mode in tail.among(modes)
        ]

    def folded(self, partition: Partition, index: int) -> tuple[Open, Room]:
        """A module of a partition, and what its units and its end need."""
        start, end = partition.starts[index], partition.ends[index]
        opened = Open(start, end, index == len(partition.ends) - 1)
        room = self.end(start, opened, partition.tail_mode)
        for i in reversed(range(start, end)):
            room = self.put_before(room, i, partition.mode(i), opened, start)
        return opened, room

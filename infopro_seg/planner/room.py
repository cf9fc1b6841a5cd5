"""What the rest of a module needs, folded from its end to its start. Pure numbers.

The order of events is that of `InfoProEncoderDecoder.loss` with `LocalBackwardHook`:
the units of a module, its local head, its auxiliary heads, then all of them backwards.
The backward of the last module runs after autocast has ended.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..recompute_mode import RecomputeMode
from .costs import Chain, Pass


class Effect(NamedTuple):
    """What a pass does to the bytes alive, at its place in a module.

    Args:
        forward_peak: As in `Pass`.
        forward_kept: Bytes that stay, while the forward passes run.
        kept: Bytes that stay until its backward.
        peak: Most bytes beyond those alive when its backward starts.
        left: Bytes that its backward leaves behind.
    """

    forward_peak: int
    forward_kept: int
    kept: int
    peak: int
    left: int


def effect_of(
    step: Pass, *, is_last: bool, held: int = 0, is_held: bool = False
) -> Effect:
    """The effect of a pass at its place.

    Args:
        step: The pass.
        is_last: Whether the module is the last one, whose backward runs after
            autocast has ended.
        held: Bytes of its output that stay alive until the module is done.
        is_held: Whether its output is still referenced as its backward runs.
    """
    cache = step.cache if is_last else 0
    return Effect(
        forward_peak=step.forward_peak,
        forward_kept=step.kept,
        kept=step.kept - cache,
        peak=step.backward_peak + cache + (step.released if is_held else 0),
        left=step.grads + held + (0 if is_last else step.casts),
    )


def unit_effect(chain: Chain, i: int, step: Pass, end: int, *, is_last: bool) -> Effect:
    """The effect of unit ``i`` in a module that ends before unit ``end``."""
    if is_last:
        return effect_of(step, is_last=True)
    # The state that crosses the wall is referenced while the module's backward runs,
    # and with it the stage outputs.
    is_end = i == end - 1
    emitted = [out for out in chain.outputs if out.unit == i]
    held = chain.units[i].flow_bytes if is_end else 0
    held += sum(out.num_bytes for out in emitted if not (out.is_flow and is_end))
    is_held = is_end or any(out.is_flow for out in emitted)
    return effect_of(step, is_last=False, held=held, is_held=is_held)


class Room(NamedTuple):
    """What the rest of a module needs, folded from its end to its start.

    Args:
        forward: Most bytes in its forward passes beyond those alive before them.
        backward: Most bytes in its backward passes, likewise.
        after: Bytes that its backward passes leave behind.
        waiting: Gradients of stage outputs inside the module: unit and bytes.
    """

    forward: int = 0
    backward: int = 0
    after: int = 0
    waiting: tuple[tuple[int, int], ...] = ()

    def before(self, effect: 'Effect') -> 'Room':
        """What is needed from the start of a pass that runs right before."""
        return self._replace(
            forward=max(effect.forward_peak, effect.forward_kept + self.forward),
            backward=effect.kept + max(self.backward, self.after + effect.peak),
            after=self.after + effect.left,
        )

    def wait(self, maps: Sequence[tuple[int, int]]) -> 'Room':
        """Let gradients of earlier maps wait for the rest of their gradient."""
        return self._replace(
            after=self.after + sum(num_bytes for _, num_bytes in maps),
            waiting=(*self.waiting, *maps),
        )

    def arrive(self, unit: int) -> 'Room':
        """Add the gradients that wait for a unit to the one that has come."""
        here = [num_bytes for i, num_bytes in self.waiting if i == unit]
        if not here:
            return self
        return self._replace(
            # The old, the new and the sum: three maps for a moment.
            backward=max(self.backward, self.after + 2 * max(here)),
            after=self.after - sum(here),
            waiting=tuple(w for w in self.waiting if w[0] != unit),
        )


def unit_step(chain: Chain, i: int, start: int, *, mode: RecomputeMode) -> Pass:
    """The pass of unit ``i`` in a module that starts at unit ``start``.

    Its input needs no gradient if all units of the module before it are frozen. The
    map between two frozen units is freed at once.
    """
    unit = chain.units[i]
    is_first = not any(before.is_trainable for before in chain.units[start:i])
    step = unit.passes.choose(mode, is_first=is_first)
    is_emitted = any(out.is_flow and out.unit == i - 1 for out in chain.outputs)
    if is_first and i > start and not unit.is_trainable and not is_emitted:
        step = step._replace(kept=step.kept - chain.units[i - 1].flow_bytes)
    return step


def end_room(chain: Chain, start: int, end: int, tail: Pass | None) -> Room:
    """The room for what follows the units of a module: heads and losses.

    Args:
        chain: Costs.
        start: Index of the module's first unit; any up to the earliest unit that
            an attached auxiliary head reads gives the same.
        end: Index behind its last unit.
        tail: The tail's pass for the last module, None for a local head.
    """
    is_last = tail is not None
    room = Room()
    step = chain.heads[end - 1].step if tail is None else tail
    for reader in reversed(chain.attached(start, end)):
        room = room.before(effect_of(reader.step, is_last=is_last))
        reads = list(reader.reads)
        again = None if is_last else chain.heads[end - 1].after_reader
        if again is not None and any(_is_end(chain, i, end) for i in reads):
            # Counted in this pass of the local head: it adds to the reader's gradient.
            step = again
            reads = [i for i in reads if not _is_end(chain, i, end)]
        room = room.wait(waiting_maps(chain, reads, start))
    room = room.before(effect_of(step, is_last=is_last))
    if is_last:
        inner = [i for i in chain.tail_reads if not _is_end(chain, i, end)]
        room = room.wait(waiting_maps(chain, inner, start))
    return room


def waiting_maps(
    chain: Chain, reads: Sequence[int], start: int
) -> list[tuple[int, int]]:
    """Unit and bytes of the read outputs that are made inside a module."""
    outputs = [chain.outputs[i] for i in reads]
    return [(out.unit, out.num_bytes) for out in outputs if out.unit >= start]


def _is_end(chain: Chain, output: int, end: int) -> bool:
    return chain.outputs[output].is_flow and chain.outputs[output].unit == end - 1


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

"""The memory and work of a plan, added up from the costs of its links. Pure numbers.

The order of events is that of `InfoProEncoderDecoder.loss` with `LocalBackwardHook`:
the units of a module, its local head, its auxiliary heads, all of them backwards,
then the next module; the backward of the last module runs after autocast has ended.
`module_peaks` is the definition that `partition` optimises.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .costs import Chain, Partition, Pass


def base_bytes(chain: Chain, start: int, cuts: Sequence[int]) -> tuple[int, int]:
    """Bytes alive as the module that starts at a unit begins.

    Args:
        chain: Costs.
        start: Index of the module's first unit.
        cuts: All cuts of the plan, as indices of the unit behind.

    Returns:
        Everything but weight casts, and the weight casts of earlier modules.
    """
    before = [unit.passes.plain for unit in chain.units[:start]]
    before += [r.step for r in chain.auxiliaries if chain.last_read(r) < start]
    before += [chain.heads[cut - 1].step for cut in cuts if cut <= start]
    total = (
        chain.start_bytes
        + round(chain.optimizer_factor * chain.parameter_bytes)
        + sum(chain.head_state_bytes(cut) for cut in cuts)
        + sum(step.grads for step in before)
        + chain.carried_bytes(start)
    )
    return total, sum(step.casts for step in before)


def optimizer_peak(chain: Chain, cuts: Sequence[int]) -> int:
    """Most bytes alive while the optimizer steps."""
    parameters = chain.parameter_bytes + sum(
        chain.heads[cut - 1].parameter_bytes for cut in cuts
    )
    return (
        chain.start_bytes
        + sum(chain.head_state_bytes(cut) for cut in cuts)
        + round(chain.optimizer_factor * chain.parameter_bytes)
        + round((1 + chain.step_factor) * parameters)
    )


def module_peaks(chain: Chain, partition: Partition) -> tuple[int, ...]:
    """Most bytes alive while each module trains, everything included."""
    return tuple(_module_peak(chain, partition, i) for i in range(len(partition.ends)))


def predicted_peak(chain: Chain, partition: Partition) -> int:
    """Most bytes alive in a training step of a plan."""
    cuts = partition.ends[:-1]
    return max(*module_peaks(chain, partition), optimizer_peak(chain, cuts))


def total_flops(chain: Chain, partition: Partition) -> int:
    """FLOPs of a training step of a plan."""
    tail = chain.tail.choose(
        recomputes=partition.recomputes_tail,
        is_first=partition.starts[-1] == len(chain.units),
    )
    return (
        sum(
            unit_step(chain, i, start, recomputes=i in partition.recompute).flops
            for start, end in zip(partition.starts, partition.ends, strict=True)
            for i in range(start, end)
        )
        + sum(chain.heads[cut - 1].step.flops for cut in partition.ends[:-1])
        + sum(reader.step.flops for reader in chain.auxiliaries)
        + tail.flops
    )


def extra_flops(chain: Chain, partition: Partition) -> int:
    """FLOPs that a plan adds to end-to-end training: local heads and recompute.

    The gradients that no longer flow through walls are not deducted (`total_flops`
    does): they are no reason to cut where memory does not ask for it.
    """
    return (
        sum(chain.heads[cut - 1].step.flops for cut in partition.ends[:-1])
        + sum(chain.units[i].passes.recompute_flops() for i in partition.recompute)
        + (chain.tail.recompute_flops() if partition.recomputes_tail else 0)
    )


def unit_step(chain: Chain, i: int, start: int, *, recomputes: bool) -> Pass:
    """The pass of unit ``i`` in a module that starts at unit ``start``.

    Its input needs no gradient if all units of the module before it are frozen. The
    map between two frozen units is freed at once.
    """
    unit = chain.units[i]
    is_first = not any(before.is_trainable for before in chain.units[start:i])
    step = unit.passes.choose(recomputes=recomputes, is_first=is_first)
    is_emitted = any(out.is_flow and out.unit == i - 1 for out in chain.outputs)
    if is_first and i > start and not unit.is_trainable and not is_emitted:
        step = step._replace(kept=step.kept - chain.units[i - 1].flow_bytes)
    return step


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
    step: Pass, *, is_last: bool, held: int = 0, is_end: bool = False
) -> Effect:
    """The effect of a pass at its place.

    Args:
        step: The pass.
        is_last: Whether the module is the last one, whose backward runs after
            autocast has ended.
        held: Bytes of its output that stay alive until the module is done.
        is_end: Whether its output is still referenced as its backward runs.
    """
    cache = step.cache if is_last else 0
    return Effect(
        forward_peak=step.forward_peak,
        forward_kept=step.kept,
        kept=step.kept - cache,
        peak=step.backward_peak + cache + (step.released if is_end else 0),
        left=step.grads + held + (0 if is_last else step.casts),
    )


def unit_effect(chain: Chain, i: int, step: Pass, end: int, *, is_last: bool) -> Effect:
    """The effect of unit ``i`` in a module that ends before unit ``end``."""
    if is_last:
        return effect_of(step, is_last=True)
    # The state that crosses the wall is referenced while the module's backward runs.
    is_end = i == end - 1
    held = chain.units[i].flow_bytes if is_end else 0
    held += sum(
        out.num_bytes
        for out in chain.outputs
        if out.unit == i and not (out.is_flow and is_end)
    )
    return effect_of(step, is_last=False, held=held, is_end=is_end)


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
    for reader in reversed(chain.attached(start, end)):
        room = room.before(effect_of(reader.step, is_last=is_last))
        room = room.wait(waiting_maps(chain, reader.reads, start))
    step = tail if is_last else chain.heads[end - 1].step
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


def _module_peak(chain: Chain, partition: Partition, index: int) -> int:
    start, end = partition.starts[index], partition.ends[index]
    is_last = index == len(partition.ends) - 1
    tail = None
    if is_last:
        tail = chain.tail.choose(
            recomputes=partition.recomputes_tail, is_first=start == end
        )
    room = end_room(chain, start, end, tail)
    for i in reversed(range(start, end)):
        step = unit_step(chain, i, start, recomputes=i in partition.recompute)
        effect = unit_effect(chain, i, step, end, is_last=is_last)
        room = room.arrive(i).before(effect)
    base, casts = base_bytes(chain, start, partition.ends[:-1])
    if is_last:
        return base + max(room.forward + casts, room.backward)
    return base + casts + max(room.forward, room.backward)

"""The memory of exact end-to-end training by segments. Pure numbers.

The order of events is that of `run_segment`: all segments but the last run forward
without history and keep the maps at their end. Backward, from the last to the first,
each runs again and is differentiated at once. The forward pass never needs more than
that second run: as much is alive before it, and it keeps less.

A segment is folded like a local module, see `memory`. Its end is given the gradients
that have come so far; its start receives one, unless everything before is frozen.
"""

from collections.abc import Sequence

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from .costs import Chain, Output, Partition, Pass, Waiting
from .memory import (
    Bytes,
    Effect,
    Room,
    crossing_skips,
    end_room,
    unit_effect,
    unit_step,
    waiting_skips,
)


def segment_step(chain: Chain, i: int, mode: RecomputeMode) -> Pass:
    """The pass of unit ``i``, whatever segment it is in."""
    return unit_step(chain, i, 0, 0, mode=mode)


def segment_effect(chain: Chain, i: int, step: Pass, end: int) -> Effect:
    """The effect of a unit in a segment that ends before unit ``end``, run again.

    What the segment hands on is referenced until its backward is done, and so are the
    gradients that it was given, which `segment_peak` counts.
    """
    crossing = crossing_skips(chain, end)
    effect = unit_effect(
        chain, i, step, end, is_last=False, crossing=crossing, outlives_autocast=True
    )
    if i < end - 1:
        return effect
    peak = step.backward_peak + step.cache
    return effect._replace(
        peak=peak + step.grad_held,
        held_peak=peak + step.all_held,
        left=effect.left + given_bytes(chain, end),
    )


def given_bytes(chain: Chain, end: int) -> int:
    """Gradients that the last unit before a boundary would have made itself.

    Its pass was measured with a stand-in for all that comes later.
    """
    earlier = sum(s.num_bytes for s in crossing_skips(chain, end) if s.unit < end - 1)
    emitted = (o for o in chain.outputs if o.unit == end - 1 and not o.is_flow)
    return chain.units[end - 1].flow_bytes - earlier + sum(o.num_bytes for o in emitted)


def segment_end(chain: Chain, end: int) -> Room:
    """The room behind the last unit of a segment."""
    # Given gradients stay until the segment is done; those of maps inside are added to
    # the gradient that comes from the next unit.
    inner = [out for out in read_outputs(chain) if out.unit < end - 1]
    inner += [
        Output(skip.unit, skip.num_bytes, is_flow=False)
        for skip in crossing_skips(chain, end)
        if skip.unit < end - 1
    ]
    waiting = tuple(Waiting(out.unit, 0, out.num_bytes) for out in inner)
    return Room(after=-given_bytes(chain, end), waiting=waiting)


def put_before(chain: Chain, room: Room, i: int, effect: Effect) -> Room:
    """The room of a segment with unit ``i`` before what is folded.

    The gradient of a skip from before the segment waits until the segment is done.
    """
    return room.arrive(i).before(effect).wait(waiting_skips(chain, i, 0))


def segment_peak(chain: Chain, start: int, end: int, room: Room) -> Bytes:
    """Most bytes while a segment runs again, without the maps at walls.

    Args:
        chain: Costs.
        start: Index of its first unit.
        end: Index behind its last unit.
        room: What it needs. Its input is alive until it is done.
    """
    later = chain.grads_before[-1] - chain.grads_before[end] + _head_grads(chain)
    return _room_peak(room, held=True) + later + _given_grads(chain, end) + _base(chain)


def last_room(chain: Chain, tail_mode: RecomputeMode) -> Room:
    """The room for all heads and losses, behind the last unit."""
    return end_room(chain, 0, len(chain.units), tail_mode)


def last_peak(chain: Chain, start: int, room: Room) -> Bytes:
    """Most bytes while the last segment trains, without the maps at walls.

    Stage outputs from before it are counted, even those that are at a wall, see
    `wall_bytes`.
    """
    if start > 0:
        room = room.arrive(start - 1)
    outputs = sum(out.num_bytes for out in read_outputs(chain) if out.unit < start)
    return _room_peak(room, held=start == 0) + outputs + _base(chain)


def wall_bytes(chain: Chain, start: int, end: int) -> tuple[int, int]:
    """What a wall before unit ``end`` keeps alive that the wall before does not.

    Args:
        chain: Costs.
        start: Index of the unit behind the wall before; 0 for the image.
        end: Index of the unit behind the wall.

    Returns:
        The bytes, and those of them that `last_peak` has not counted.
    """
    earlier = sum(s.num_bytes for s in crossing_skips(chain, end) if s.unit < start)
    new = chain.units[end - 1].flow_bytes - earlier
    counted = sum(
        out.num_bytes
        for out in read_outputs(chain)
        if out.is_flow and out.unit == end - 1
    )
    return new, new - counted


def segment_peaks(chain: Chain, partition: Partition) -> tuple[int, ...]:
    """Most bytes alive while each segment is differentiated, everything included."""
    *segments, last = zip(partition.starts, partition.ends, strict=True)
    peaks = []
    for index, (start, end) in enumerate(segments):
        room = segment_end(chain, end)
        for i in reversed(range(start, end)):
            step = segment_step(chain, i, partition.mode(i))
            room = put_before(chain, room, i, segment_effect(chain, i, step, end))
        walls, _ = _bytes_at_walls(chain, partition, index)
        peaks.append(int(segment_peak(chain, start, end, room)) + walls)
    start, end = last
    room = last_room(chain, partition.tail_mode)
    for i in reversed(range(start, end)):
        step = segment_step(chain, i, partition.mode(i))
        room = put_before(
            chain, room, i, unit_effect(chain, i, step, end, is_last=True)
        )
    _, walls = _bytes_at_walls(chain, partition, len(segments))
    return (*peaks, int(last_peak(chain, start, room)) + walls)


def base_of_segment(chain: Chain, partition: Partition, index: int) -> int:
    """Bytes alive as a segment runs again, or as the last one begins."""
    start, end = partition.starts[index], partition.ends[index]
    walls, unread = _bytes_at_walls(chain, partition, index)
    if index == len(partition.ends) - 1:
        return int(last_peak(chain, start, Room())) + unread
    return int(segment_peak(chain, start, end, Room())) + walls


def bytes_before_head(chain: Chain, partition: Partition, index: int) -> int:
    """Bytes alive in the forward pass behind a segment, without local heads."""
    end = partition.ends[index]
    _, unread = _bytes_at_walls(chain, partition, index + 1)
    outputs = sum(out.num_bytes for out in read_outputs(chain) if out.unit < end)
    return _base(chain) + outputs + unread


def _bytes_at_walls(chain: Chain, partition: Partition, index: int) -> tuple[int, int]:
    """What the walls before a segment keep alive, see `wall_bytes`."""
    walls = [
        wall_bytes(chain, start, end)
        for start, end in zip(
            partition.starts[:index], partition.ends[:index], strict=True
        )
    ]
    return sum(new for new, _ in walls), sum(unread for _, unread in walls)


def can_run_again(chain: Chain, partition: Partition) -> bool:
    """Whether no module but the first changes its input, which is needed again."""
    starts = [start for start in partition.starts[1:] if start < len(chain.units)]
    return not any(chain.units[start].writes_input for start in starts)


def repeated_flops(chain: Chain, end: int, start: int = 0) -> int:
    """FLOPs of running all units from ``start`` to before ``end`` again."""
    return chain.forward_flops_before[end] - chain.forward_flops_before[start]


def read_outputs(chain: Chain) -> Sequence[Output]:
    """The stage outputs that a head reads and that need a gradient."""
    read = set(chain.tail_reads).union(*(r.reads for r in chain.auxiliaries))
    first = chain.first_trainable
    return [chain.outputs[i] for i in sorted(read) if chain.outputs[i].unit >= first]


def _base(chain: Chain) -> int:
    return chain.start_bytes + round(chain.optimizer_factor * chain.parameter_bytes)


def _head_grads(chain: Chain) -> int:
    return chain.tail.plain.grads + sum(r.step.grads for r in chain.auxiliaries)


def _given_grads(chain: Chain, end: int) -> int:
    """Gradients of what flows over a boundary, and of earlier outputs."""
    outputs = sum(
        out.num_bytes
        for out in read_outputs(chain)
        if out.unit < end and not (out.is_flow and out.unit == end - 1)
    )
    # The gradient of a skip may be a part of a larger tensor.
    larger = sum(s.grad_bytes - s.num_bytes for s in crossing_skips(chain, end))
    return chain.units[end - 1].flow_bytes + larger + outputs


def _room_peak(room: Room, *, held: bool) -> Bytes:

    return np.maximum(room.forward, room.held if held else room.backward)

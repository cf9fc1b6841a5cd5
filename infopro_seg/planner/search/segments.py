"""The memory of exact end-to-end training by segments. Pure numbers.

The order of events is that of `run_segment`: all segments but the last run forward
without history and keep the maps at their end. Backward, from the last to the first,
each runs again and is differentiated at once. The forward pass never needs more than
that second run: as much is alive before it, and it keeps less.

A segment is folded like a local module, see `memory`. Its end is given the gradients
that have come so far; its start receives one, unless everything before is frozen.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from .costs import Chain, Output, Partition, Pass, Waiting
from .memory import (
    Bytes,
    Effect,
    Modules,
    Open,
    Room,
    crossing_skips,
    end_room,
    unit_effect,
    unit_step,
    waiting_skips,
)


class Segments(Modules):
    """Segments as they are folded.

    Peaks are without the maps at the walls before. The first need of a sequence
    of segments is the peak of the last one, the second the highest peak of the others.
    """

    is_exact = True
    differs_at_start = False

    def starts(self, end: int, *, is_last: bool) -> Iterator[range]:
        """See `Modules`."""
        yield range(end + is_last)

    def may_start(self, start: int) -> bool:
        """See `Modules`: the input of a segment is needed again."""
        units, first = self.chain.units, self.chain.first_trainable
        changes_input = start < len(units) and units[start].writes_input
        return start == 0 or (start > first and not changes_input)

    def end(self, start: int, opened: Open, tail_mode: RecomputeMode) -> Room:
        """See `Modules`."""
        chain, end = self.chain, opened.end
        if opened.is_last:
            return end_room(chain, 0, end, tail_mode)
        # Given gradients stay until the segment is done; those of maps inside are added
        # to the gradient that comes from the next unit.
        inner = [out for out in read_outputs(chain) if out.unit < end - 1]
        inner += [
            Output(skip.unit, skip.num_bytes, is_flow=False)
            for skip in crossing_skips(chain, end)
            if skip.unit < end - 1
        ]
        waiting = tuple(Waiting(out.unit, 0, out.num_bytes) for out in inner)
        return Room(after=-given_bytes(chain, end), waiting=waiting)

    def put_before(
        self, room: Room, i: int, mode: RecomputeMode, opened: Open, start: int
    ) -> Room:
        """See `Modules`.

        The gradient of a skip from before the segment waits until the segment is done.
        """
        chain, end = self.chain, opened.end
        step = segment_step(chain, i, mode)
        if opened.is_last:
            effect = unit_effect(chain, i, step, end, is_last=True)
        else:
            effect = segment_effect(chain, i, step, end)
        return room.arrive(i).before(effect).wait(waiting_skips(chain, i, 0))

    def peak(self, start: int, opened: Open, room: Room) -> Bytes:
        """See `Modules`.

        Stage outputs from before the last segment are counted, even those that are at a
        wall, see `wall`.
        """
        chain, end = self.chain, opened.end
        if not opened.is_last:
            later = (
                chain.grads_before[-1] - chain.grads_before[end] + _head_grads(chain)
            )
            given = _given_grads(chain, end)
            # Its input is alive until it is done.
            return np.maximum(room.forward, room.held) + later + given + _base(chain)
        if start > 0:
            room = room.arrive(start - 1)
        outputs = sum(out.num_bytes for out in read_outputs(chain) if out.unit < start)
        backward = room.held if start == 0 else room.backward
        return np.maximum(room.forward, backward) + outputs + _base(chain)

    def flops(self, start: int, opened: Open) -> int:
        """See `Modules`: a segment but the last runs again."""
        return 0 if opened.is_last else repeated_flops(self.chain, opened.end, start)

    def wall(self, start: int, end: int) -> tuple[int, int]:
        """See `Modules`: the maps that the wall before does not keep alive.

        The last segment has counted stage outputs already.
        """
        crossing = crossing_skips(self.chain, end)
        earlier = sum(skip.num_bytes for skip in crossing if skip.unit < start)
        new = self.chain.units[end - 1].flow_bytes - earlier
        counted = sum(
            out.num_bytes
            for out in read_outputs(self.chain)
            if out.is_flow and out.unit == end - 1
        )
        return new - counted, new

    def needs_of_last(self, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `Modules`."""
        return peaks, np.zeros_like(peaks)

    def highest(self, first: Bytes, second: Bytes) -> Bytes:
        """See `Modules`."""
        return np.maximum(first, second)

    def levelled(self, start: int, needs: np.ndarray) -> np.ndarray:
        """See `Modules`.

        A wall adds as much to the needs of the last segment as to those of the others,
        but for the stage outputs that the last one has counted already.
        """
        last, others = needs.T
        counted = sum(
            out.num_bytes
            for out in read_outputs(self.chain)
            if out.is_flow and out.unit < start
        )
        others = np.maximum(others, last - counted)
        return np.stack([np.maximum(last, others), others], axis=1)


def segment_peaks(chain: Chain, partition: Partition) -> tuple[int, ...]:
    """Most bytes alive while each segment is differentiated, everything included."""
    segments, last = Segments(chain), len(partition.ends) - 1
    peaks = []
    for index, start in enumerate(partition.starts):
        walls, unread = _bytes_at_walls(chain, partition, index)
        peak = segments.peak(start, *segments.folded(partition, index))
        peaks.append(int(peak) + (unread if index == last else walls))
    return tuple(peaks)


def base_of_segment(chain: Chain, partition: Partition, index: int) -> int:
    """Bytes alive as a segment runs again, or as the last one begins."""
    start, end = partition.starts[index], partition.ends[index]
    walls, unread = _bytes_at_walls(chain, partition, index)
    is_last = index == len(partition.ends) - 1
    peak = Segments(chain).peak(start, Open(start, end, is_last), Room())
    return int(peak) + (unread if is_last else walls)


def segment_step(chain: Chain, i: int, mode: RecomputeMode) -> Pass:
    """The pass of unit ``i``, whatever segment it is in."""
    return unit_step(chain, i, 0, 0, mode=mode)


def segment_effect(chain: Chain, i: int, step: Pass, end: int) -> Effect:
    """The effect of a unit in a segment that ends before unit ``end``, run again.

    What the segment hands on is referenced until its backward is done, and so are the
    gradients that it was given, which `Segments.peak` counts.
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


def bytes_before_head(chain: Chain, partition: Partition, index: int) -> int:
    """Bytes alive in the forward pass behind a segment, without local heads."""
    end = partition.ends[index]
    _, unread = _bytes_at_walls(chain, partition, index + 1)
    outputs = sum(out.num_bytes for out in read_outputs(chain) if out.unit < end)
    return _base(chain) + outputs + unread


def _bytes_at_walls(chain: Chain, partition: Partition, index: int) -> tuple[int, int]:
    """What the walls before a segment keep alive, see `Segments.wall`.

    Returns:
        The bytes, and those of them that the last segment has not counted.
    """
    segments = Segments(chain)
    before = zip(partition.starts[:index], partition.ends[:index], strict=True)
    walls = [segments.wall(start, end) for start, end in before]
    return sum(new for _, new in walls), sum(unread for unread, _ in walls)


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

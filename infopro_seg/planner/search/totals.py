"""The memory and work of a partition: what the search minimises. Pure numbers."""

from collections.abc import Sequence

from .costs import Chain, Partition, Pass
from .memory import (
    base_bytes,
    carried_skips,
    crossing_skips,
    end_room,
    holds_start,
    module_peak,
    num_carried_skips,
    tail_step,
    unit_effect,
    unit_step,
    waiting_skips,
)
from .segments import repeated_flops, segment_peaks, segment_step


def module_peaks(chain: Chain, partition: Partition) -> tuple[int, ...]:
    """Most bytes alive while each module trains, everything included."""
    chain = chain.of(partition)
    if partition.is_exact:
        return segment_peaks(chain, partition)
    return tuple(peak_of(chain, partition, i) for i in range(len(partition.ends)))


def predicted_peak(chain: Chain, partition: Partition) -> int:
    """Most bytes alive in a training step of a plan."""
    at_step = optimizer_peak(chain, partition.heads)
    return max(*module_peaks(chain, partition), at_step)


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


def total_flops(chain: Chain, partition: Partition) -> int:
    """FLOPs of a training step of a plan."""
    chain = chain.of(partition)
    if partition.is_exact:
        return total_flops(chain, chain.whole) + extra_flops(chain, partition)
    return sum(module_flops(chain, partition))


def module_flops(chain: Chain, partition: Partition) -> tuple[int, ...]:
    """FLOPs of a training step of each module, heads included, between walls."""
    chain = chain.of(partition)
    return tuple(flops_of(chain, partition, i) for i in range(len(partition.ends)))


def flops_of(chain: Chain, partition: Partition, index: int) -> int:
    """FLOPs of a training step of one module."""
    start, end = partition.starts[index], partition.ends[index]
    is_last = index == len(partition.ends) - 1
    if is_last:
        readers = [r for r in chain.auxiliaries if chain.last_read(r) >= start]
        head = tail_step(chain, start, partition.tail_mode)
    else:
        readers = chain.attached(start, end)
        head = chain.heads[end - 1].step
    steps = [*module_steps(chain, partition, index), *(r.step for r in readers), head]
    return sum(step.flops for step in steps)


def extra_flops(chain: Chain, partition: Partition) -> int:
    """FLOPs that a plan adds to end-to-end training: local heads and what runs again.

    The gradients that no longer flow through walls are not deducted (`total_flops`
    does): they are no reason to cut where memory does not ask for it.
    """
    chain = chain.of(partition)
    return (
        sum(chain.heads[cut - 1].step.flops for cut in partition.heads)
        + (repeated_flops(chain, partition.starts[-1]) if partition.is_exact else 0)
        + sum(
            chain.units[i].passes.recompute_flops(mode)
            for i, mode in partition.recompute.items()
        )
        + chain.tail.recompute_flops(partition.tail_mode)
    )


def module_steps(chain: Chain, partition: Partition, index: int) -> list[Pass]:
    """The passes of the units of a module."""
    start, end = partition.starts[index], partition.ends[index]
    if partition.is_exact:
        return [segment_step(chain, i, partition.mode(i)) for i in range(start, end)]
    return [
        unit_step(
            chain, i, start, num_carried_skips(chain, i, start), mode=partition.mode(i)
        )
        for i in range(start, end)
    ]


def peak_of(chain: Chain, partition: Partition, index: int) -> int:
    """Most bytes alive while one module trains between walls."""
    start, end = partition.starts[index], partition.ends[index]
    is_last = index == len(partition.ends) - 1
    room = end_room(chain, start, end, partition.tail_mode if is_last else None)
    crossing = crossing_skips(chain, end)
    steps = module_steps(chain, partition, index)
    for i, step in reversed([*zip(range(start, end), steps, strict=True)]):
        effect = unit_effect(chain, i, step, end, is_last=is_last, crossing=crossing)
        effect = effect.taking(carried_skips(chain, i, start))
        room = room.arrive(i).before(effect).wait(waiting_skips(chain, i, start))
    is_held = holds_start(chain, start, is_last=is_last, crossing=crossing)
    base = base_bytes(chain, start, partition.ends[:-1])
    return int(module_peak(room, base, is_last=is_last, is_held=is_held))

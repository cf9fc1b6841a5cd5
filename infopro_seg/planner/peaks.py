"""The memory and work of a partition, added up from its links. Pure numbers.

`module_peaks` and `extra_flops` define what `partition` optimises.
"""

from collections.abc import Sequence

from .costs import Chain, Partition, Pass
from .room import (
    carried_skips,
    crossing_skips,
    end_room,
    holds_start,
    num_carried_skips,
    tail_step,
    unit_effect,
    unit_step,
    waiting_skips,
)


def base_bytes(chain: Chain, start: int, cuts: Sequence[int]) -> tuple[int, int]:
    """Bytes alive as the module that starts at a unit begins.

    Args:
        chain: Costs.
        start: Index of the module's first unit.
        cuts: All cuts of the plan, as indices of the unit behind.

    Returns:
        Everything but weight casts, and the weight casts of earlier modules.
    """
    before = [r.step for r in chain.auxiliaries if chain.last_read(r) < start]
    before += [chain.heads[cut - 1].step for cut in cuts if cut <= start]
    total = (
        chain.start_bytes
        + round(chain.optimizer_factor * chain.parameter_bytes)
        + sum(chain.head_state_bytes(cut) for cut in cuts)
        + chain.grads_before[start]
        + sum(step.grads for step in before)
        + chain.carried_bytes(start)
    )
    return total, chain.casts_before[start] + sum(step.casts for step in before)


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
    chain = chain.of(partition)
    return tuple(_module_peak(chain, partition, i) for i in range(len(partition.ends)))


def predicted_peak(chain: Chain, partition: Partition) -> int:
    """Most bytes alive in a training step of a plan."""
    cuts = partition.ends[:-1]
    return max(*module_peaks(chain, partition), optimizer_peak(chain, cuts))


def total_flops(chain: Chain, partition: Partition) -> int:
    """FLOPs of a training step of a plan."""
    chain = chain.of(partition)
    tail = tail_step(chain, partition.starts[-1], partition.tail_mode)
    return (
        sum(
            step.flops
            for index in range(len(partition.ends))
            for step in module_steps(chain, partition, index)
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
    chain = chain.of(partition)
    return (
        sum(chain.heads[cut - 1].step.flops for cut in partition.ends[:-1])
        + sum(
            chain.units[i].passes.recompute_flops(mode)
            for i, mode in partition.recompute.items()
        )
        + chain.tail.recompute_flops(partition.tail_mode)
    )


def module_steps(chain: Chain, partition: Partition, index: int) -> list[Pass]:
    """The passes of the units of a module."""
    start, end = partition.starts[index], partition.ends[index]
    return [
        unit_step(
            chain, i, start, num_carried_skips(chain, i, start), mode=partition.mode(i)
        )
        for i in range(start, end)
    ]


def _module_peak(chain: Chain, partition: Partition, index: int) -> int:
    start, end = partition.starts[index], partition.ends[index]
    is_last = index == len(partition.ends) - 1
    room = end_room(chain, start, end, partition.tail_mode if is_last else None)
    crossing = crossing_skips(chain, end)
    steps = module_steps(chain, partition, index)
    for i, step in reversed([*zip(range(start, end), steps, strict=True)]):
        effect = unit_effect(chain, i, step, end, is_last=is_last, crossing=crossing)
        effect = effect.taking(carried_skips(chain, i, start))
        room = room.arrive(i).before(effect).wait(waiting_skips(chain, i, start))
    base, casts = base_bytes(chain, start, partition.ends[:-1])
    backward = room.backward
    if holds_start(chain, start, is_last=is_last, crossing=crossing):
        backward = room.held
    if is_last:
        return base + max(room.forward + casts, backward)
    return base + casts + max(room.forward, backward)

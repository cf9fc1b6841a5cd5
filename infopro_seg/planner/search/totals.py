"""The memory and work of a partition: what the search minimises. Pure numbers."""

import dataclasses
from collections.abc import Sequence

from ...settings.plan import PlannedModule
from ...settings.recompute_mode import DECODE_HEAD
from .costs import AuxiliaryCost, Chain, Partition, Pass
from .local_modules import LocalModules, base_bytes, optimizer_peak
from .memory import Room, effect_of, num_carried_skips, tail_step, unit_step
from .segments import (
    base_of_segment,
    bytes_before_head,
    repeated_flops,
    segment_peaks,
    segment_step,
)


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
    heads, _ = _heads_of(chain, partition, index)
    steps = [*module_steps(chain, partition, index), *heads]
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
    modules, start = LocalModules(chain), partition.starts[index]
    opened, room = modules.folded(partition, index)
    return int(modules.peak(start, opened, room, partition.ends[:-1]))


def peak_every_nth(chain: Chain, partition: Partition) -> int:
    """Most bytes alive in any step.

    Args:
        chain: Costs.
        partition: The local modules, which are the segments of exact steps.
    """
    return max(predicted_peak(chain, partition), _exact_peak(chain, partition))


def flops_every_nth(chain: Chain, partition: Partition, period: int) -> tuple[int, int]:
    """FLOPs of a step on average: what is added to end-to-end training, and all.

    Never too few. The gradients of the maps that local heads read are counted in exact
    steps, too, which do not need them.

    Args:
        chain: Costs.
        partition: The local modules, which are the segments of exact steps.
        period: Every so many steps one is exact.
    """
    exact = dataclasses.replace(partition, is_exact=True)
    heads = sum(chain.heads[cut - 1].step.flops for cut in partition.heads)
    extra, total = (
        ((period - 1) * flops(chain, partition) + flops(chain, exact) + heads) // period
        for flops in (extra_flops, total_flops)
    )
    return extra, total


def _exact_peak(chain: Chain, partition: Partition) -> int:
    """Most bytes alive in an exact step with local heads."""
    uncut, exact = chain.uncut, dataclasses.replace(partition, is_exact=True)
    state = sum(chain.head_state_bytes(cut) for cut in partition.heads)
    steps = [chain.heads[cut - 1].step for cut in partition.heads]
    left = sum(step.grads + step.casts for step in steps)
    peaks = [peak + left for peak in segment_peaks(uncut, exact)]
    trained = 0
    for index, step in enumerate(steps):
        room = Room().before(effect_of(step, outlives_autocast=False))
        alive = bytes_before_head(uncut, exact, index) + trained
        peaks.append(int(alive + max(room.forward, room.backward)))
        trained += step.grads + step.casts
    return state + max(peaks)


def described_modules(chain: Chain, partition: Partition) -> tuple[PlannedModule, ...]:
    """One description per module; shares are those of end-to-end training."""
    whole = chain.whole
    whole_peak = module_peaks(chain, whole)[0]
    whole_flops = total_flops(chain, whole)
    return tuple(
        _described(chain, partition, i, peak, whole_peak, whole_flops)
        for i, peak in enumerate(module_peaks(chain, partition))
    )


def spelled_recompute(chain: Chain, partition: Partition) -> tuple[str, ...]:
    """What ``recompute=[...]`` asks for, to recompute as a partition says."""
    modes = [(chain.units[i].name, m) for i, m in sorted(partition.recompute.items())]
    modes.append((DECODE_HEAD, partition.tail_mode))
    return tuple(mode.spelled(name) for name, mode in modes if mode)


def _described(
    chain: Chain,
    partition: Partition,
    index: int,
    peak: int,
    whole_peak: int,
    whole_flops: int,
) -> PlannedModule:
    chain = chain.of(partition)
    start, end = partition.starts[index], partition.ends[index]
    is_last = index == len(partition.ends) - 1
    units = chain.units[start:end]
    recomputed = [i for i in range(start, end) if i in partition.recompute]
    heads, extra = _heads_of(chain, partition, index)
    extra += sum(
        chain.units[i].passes.recompute_flops(partition.mode(i)) for i in recomputed
    )
    parameter_bytes = sum(unit.parameter_bytes for unit in units)
    if is_last:
        in_units = sum(unit.parameter_bytes for unit in chain.units)
        parameter_bytes += max(0, chain.parameter_bytes - in_units)
    has_local_head = not is_last and not partition.is_exact
    return PlannedModule(
        name=f'local_{index}',
        units=(units[0].name, units[-1].name) if units else (),
        num_units=len(units),
        parameter_bytes=parameter_bytes,
        head_parameter_bytes=chain.heads[end - 1].parameter_bytes * has_local_head,
        start_bytes=(
            base_of_segment(chain, partition, index)
            if partition.is_exact
            else sum(base_bytes(chain, start, partition.heads))
        ),
        activation_bytes=sum(
            step.kept for step in module_steps(chain, partition, index)
        ),
        head_bytes=sum(step.kept for step in heads),
        peak_bytes=peak,
        share=peak / whole_peak,
        recompute=tuple(
            partition.mode(i).spelled(chain.units[i].name) for i in recomputed
        ),
        extra_flops=extra / whole_flops,
    )


def _heads_of(chain: Chain, partition: Partition, index: int) -> tuple[list[Pass], int]:
    """All heads that a module trains, and the FLOPs that its end adds."""
    start, end = partition.starts[index], partition.ends[index]
    readers: Sequence[AuxiliaryCost] = chain.attached(start, end)
    if index == len(partition.ends) - 1:
        readers = chain.auxiliaries if partition.is_exact else readers
        head = tail_step(chain, start, partition.tail_mode)
        extra = chain.tail.recompute_flops(partition.tail_mode)
    elif partition.is_exact:
        return [], repeated_flops(chain, end, start)
    else:
        head = chain.heads[end - 1].step
        extra = head.flops
    return [head, *(reader.step for reader in readers)], extra

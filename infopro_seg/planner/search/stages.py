"""Local modules for a pipeline, one to a stage. Pure numbers.

A stage has the weights of the whole network, the optimizer's state of its own module,
and maps under way to it and from it.
"""

import dataclasses

import numpy as np

from ...settings.recompute_mode import RecomputeMode
from ...settings.splits import evenest_ends
from .costs import Chain, Partition
from .totals import flops_of, module_flops, peak_of

_MODES = (RecomputeMode.NOTHING, RecomputeMode.WHOLE)


@dataclasses.dataclass(frozen=True)
class Stage:
    """What one stage of a pipeline does and needs.

    Args:
        units: Names of its first and last unit; empty for the decode head alone.
        flops: Of one step.
        forward_flops: Of them, those before its output can be sent.
        peak_bytes: Most bytes alive, maps under way included.
        message_bytes: What it sends to the next stage, per step.
    """

    units: tuple[str, ...]
    flops: int
    forward_flops: int
    peak_bytes: int
    message_bytes: int


def balanced_partition(
    chain: Chain, num_stages: int, *, budget: int | None = None, queue: int = 2
) -> Partition | None:
    """Cut into as many modules as stages, so that the slowest is as fast as possible.

    Args:
        chain: Costs.
        num_stages: P, at least 2.
        budget: Bytes of each device. A module that needs more recomputes its units.
        queue: Batches that may be under way between two stages.

    Returns:
        The partition; None if nothing fits.

    Raises:
        ValueError: if there are fewer units than stages.
    """
    num_units = len(chain.units)
    if not 2 <= num_stages <= num_units:
        raise ValueError(
            f'--pipeline {num_stages}: this network of {num_units} units can have 2 '
            f'to {num_units} stages.'
        )
    costs = np.full((num_units + 1, num_units + 2), np.inf)
    modes: dict[tuple[int, int], RecomputeMode] = {}
    # A stage that does more than this is in no partition worth having.
    most = 2 * sum(module_flops(chain, chain.whole)) / num_stages
    for start in range(num_units):
        for end in range(start + 1, num_units + 1):
            is_last = end == num_units
            if not _can_train(chain, start, end):
                continue
            for mode in _MODES:
                partition = _around(chain, start, end, mode)
                index = partition.starts.index(start)
                flops = flops_of(chain, partition, index)
                if flops > most and not is_last:
                    break
                if budget is None or (
                    stage_of(chain, partition, index, queue).peak_bytes <= budget
                ):
                    costs[start, num_units + 1 if is_last else end] = flops
                    modes[start, end] = mode
                    break
    ends = evenest_ends(costs, num_stages)
    cuts = (*ends[:-1], num_units)
    if any((a, b) not in modes for a, b in zip((0, *cuts[:-1]), cuts, strict=True)):
        return None
    recompute = {
        unit: modes[start, end]
        for start, end in zip((0, *cuts[:-1]), cuts, strict=True)
        for unit in range(start, end)
        if modes[start, end] is not RecomputeMode.NOTHING
    }
    return Partition(cuts, recompute)


def stages_of(chain: Chain, partition: Partition, queue: int = 2) -> list[Stage]:
    """What the stages of a partition do and need."""
    return [stage_of(chain, partition, i, queue) for i in range(len(partition.ends))]


def stage_of(chain: Chain, partition: Partition, index: int, queue: int) -> Stage:
    """What one stage does and needs.

    Args:
        chain: Costs.
        partition: One module to a stage.
        index: Of the stage.
        queue: See `balanced_partition`.
    """
    start, end = partition.starts[index], partition.ends[index]
    is_last = index == len(partition.ends) - 1
    units = chain.units[start:end]
    forward = chain.forward_flops_before
    flops = flops_of(chain, partition, index)
    sent = 0 if is_last else chain.carried_bytes(end)
    own = sum(unit.parameter_bytes for unit in units)
    if is_last:
        own += chain.parameter_bytes - sum(u.parameter_bytes for u in chain.units)
    # The prediction for one process has the state of all modules.
    state = round(chain.optimizer_factor * (chain.parameter_bytes - own))
    return Stage(
        units=(units[0].name, units[-1].name) if units else (),
        flops=flops,
        forward_flops=flops if is_last else forward[end] - forward[start],
        peak_bytes=peak_of(chain, partition, index) - state + queue * sent,
        message_bytes=sent,
    )


def _can_train(chain: Chain, start: int, end: int) -> bool:
    is_last = end == len(chain.units)
    return is_last or any(unit.is_trainable for unit in chain.units[start:end])


def _around(chain: Chain, start: int, end: int, mode: RecomputeMode) -> Partition:
    """The partition whose only cuts are those around a module."""
    ends = sorted({start, end, len(chain.units)} - {0})
    is_plain = mode is RecomputeMode.NOTHING
    recompute = {} if is_plain else dict.fromkeys(range(start, end), mode)
    return Partition(tuple(ends), recompute)

"""Plans pipelines of local modules, one to a stage, beside data parallel training.

A stage has the weights of the whole network, the optimizer's state of its own module,
and maps under way to it and from it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..settings.recompute_mode import RecomputeMode
from ..settings.splits import evenest_ends
from .make import Setting
from .search.costs import Chain, Partition
from .search.totals import (
    flops_of,
    module_flops,
    peak_of,
    predicted_peak,
    spelled_recompute,
)

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


@dataclasses.dataclass(frozen=True)
class PipelinePlan:
    """Stages for a number of devices, and data parallel training on as many.

    Args:
        splits: Names of the last units of all stages but the last.
        recompute: As in the ``local`` setting.
        stages: What each does and needs.
        parallel_peak_bytes: Most bytes on a device that trains the same modules, one
            after the other, on its share of the batch. None if the batch cannot be
            divided.
        gradient_bytes: What each device of data parallel training sends and receives
            per step, of each direction.
    """

    splits: tuple[str, ...]
    recompute: tuple[str, ...]
    stages: tuple[Stage, ...]
    parallel_peak_bytes: int | None
    gradient_bytes: int


def plan_pipeline(
    setting: Setting, num_stages: int, *, budget: int | None = None, queue: int = 2
) -> PipelinePlan | None:
    """Cut a network for a pipeline of one module a stage.

    Args:
        setting: What is to be trained; its batch passes through all stages.
        num_stages: P.
        budget: Bytes of each device for the model.
        queue: Batches that may be under way between two stages.

    Returns:
        The plan; None if nothing fits.

    Raises:
        ValueError: if the network has too few units.
    """
    chain = setting.measured()
    partition = balanced_partition(chain, num_stages, budget=budget, queue=queue)
    if partition is None:
        return None
    weights = chain.parameter_bytes
    return PipelinePlan(
        splits=chain.splits(partition),
        recompute=spelled_recompute(chain, partition),
        stages=tuple(stages_of(chain, partition, queue)),
        parallel_peak_bytes=_parallel_peak(setting, num_stages, partition),
        # A ring sends each gradient twice, but for the own share of it.
        gradient_bytes=round(2 * (num_stages - 1) / num_stages * weights),
    )


def module_costs(setting: Setting, splits: Sequence[str]) -> tuple[int, ...]:
    """FLOPs of each local module of a network that is cut already."""
    chain = setting.measured()
    return module_flops(chain, chain.cut_after(splits))


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


def _parallel_peak(
    setting: Setting, num_devices: int, partition: Partition
) -> int | None:
    share, rest = divmod(setting.batch_size, num_devices)
    if rest:
        return None
    chain = dataclasses.replace(setting, batch_size=share).measured()
    return predicted_peak(chain, partition)

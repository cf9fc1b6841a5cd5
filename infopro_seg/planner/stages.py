"""Plans pipelines, and what data parallel training would need."""

import dataclasses
from collections.abc import Sequence

from .make import Setting
from .search.costs import Partition
from .search.describe import spelled_recompute
from .search.stages import Stage, balanced_partition, stages_of
from .search.totals import module_flops, predicted_peak


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


def _parallel_peak(
    setting: Setting, num_devices: int, partition: Partition
) -> int | None:
    share, rest = divmod(setting.batch_size, num_devices)
    if rest:
        return None
    chain = dataclasses.replace(setting, batch_size=share).measured()
    return predicted_peak(chain, partition)

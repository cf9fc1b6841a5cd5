"""Which stage trains which local modules."""

import warnings
from typing import Any

from mmengine.config import Config
from torch import distributed

from ..models import InfoProEncoderDecoder
from ..planner.from_config import setting_of_run
from ..planner.pipeline import module_costs
from ..settings.splits import stage_ranges
from .schedule import balanced_stages


def divide(model: InfoProEncoderDecoder, cfg: Config) -> tuple[range, ...]:
    """The local modules of each stage.

    If the ``local`` setting gives the number of stages alone, and there are more
    modules, the slowest stage is to be as fast as possible, by FLOPs of the batch.

    Args:
        model: The whole network.
        cfg: Config of the run.

    Raises:
        ValueError: if there are fewer modules than stages, or if their numbers do not
            add up.
    """
    num_modules = len(model.local_modules)
    ranges = stage_ranges(model.pipeline or 1, num_modules)
    if not isinstance(model.pipeline, int) or num_modules == len(ranges):
        return ranges
    # One process measures, so that no two can decide differently.
    sizes: list[Any] = [None]
    if distributed.get_rank() == 0:
        sizes = [_balanced(model, cfg, ranges)]
    distributed.broadcast_object_list(sizes)
    return stage_ranges(sizes[0], num_modules)


def _balanced(
    model: InfoProEncoderDecoder, cfg: Config, even: tuple[range, ...]
) -> tuple[int, ...]:
    try:
        costs = module_costs(setting_of_run(cfg), model.local['splits'])
    except (ValueError, RuntimeError) as error:
        warnings.warn(
            f'pipeline={len(even)} gives its stages as many modules each: what '
            f'they cost could not be measured ({error}). To divide them otherwise, '
            'give the numbers, such as pipeline=[3, 1].',
            stacklevel=2,
        )
        return tuple(len(stage) for stage in even)
    return balanced_stages(costs, len(even))

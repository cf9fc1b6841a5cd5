"""Turns any setting of where to cut into the names of the splits."""

from collections.abc import Sequence
from typing import Any

from ..settings import LocalSettings
from ..settings.splits import check_splits
from ..units import Unit
from .even_modules import even_module_splits
from .probe import Probe


def resolve_splits(
    network: Any, settings: LocalSettings, units: Sequence[Unit], probe: Probe
) -> tuple[str, ...]:
    """The names of the last units of all modules but the last.

    Args:
        network: A segmentor that is complete except for its local heads.
        settings: Its ``local`` setting.
        units: The units of its backbone.
        probe: The probe of its backbone.

    Raises:
        ValueError: if a split is no unit of this backbone, if there are too few units,
            if a plan is of another network, or if splits depend on a GPU's memory.
    """
    names = [unit.name for unit in units]
    if settings.gpu_memory is not None:
        raise ValueError(
            'local.gpu_memory is turned into splits by tools/train.py, which knows the '
            'batch. Elsewhere write a plan with tools/plan.py --gpu-memory and set '
            'local=dict(plan=...).'
        )
    if settings.num_modules is not None:
        return even_module_splits(network, settings, units, probe)
    if settings.plan is not None:
        mismatch = settings.plan.mismatch(unit_names=names)
        if mismatch is not None:
            raise ValueError(mismatch)
        return settings.plan.splits
    splits = settings.splits or ()
    check_splits(names, splits)
    return splits

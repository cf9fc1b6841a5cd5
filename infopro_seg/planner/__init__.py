"""Predicts the memory of a training step and chooses the local modules.

``profile`` measures on fake tensors, ``search`` decides on pure numbers, ``make`` puts
both together; the rest is in their service. Nothing of it needs a GPU.
"""

from ..settings.plan import Plan, PlannedModule
from ..settings.sizes import parse_bytes

__all__ = ['Plan', 'PlannedModule', 'parse_bytes']

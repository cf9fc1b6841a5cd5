"""What backbones are made of; importing it registers every supported family."""

from . import mobilenet, resnet  # noqa: F401
from .base import (
    State,
    Unit,
    describes,
    fold,
    run_submodule,
    submodule_unit,
    supported_backbones,
    units_of,
)

__all__ = [
    'State',
    'Unit',
    'describes',
    'fold',
    'run_submodule',
    'submodule_unit',
    'supported_backbones',
    'units_of',
]

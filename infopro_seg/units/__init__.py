"""Units of backbones; importing this registers every supported family."""

from . import (  # noqa: F401
    beit,
    convnext,
    erfnet,
    hrnet,
    mit,
    mobilenet,
    mscan,
    poolformer,
    resnet,
    stdc,
    swin,
    timm_backbone,
    twins,
    unet,
    vit,
)
from .base import (
    Unit,
    describes,
    describes_optional,
    fold,
    parameters_of,
    run_submodule,
    submodule_unit,
    supported_backbones,
    units_of,
)
from .state import State

__all__ = [
    'State',
    'Unit',
    'describes',
    'describes_optional',
    'fold',
    'parameters_of',
    'run_submodule',
    'submodule_unit',
    'supported_backbones',
    'units_of',
]

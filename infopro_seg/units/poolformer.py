"""Units of mmpretrain's PoolFormer: one per block and one per down-sampling."""

from typing import Any

from torch import nn

from .base import Unit, describes_optional, submodule_unit
from .convnext import normed_unit


@describes_optional('mmpretrain.models.backbones.poolformer.PoolFormer')
def poolformer_units(backbone: Any) -> tuple[Unit, ...]:
    """PoolFormer; stage outputs are normalised copies."""
    units = [submodule_unit('patch_embed')]
    for i, part in enumerate(backbone.network):
        paths = [f'network.{i}']
        if isinstance(part, nn.Sequential):
            paths = [f'network.{i}.{j}' for j in range(len(part))]
        units += [submodule_unit(path) for path in paths[:-1]]
        emits = i in backbone.out_indices
        units.append(normed_unit(paths[-1], f'norm{i}' if emits else None))
    return tuple(units)

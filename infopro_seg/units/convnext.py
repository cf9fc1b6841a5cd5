"""Units of mmpretrain's ConvNeXt: one per down-sampling and one per block."""

import functools
from typing import Any

from .base import Unit, describes_optional, submodule_unit
from .state import State


@describes_optional('mmpretrain.models.backbones.convnext.ConvNeXt')
def convnext_units(backbone: Any) -> tuple[Unit, ...]:
    """ConvNeXt; stage outputs are normalised copies.

    Raises:
        ValueError: if the outputs are pooled to vectors.
    """
    if backbone.gap_before_final_norm:
        raise ValueError(
            'ConvNeXt with gap_before_final_norm=True gives vectors, not maps. Set '
            'gap_before_final_norm=False in the backbone.'
        )
    units = []
    for i, stage in enumerate(backbone.stages):
        units.append(submodule_unit(f'downsample_layers.{i}'))
        for j in range(len(stage)):
            path = f'stages.{i}.{j}'
            emits = i in backbone.out_indices and j == len(stage) - 1
            units.append(normed_unit(path, f'norm{i}' if emits else None))
    return tuple(units)


def normed_unit(path: str, norm: str | None) -> Unit:
    """A unit that is one submodule and emits its map through a norm layer, if given."""
    if norm is None:
        return submodule_unit(path)
    run = functools.partial(_run_normed, path=path, norm=norm)
    return Unit(path, run, owns=(path, norm))


def _run_normed(backbone: Any, state: State, *, path: str, norm: str) -> State:
    x = backbone.get_submodule(path)(state.x)
    return state.step(x).emit(backbone.get_submodule(norm)(x))

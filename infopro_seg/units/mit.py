"""Units of MiT, the backbone of SegFormer: patch embeddings and encoder layers."""

import functools
from typing import Any

from mmseg.models.backbones.mit import MixVisionTransformer

from .base import Unit, describes
from .state import State


@describes(MixVisionTransformer)
def mit_units(backbone: MixVisionTransformer) -> tuple[Unit, ...]:
    """MiT; the last layer of a stage also normalises it and lays it out as a map."""
    units = []
    for i, (_, blocks, _) in enumerate(backbone.layers):
        embed = f'layers.{i}.0'
        units.append(Unit(embed, functools.partial(_embed, path=embed)))
        paths = [f'layers.{i}.1.{j}' for j in range(len(blocks))]
        units += [
            Unit(path, functools.partial(_run_block, path=path)) for path in paths[:-1]
        ]
        norm = f'layers.{i}.2'
        run = functools.partial(
            _end_stage, path=paths[-1], norm=norm, emits=i in backbone.out_indices
        )
        units.append(Unit(paths[-1], run, owns=(paths[-1], norm)))
    return tuple(units)


def _embed(backbone: Any, state: State, *, path: str) -> State:
    return state.on_grid(*backbone.get_submodule(path)(state.x))


def _run_block(backbone: Any, state: State, *, path: str) -> State:
    return state.step(backbone.get_submodule(path)(state.x, state.grid))


def _end_stage(
    backbone: Any, state: State, *, path: str, norm: str, emits: bool
) -> State:
    tokens = _run_block(backbone, state, path=path).x
    feature_map = state.as_map(backbone.get_submodule(norm)(tokens))
    state = state.on_grid(feature_map, None)
    return state.emit(state.x) if emits else state

"""Units of Twins (PCPVT and SVT): patch embeddings and encoder layers."""

import functools
from typing import Any

from mmseg.models.backbones.twins import PCPVT

from .base import Unit, describes
from .state import State


@describes(PCPVT)
def twins_units(backbone: PCPVT) -> tuple[Unit, ...]:
    """PCPVT and SVT; positions are encoded after the first layer of a stage."""
    units = []
    for i, blocks in enumerate(backbone.layers):
        embed = f'patch_embeds.{i}'
        units.append(Unit(embed, functools.partial(_embed, stage=i)))
        for j in range(len(blocks)):
            path = f'layers.{i}.{j}'
            is_last = j == len(blocks) - 1
            owns = [path]
            if j == 0:
                owns.append(f'position_encodings.{i}')
            if is_last:
                owns.append(f'norm_list.{i}')
            run = functools.partial(_run_block, stage=i, index=j, ends=is_last)
            units.append(Unit(path, run, owns=tuple(owns)))
    return tuple(units)


def _embed(backbone: Any, state: State, *, stage: int) -> State:
    tokens, grid = backbone.patch_embeds[stage](state.x)
    return state.on_grid(backbone.position_encoding_drops[stage](tokens), grid)


def _run_block(
    backbone: Any, state: State, *, stage: int, index: int, ends: bool
) -> State:
    tokens = backbone.layers[stage][index](state.x, state.grid)
    if index == 0:
        tokens = backbone.position_encodings[stage](tokens, state.grid)
    if not ends:
        return state.step(tokens)
    if backbone.norm_after_stage:
        tokens = backbone.norm_list[stage](tokens)
    feature_map = state.as_map(tokens).contiguous()
    state = state.on_grid(feature_map, None)
    return state.emit(feature_map) if stage in backbone.out_indices else state

"""Units of Swin: patch embedding, then one per block and one per down-sampling."""

import functools
from typing import Any

from mmseg.models.backbones.swin import SwinTransformer

from .base import Unit, describes
from .state import State


@describes(SwinTransformer)
def swin_units(backbone: SwinTransformer) -> tuple[Unit, ...]:
    """Swin; stage outputs are normalised copies, taken before the down-sampling."""
    units = [Unit('patch_embed', _embed, owns=('patch_embed', 'absolute_pos_embed'))]
    for i, stage in enumerate(backbone.stages):
        for j in range(len(stage.blocks)):
            path = f'stages.{i}.blocks.{j}'
            emits = i in backbone.out_indices and j == len(stage.blocks) - 1
            norm = f'norm{i}' if emits else None
            run = functools.partial(_run_block, path=path, norm=norm)
            units.append(Unit(path, run, owns=(path, norm) if norm else ()))
        if stage.downsample:
            path = f'stages.{i}.downsample'
            units.append(Unit(path, functools.partial(_run_downsample, path=path)))
    return tuple(units)


def _embed(backbone: Any, state: State) -> State:
    tokens, grid = backbone.patch_embed(state.x)
    if backbone.use_abs_pos_embed:
        tokens = tokens + backbone.absolute_pos_embed
    return state.on_grid(backbone.drop_after_pos(tokens), grid)


def _run_block(backbone: Any, state: State, *, path: str, norm: str | None) -> State:
    state = state.step(backbone.get_submodule(path)(state.x, state.grid))
    if norm is None:
        return state
    output = backbone.get_submodule(norm)(state.x)
    return state.emit(state.as_map(output).contiguous())


def _run_downsample(backbone: Any, state: State, *, path: str) -> State:
    return state.on_grid(*backbone.get_submodule(path)(state.x, state.grid))

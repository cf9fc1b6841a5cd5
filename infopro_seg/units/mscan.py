"""Units of MSCAN, the backbone of SegNeXt: patch embeddings and attention blocks."""

import functools
from typing import Any

from mmseg.models.backbones.mscan import MSCAN

from .base import Unit, describes
from .state import State


@describes(MSCAN)
def mscan_units(backbone: MSCAN) -> tuple[Unit, ...]:
    """MSCAN; the last block of a stage also normalises and emits it."""
    units = []
    for i in range(1, backbone.num_stages + 1):
        embed = f'patch_embed{i}'
        units.append(Unit(embed, functools.partial(_embed, path=embed)))
        num_blocks = len(getattr(backbone, f'block{i}'))
        for j in range(num_blocks):
            path = f'block{i}.{j}'
            norm = f'norm{i}' if j == num_blocks - 1 else None
            run = functools.partial(_run_block, path=path, norm=norm)
            units.append(Unit(path, run, owns=(path, norm) if norm else ()))
    return tuple(units)


def _embed(backbone: Any, state: State, *, path: str) -> State:
    tokens, rows, columns = backbone.get_submodule(path)(state.x)
    return state.on_grid(tokens, (rows, columns))


def _run_block(backbone: Any, state: State, *, path: str, norm: str | None) -> State:
    tokens = backbone.get_submodule(path)(state.x, *(state.grid or ()))
    if norm is None:
        return state.step(tokens)
    tokens = backbone.get_submodule(norm)(tokens)
    feature_map = state.as_map(tokens).contiguous()
    return state.on_grid(feature_map, None).emit(feature_map)

"""Units of ViT: embedding, then one unit per encoder layer."""

import functools
from typing import Any

import torch
from mmseg.models.backbones.vit import VisionTransformer
from torch import Tensor

from ..compat import with_positions
from .base import Unit, describes
from .state import State


@describes(VisionTransformer)
def vit_units(backbone: VisionTransformer) -> tuple[Unit, ...]:
    """ViT with or without class token; a map and its class token are one output."""
    owns = ['patch_embed', 'cls_token', 'pos_embed']
    if backbone.pre_norm:
        owns.append(backbone.pre_ln_name)
    return (Unit('patch_embed', _embed, owns=tuple(owns)), *layer_units(backbone))


def layer_units(backbone: Any) -> tuple[Unit, ...]:
    """One unit per encoder layer; the last also runs the final norm, if any."""
    last = len(backbone.layers) - 1
    units = []
    for i in range(last + 1):
        path = f'layers.{i}'
        norm = backbone.norm1_name if i == last and backbone.final_norm else None
        run = functools.partial(
            _run_layer, path=path, norm=norm, emits=i in backbone.out_indices
        )
        units.append(Unit(path, run, owns=(path, norm) if norm else ()))
    return tuple(units)


def _embed(backbone: Any, state: State) -> State:
    tokens, grid = backbone.patch_embed(state.x)
    class_token = backbone.cls_token.expand(tokens.shape[0], -1, -1)
    tokens = torch.cat((class_token, tokens), dim=1)
    tokens = with_positions(backbone, tokens, grid)
    if not backbone.with_cls_token:
        tokens = tokens[:, 1:]
    if backbone.pre_norm:
        tokens = backbone.pre_ln(tokens)
    state = state.on_grid(tokens, grid)
    return _emit(backbone, state, tokens) if backbone.out_origin else state


def _run_layer(
    backbone: Any, state: State, *, path: str, norm: str | None, emits: bool
) -> State:
    tokens = backbone.get_submodule(path)(state.x)
    if norm is not None:
        tokens = backbone.get_submodule(norm)(tokens)
    state = state.step(tokens)
    return _emit(backbone, state, tokens) if emits else state


def _emit(backbone: Any, state: State, tokens: Tensor) -> State:
    feature_map = state.as_map(tokens).contiguous()
    if getattr(backbone, 'output_cls_token', False):
        return state.emit((feature_map, tokens[:, 0]))
    return state.emit(feature_map)

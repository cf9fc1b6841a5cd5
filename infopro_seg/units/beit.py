"""Units of BEiT: embedding, then one unit per encoder layer."""

from typing import Any

import torch
from mmseg.models.backbones.beit import BEiT

from .base import Unit, describes
from .state import State
from .vit import layer_units


@describes(BEiT)
def beit_units(backbone: BEiT) -> tuple[Unit, ...]:
    """BEiT; positions are relative and belong to the layers."""
    embed = Unit('patch_embed', _embed, owns=('patch_embed', 'cls_token'))
    return (embed, *layer_units(backbone))


def _embed(backbone: Any, state: State) -> State:
    tokens, grid = backbone.patch_embed(state.x)
    class_token = backbone.cls_token.expand(tokens.shape[0], -1, -1)
    return state.on_grid(torch.cat((class_token, tokens), dim=1), grid)

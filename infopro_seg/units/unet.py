"""Units of U-Net: encoder stages down, decoder stages up."""

import functools
from typing import Any

from mmseg.models.backbones.unet import UNet

from ..compat import check_divisible
from .base import Unit, describes
from .state import State


@describes(UNet)
def unet_units(backbone: UNet) -> tuple[Unit, ...]:
    """U-Net; a skip stays in the state until its decoder stage pops it."""
    last = len(backbone.encoder) - 1
    down = [
        Unit(f'encoder.{i}', functools.partial(_encode, stage=i, is_last=i == last))
        for i in range(last + 1)
    ]
    up = [
        Unit(f'decoder.{i}', functools.partial(_decode, stage=i))
        for i in reversed(range(last))
    ]
    return (*down, *up)


def _encode(backbone: Any, state: State, *, stage: int, is_last: bool) -> State:
    if stage == 0:
        check_divisible(backbone, state.x)
    state = state.step(backbone.encoder[stage](state.x), emits=is_last)
    return state if is_last else state.push(state.x)


def _decode(backbone: Any, state: State, *, stage: int) -> State:
    skip, state = state.pop()
    return state.step(backbone.decoder[stage](skip, state.x), emits=True)

"""Units of the ResNet family: the stem, then one unit per residual block."""

from typing import Any

from mmseg.models.backbones.resnet import ResNet

from .base import Unit, describes, submodule_unit
from .state import State


@describes(ResNet)
def resnet_units(backbone: ResNet) -> tuple[Unit, ...]:
    """ResNet, V1c, V1d, ResNeXt and ResNeSt: all keep ResNet's ``forward``."""
    units = [_stem_unit(backbone)]
    for stage, layer_name in enumerate(backbone.res_layers):
        blocks = [name for name, _ in getattr(backbone, layer_name).named_children()]
        units += [
            submodule_unit(
                f'{layer_name}.{block}',
                emits=stage in backbone.out_indices and block == blocks[-1],
            )
            for block in blocks
        ]
    return tuple(units)


def _stem_unit(backbone: ResNet) -> Unit:
    if backbone.deep_stem:
        return Unit('stem', _run_deep_stem)
    return Unit('conv1', _run_plain_stem, owns=('conv1', backbone.norm1_name))


def _run_deep_stem(backbone: Any, state: State) -> State:
    return state.step(backbone.maxpool(backbone.stem(state.x)))


def _run_plain_stem(backbone: Any, state: State) -> State:
    x = backbone.relu(backbone.norm1(backbone.conv1(state.x)))
    return state.step(backbone.maxpool(x))

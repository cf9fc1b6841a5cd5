"""Units of MobileNetV2 and V3: the stem, then one per inverted residual block."""

import dataclasses
import functools
from typing import Any

from mmseg.models.backbones.mobilenet_v2 import MobileNetV2
from mmseg.models.backbones.mobilenet_v3 import MobileNetV3

from .base import Run, Unit, describes, submodule_unit
from .state import State


@describes(MobileNetV2)
def mobilenet_v2_units(backbone: MobileNetV2) -> tuple[Unit, ...]:
    """MobileNetV2; with a single output index it returns a bare tensor."""
    units = [submodule_unit('conv1')]
    for stage, layer_name in enumerate(backbone.layers):
        blocks = [name for name, _ in getattr(backbone, layer_name).named_children()]
        units += [
            submodule_unit(
                f'{layer_name}.{block}',
                emits=stage in backbone.out_indices and block == blocks[-1],
            )
            for block in blocks
        ]
    if len(backbone.out_indices) == 1:
        last = units[-1]
        units[-1] = dataclasses.replace(
            last, run=functools.partial(_run_last_bare, run=last.run)
        )
    return tuple(units)


@describes(MobileNetV3)
def mobilenet_v3_units(backbone: MobileNetV3) -> tuple[Unit, ...]:
    """MobileNetV3: its layers are single blocks."""
    return tuple(
        submodule_unit(layer_name, emits=i in backbone.out_indices)
        for i, layer_name in enumerate(backbone.layers)
    )


def _run_last_bare(backbone: Any, state: State, *, run: Run) -> State:
    return dataclasses.replace(run(backbone, state), is_bare=True)

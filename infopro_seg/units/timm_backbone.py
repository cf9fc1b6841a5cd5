"""Units of mmseg's wrapper of timm models: one per layer, or per block in a layer."""

import functools
from typing import Any

from mmseg.models.backbones.timm_backbone import TIMMBackbone
from torch import nn

from .base import Unit, describes, unsupported
from .state import State


@describes(TIMMBackbone)
def timm_units(backbone: TIMMBackbone) -> tuple[Unit, ...]:
    """Models that timm splits into a list of layers, as it does most CNNs.

    Raises:
        TypeError: if timm runs the model in another way (hooks, intermediate layers),
            or returns channels-last or concatenated maps.
    """
    net = backbone.timm_model
    if (
        type(net).__name__ != 'FeatureListNet'
        or str(getattr(net.output_fmt, 'value', net.output_fmt)) != 'NCHW'
        or net.concat
    ):
        raise TypeError(
            f'timm runs this model as a {type(net).__name__}, not as a list of layers '
            'with one (N, C, H, W) map each (FeatureListNet), so it has no known '
            f'units. {unsupported(type(net))}'
        )
    steps = []
    for name, layer in net.items():
        path = f'timm_model.{name}'
        paths = [path]
        if type(layer) is nn.Sequential and len(layer) > 0:
            paths = [f'{path}.{child}' for child, _ in layer.named_children()]
        steps += [(p, name in net.return_layers and p == paths[-1]) for p in paths]
    groups: list[list[tuple[str, bool]]] = []
    for step in steps:
        if groups and not _has_weights(backbone.get_submodule(step[0])):
            # No wall before a layer without weights: an activation may change the
            # output of the layer before it in place.
            groups[-1].append(step)
        else:
            groups.append([step])
    return tuple(
        Unit(group[0][0], functools.partial(_run, steps=tuple(group)))
        for group in groups
    )


def _has_weights(layer: nn.Module) -> bool:
    return next(layer.parameters(), None) is not None


def _run(backbone: Any, state: State, *, steps: tuple[tuple[str, bool], ...]) -> State:
    for path, emits in steps:
        state = state.step(backbone.get_submodule(path)(state.x), emits=emits)
    return state

"""Units of STDC: two convolutions, then one per STDC module, then the fusion."""

import functools
from typing import Any

from mmseg.models.backbones.stdc import STDCContextPathNet, STDCNet
from torch import nn

from .base import Unit, describes, units_of, unsupported
from .state import State


@describes(STDCNet)
def stdc_units(backbone: STDCNet) -> tuple[Unit, ...]:
    """STDCNet; the last output goes through the final convolution, if there is one."""
    units = []
    for i, stage in enumerate(backbone.stages):
        path = f'stages.{i}'
        if i < backbone.num_shallow_features:
            paths = [path]
        else:
            paths = [f'{path}.{j}' for j in range(len(stage))]
        units += [Unit(p, functools.partial(_run, path=p)) for p in paths[:-1]]
        is_last = i == len(backbone.stages) - 1
        final = 'final_conv' if is_last and backbone.with_final_conv else None
        run = functools.partial(
            _run,
            path=paths[-1],
            final=final,
            emits=i >= backbone.num_shallow_features,
        )
        units.append(Unit(paths[-1], run, owns=(paths[-1], final) if final else ()))
    return tuple(units)


@describes(STDCContextPathNet)
def stdc_context_path_units(backbone: STDCContextPathNet) -> tuple[Unit, ...]:
    """STDCNet, then its context path and fusion as a last unit."""
    if not isinstance(backbone.backbone, STDCNet):
        raise TypeError(unsupported(type(backbone.backbone)))
    units = [
        Unit(
            f'backbone.{unit.name}',
            functools.partial(_run_inner, unit=unit),
            owns=tuple(f'backbone.{prefix}' for prefix in unit.owns),
        )
        for unit in units_of(backbone.backbone)
    ]
    return (*units, Unit('ffm', _fuse, owns=('arms', 'convs', 'conv_avg', 'ffm')))


def _run(
    backbone: Any,
    state: State,
    *,
    path: str,
    final: str | None = None,
    emits: bool = False,
) -> State:
    x = backbone.get_submodule(path)(state.x)
    if final is not None:
        x = backbone.get_submodule(final)(x)
    return state.step(x, emits=emits)


def _run_inner(backbone: Any, state: State, *, unit: Unit) -> State:
    """Run a unit of the inner STDCNet, whose outputs are skips here.

    The first of them is also the first output of the whole backbone.
    """
    inner: Any = unit(backbone.backbone, State(state.x))
    state = state.step(inner.x)
    for output in inner.outputs:
        state = state.push(output) if state.skips else state.push(output).emit(output)
    return state


class _AfterBackbone:
    """Stands for a STDCContextPathNet whose STDCNet has run already."""

    def __init__(self, net: nn.Module):
        self._net = net

    def __getattr__(self, name: str) -> object:
        return getattr(self._net, name)

    @staticmethod
    def backbone(outputs: tuple) -> tuple:
        return outputs


def _fuse(backbone: Any, state: State) -> State:
    outputs = STDCContextPathNet.forward(_AfterBackbone(backbone), state.skips)
    state = State(outputs[-1], outputs=state.outputs)
    for output in outputs[1:]:
        state = state.emit(output)
    return state

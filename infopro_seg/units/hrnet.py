"""Units of HRNet: the stem, the blocks of stage 1, then one unit per HRModule."""

import functools
from typing import Any

from mmseg.models.backbones.hrnet import HRNet

from .base import Unit, describes, submodule_unit
from .state import State


@describes(HRNet)
def hrnet_units(backbone: HRNet) -> tuple[Unit, ...]:
    """HRNet; from stage 2 on, ``x`` of the state holds one map per branch."""
    stem = ('conv1', backbone.norm1_name, 'conv2', backbone.norm2_name)
    units = [Unit('conv1', _run_stem, owns=stem)]
    units += [submodule_unit(f'layer1.{i}') for i in range(len(backbone.layer1))]
    for stage in (2, 3, 4):
        num_modules = len(getattr(backbone, f'stage{stage}'))
        for i in range(num_modules):
            path = f'stage{stage}.{i}'
            run = functools.partial(
                _run_module,
                path=path,
                transition=f'transition{stage - 1}' if i == 0 else None,
                ends=stage == 4 and i == num_modules - 1,
            )
            owns = (f'transition{stage - 1}', path) if i == 0 else ()
            units.append(Unit(path, run, owns=owns))
    return tuple(units)


def _run_stem(backbone: Any, state: State) -> State:
    x = backbone.relu(backbone.norm1(backbone.conv1(state.x)))
    return state.step(backbone.relu(backbone.norm2(backbone.conv2(x))))


def _run_module(
    backbone: Any, state: State, *, path: str, transition: str | None, ends: bool
) -> State:
    branches = state.x if isinstance(state.x, tuple) else (state.x,)
    if transition is not None:
        # An existing branch goes on, or passes through layers of its own; a new one
        # starts from the coarsest.
        branches = tuple(
            branches[i] if layers is None else layers(branches[-1])
            for i, layers in enumerate(backbone.get_submodule(transition))
        )
    # An HRModule writes into the list that it gets.
    branches = tuple(backbone.get_submodule(path)(list(branches)))
    state = state.step(branches)
    if ends:
        for branch in branches:
            state = state.emit(branch)
    return state

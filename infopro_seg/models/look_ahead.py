"""Look-ahead: a local head that sees its map through the next units of the network.

Their weights are held constant, so they stay isolated; they only show what the network
makes of the map. The gradient that a module gets is nearer to that of end-to-end
training.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence

from torch import nn

from ..compat import version_of
from ..units import State, Unit, parameters_of
from .recompute.buffers import EarlierBuffers, modules_of
from .recompute.inner import exact_inner_checkpoints


def looked_ahead(units: Sequence[Unit], backbone: nn.Module, state: State) -> State:
    """Run later units with their weights held constant.

    Args:
        units: The units that follow.
        backbone: Owner of their weights and statistics, which do not change.
        state: What flows in; gradients go back into it.

    Returns:
        What flows out of the last unit; the state itself without units.

    Raises:
        RuntimeError: if the first of the units changes its input in place.
    """
    if not units:
        return state
    modules = [m for unit in units for m in modules_of(unit, backbone)]
    parameters = parameters_of(units, backbone)
    versions = [version_of(t) for t in state.tensors()]
    ahead = state
    constant = functools.partial(_constant, parameters)
    with EarlierBuffers(modules), constant(), exact_inner_checkpoints(constant):
        for unit in units:
            ahead = unit(backbone, ahead)
    if versions != [version_of(t) for t in state.tensors()]:
        raise RuntimeError(
            f'look_ahead cannot run {units[0].name}, which changes its input in place: '
            'the next module needs that input. Move the split by one unit, or remove '
            'look_ahead.'
        )
    return ahead


@contextlib.contextmanager
def _constant(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    trained = [p for p in parameters if p.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)

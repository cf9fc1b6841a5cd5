"""A local module: consecutive units that are trained together, on their own loss."""

import dataclasses
from collections.abc import Mapping, Sequence

from torch import nn

from ..settings.recompute_mode import RecomputeMode
from ..settings.splits import module_ranges
from ..units import State, Unit, parameters_of
from .recompute.run import run_unit


@dataclasses.dataclass(frozen=True)
class LocalModule:
    """Consecutive units between two walls.

    Plain data, like `Unit`: the backbone stays the only owner of its weights.

    Args:
        index: Position in the network, counted from 0.
        units: The units it runs, in order; empty for a last module that is the
            decode head alone.
        recompute: How units are recomputed, by name; units of other modules may be in
            it and are ignored.
    """

    index: int
    units: tuple[Unit, ...]
    recompute: Mapping[str, RecomputeMode] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name in logs and errors, such as ``local_0``."""
        return f'local_{self.index}'

    def __str__(self) -> str:
        if not self.units:
            return f'{self.name} (decode head)'
        return f'{self.name} ({self.units[0].name} ... {self.units[-1].name})'

    def __call__(self, backbone: nn.Module, state: State) -> State:
        """Run all units of the module on a state."""
        return self.consume(backbone, [state])

    def consume(self, backbone: nn.Module, states: list[State]) -> State:
        """Like a call, but on the last state of a list, which is removed from the list.

        If nobody else holds that state, maps that no unit keeps are freed as soon as
        the first units have run. An argument would stay alive during the whole call.
        """
        for unit in self.units:
            mode = self.recompute.get(unit.name, RecomputeMode.NOTHING)
            states.append(run_unit(unit, backbone, states.pop(), mode))
        return states.pop()

    def parameters(self, backbone: nn.Module) -> list[nn.Parameter]:
        """The backbone parameters that this module trains."""
        return parameters_of(self.units, backbone)


def cut_into_modules(
    units: Sequence[Unit], splits: Sequence[str], recompute: Mapping[str, RecomputeMode]
) -> tuple[LocalModule, ...]:
    """Make the local modules of a network.

    Args:
        units: The units of its backbone, in order.
        splits: Names of the last units of all modules but the last, in order.
        recompute: How units are recomputed, by name.
    """
    ranges = module_ranges([unit.name for unit in units], splits)
    return tuple(
        LocalModule(i, tuple(units[j] for j in indices), recompute)
        for i, indices in enumerate(ranges)
    )

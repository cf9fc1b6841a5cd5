"""A local module: consecutive units that are trained together, on their own loss."""

import dataclasses
from collections.abc import Mapping

from torch import nn

from ..settings.recompute_mode import RecomputeMode
from ..units import State, Unit, parameters_of
from .recompute.run import run_unit


@dataclasses.dataclass(frozen=True)
class LocalModule:
    """Consecutive units between two walls.

    Plain data, like `Unit`: the backbone stays the only owner of its weights.

    Args:
        index: Position in the network, from 0.
        units: The units it runs, in order; empty for a last module that is the
            decode head alone.
        recompute: How units are recomputed, by name; those of other modules are
            allowed and have no effect.
    """

    index: int
    units: tuple[Unit, ...]
    recompute: Mapping[str, RecomputeMode] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """How logs and errors call it, such as ``local_0``."""
        return f'local_{self.index}'

    def __str__(self) -> str:
        if not self.units:
            return f'{self.name} (decode head)'
        return f'{self.name} ({self.units[0].name} ... {self.units[-1].name})'

    def __call__(self, backbone: nn.Module, state: State) -> State:
        """Run all units of the module on a state."""
        return self.consume(backbone, [state])

    def consume(self, backbone: nn.Module, states: list[State]) -> State:
        """The same on the last state of a list, which is taken out of it.

        If nobody else holds it, maps that no unit keeps are freed as soon as the first
        units have run; an argument would live as long as the call.
        """
        for unit in self.units:
            mode = self.recompute.get(unit.name, RecomputeMode.NOTHING)
            states.append(run_unit(unit, backbone, states.pop(), mode))
        return states.pop()

    def parameters(self, backbone: nn.Module) -> list[nn.Parameter]:
        """The backbone parameters that this module trains."""
        return parameters_of(self.units, backbone)

"""A local module: consecutive units that are trained together, on their own loss."""

import dataclasses

from torch import nn

from ..units import State, Unit


@dataclasses.dataclass(frozen=True)
class LocalModule:
    """Consecutive units between two walls.

    Plain data, like `Unit`: the backbone stays the only owner of its weights.

    Args:
        index: Position in the network, from 0.
        units: The units it runs, in order; empty for a last module that is the
            decode head alone.
    """

    index: int
    units: tuple[Unit, ...]

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
        for unit in self.units:
            state = unit(backbone, state)
        return state

    def parameters(self, backbone: nn.Module) -> list[nn.Parameter]:
        """The backbone parameters that this module trains."""
        return [p for unit in self.units for p in unit.parameters(backbone)]

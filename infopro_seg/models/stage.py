"""What one process trains of a network: all local modules, or those of its stage."""

from collections.abc import Sequence

from torch import Tensor

from ..units import State
from .heads.local_head import Losses
from .local_module import LocalModule


class Stage:
    """All local modules of a network; what flows between them stays in the process.

    A pipeline gives each process a stage of its own, see
    `infopro_seg.pipeline.stage.PipelineStage`.
    """

    def modules(self, modules: Sequence[LocalModule]) -> Sequence[LocalModule]:
        """The modules that this process trains, in order; at least one."""
        return modules

    def receive(self, inputs: Tensor) -> State:
        """What flows into the first of them.

        Args:
            inputs: Normalised images (N, C, H, W).
        """
        return State(inputs)

    def pass_on(self, module: LocalModule, state: State) -> None:
        """Called with what has passed the wall behind a module, as soon as it has."""

    def with_earlier(self, losses: Losses) -> Losses:
        """The losses of all modules up to the last of this process.

        Args:
            losses: Those of the modules of this process.
        """
        return losses

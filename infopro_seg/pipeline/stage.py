"""A stage of a pipeline: the local modules of one process, and its neighbours."""

from collections.abc import Sequence

from torch import Tensor

from ..models.heads.local_head import Losses
from ..models.local_backward import without_history
from ..models.local_module import LocalModule
from ..models.stage import Stage
from ..units import State
from .link import Link


class PipelineStage(Stage):
    """Consecutive local modules; maps come from the stage before, and go to the next.

    With each map come the losses of all earlier modules, so that the last stage knows
    those of the whole network.

    Args:
        indices: Which local modules.
        before: Link from the stage before; None for the first stage.
        after: Link to the next stage; None for the last one.
    """

    def __init__(
        self, indices: range, before: Link | None = None, after: Link | None = None
    ) -> None:
        self._indices = indices
        self._before = before
        self._after = after

    def modules(self, modules: Sequence[LocalModule]) -> Sequence[LocalModule]:
        """Those of this stage."""
        return modules[self._indices.start : self._indices.stop]

    def receive(self, inputs: Tensor) -> State:
        """What the stage before has sent for this batch; the images in the first."""
        if self._before is None:
            return super().receive(inputs)
        state: State = self._before.receive()
        return state

    def pass_on(self, module: LocalModule, state: State) -> None:
        """Send what leaves the last module, before its own losses are computed."""
        if self._after is not None and module.index == self._indices[-1]:
            self._after.send(state)

    def with_earlier(self, losses: Losses) -> Losses:
        """Add the losses of earlier stages, in front, and send all to the next."""
        if self._before is not None:
            losses = {**self._before.receive(), **losses}
        if self._after is not None:
            self._after.send(without_history(losses))
        return losses

    def finish(self) -> None:
        """Wait until all that was sent has arrived."""
        if self._after is not None:
            self._after.wait()

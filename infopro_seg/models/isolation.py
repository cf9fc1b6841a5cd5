"""Checks that the backward pass of a module leaves the modules behind it alone.

`InfoProEncoderDecoder` looks once, in the first step. Walls see to it for all that
torch differentiates; a block that runs itself again in backward, by means of its own,
can get around them where a head looks ahead.
"""

import contextlib
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from ..compat import version_of
from .local_module import LocalModule
from .recompute.buffers import modules_of


@contextlib.contextmanager
def checked_isolation(
    module: LocalModule, later: Sequence[LocalModule], backbone: nn.Module
) -> Iterator[None]:
    """Around the backward pass of a module: check what it changes in later ones.

    Args:
        module: The module that is trained.
        later: The modules behind it.
        backbone: Owner of their weights.

    Raises:
        RuntimeError: if a later weight gets a gradient, or a batch norm counts a batch.
    """
    parts = _parts(later, backbone) - _parts([module], backbone)
    before = _traces(parts, backbone)
    yield
    after = _traces(parts, backbone)
    changed = [name for name, trace in after.items() if trace != before[name]]
    if changed:
        raise RuntimeError(
            f'the backward pass of {module} has changed {changed[0]}, which belongs to '
            'a later module: a block of the backbone runs itself again in backward, '
            'by other means than torch.utils.checkpoint. Let it use '
            'torch.utils.checkpoint, or remove look_ahead from local.head.'
        )


def _parts(modules: Sequence[LocalModule], backbone: nn.Module) -> set[int]:
    """What local modules own: parameters and parts of the backbone, by id."""
    parameters = {id(p) for m in modules for p in m.parameters(backbone)}
    units = [unit for module in modules for unit in module.units]
    return parameters | {id(p) for unit in units for p in modules_of(unit, backbone)}


def _traces(parts: set[int], backbone: nn.Module) -> dict[str, tuple[int, int] | None]:
    """What tells by name that a gradient, or a count of batches, has been written."""
    found: dict[str, Tensor | None] = {
        f'the gradient of backbone.{name}': parameter.grad
        for name, parameter in backbone.named_parameters()
        if id(parameter) in parts
    }
    for name, part in backbone.named_modules():
        # Batch norms write running statistics without a trace, but count batches.
        count = getattr(part, 'num_batches_tracked', None)
        if id(part) in parts and isinstance(count, Tensor):
            found[f'the running statistics of backbone.{name}'] = count
    return {
        name: None if tensor is None else (id(tensor), version_of(tensor))
        for name, tensor in found.items()
    }

"""The backward pass of one local module, before the other modules run theirs."""

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor

from .heads.local_head import Losses
from .local_module import LocalModule

# parse_losses is a method that does not use its model.
_NO_MODEL: Any = None


def local_backward(
    optim_wrapper: OptimWrapper,
    module: LocalModule,
    losses: Mapping[str, Tensor | list[Tensor]],
) -> Losses:
    """Differentiate the losses of one module as the optimizer wrapper would.

    The wrapper's own ``backward`` is not called: it counts calls, and more than one per
    iteration breaks gradient accumulation.

    Args:
        optim_wrapper: Gives the accumulation factor and the gradient scaler.
        module: Unused; part of the callback's signature.
        losses: What mmengine's ``parse_losses`` takes: tensors, which are averaged, and
            lists of tensors, whose averages are summed. Those with ``loss`` in their
            name are differentiated.

    Returns:
        The same entries, detached.

    Raises:
        TypeError: if an entry is neither a tensor nor a list of tensors.
    """
    total, _ = BaseModel.parse_losses(_NO_MODEL, losses)
    if not isinstance(total, Tensor) or not total.requires_grad:
        # Nothing is trained here: there is no loss, or head and units are frozen.
        return without_history(losses)
    total = optim_wrapper.scale_loss(total)
    scaler = getattr(optim_wrapper, 'loss_scaler', None)
    if scaler is not None:
        total = scaler.scale(total)
    # The forward pass runs under autocast; backward must not, as in the runner.
    with torch.autocast(total.device.type, enabled=False):
        total.backward()
    return without_history(losses)


def without_history(losses: Mapping[str, Tensor | list[Tensor]]) -> Losses:
    """The same losses, detached."""
    return {
        name: [part.detach() for part in value]
        if isinstance(value, list)
        else value.detach()
        for name, value in losses.items()
    }

"""What gradients have been multiplied by, until an optimizer steps with them.

A gradient scaler multiplies them by its scale, accumulation by the share of one
iteration in the step. Most optimizers begin their step with gradients that the scaler
has divided again; fused ones divide inside their kernel.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import Tensor
from torch.optim import Optimizer

from ..compat import accumulative_counts

LOSS_SCALE, SHARE = 'loss_scale', 'share_of_step'
#: By these names in checkpoints. Without a gradient scaler the scale is None.
Unit = Mapping[str, float | None]


def gradient_unit(optim_wrapper: OptimWrapper) -> dict[str, float | None]:
    """The unit of the gradients that wait for the next step."""
    scaler = getattr(optim_wrapper, 'loss_scaler', None)
    scale = None
    if scaler is not None and scaler.is_enabled():
        scale = scaler.get_scale()
    share = 1.0
    if accumulative_counts(optim_wrapper) > 1 and not optim_wrapper.should_update():
        # The last step of a run may have fewer iterations than the others.
        one = torch.ones((), dtype=torch.float64)
        share = float(optim_wrapper.scale_loss(one))
    return {LOSS_SCALE: scale, SHARE: share}


def saved_unit(saved: Mapping[str, Any], optimizer: Mapping[str, Any]) -> Unit:
    """The unit of the gradients in a checkpoint.

    Args:
        saved: Entry of the gradients. Those of earlier versions do not say it.
        optimizer: State of the optimizer wrapper in the same checkpoint, with that of
            the scaler, if there was one.
    """
    if LOSS_SCALE in saved:
        return {name: saved[name] for name in (LOSS_SCALE, SHARE)}
    scaler = optimizer.get('loss_scaler') or {}
    return {LOSS_SCALE: scaler.get('scale')}


def factor_between(then: Unit, now: Unit) -> float:
    """What brings gradients from one unit into another; exactly 1 if they are equal.

    Args:
        then: Of the gradients. Without a share, that is as it is now.
        now: Wanted.
    """
    scale = (now[LOSS_SCALE] or 1.0) / (then[LOSS_SCALE] or 1.0)
    share = now[SHARE] or 1.0
    return scale * (share / (then.get(SHARE) or share))


def would_be_skipped(
    then: Unit, now: Unit, gathered: Iterable[Mapping[str, Tensor]]
) -> bool:
    """Whether a scaler would have skipped the step, and now there is none to do it.

    Args:
        then: Unit of the gradients.
        now: Unit of this run.
        gathered: Gradients by parameter name, of all processes.
    """
    if then[LOSS_SCALE] is None or now[LOSS_SCALE] is not None:
        return False
    gradients = [gradient for own in gathered for gradient in own.values()]
    return not all(bool(torch.isfinite(gradient).all()) for gradient in gradients)


def scale_left(optimizer: Optimizer) -> Tensor | float:
    """What gradients are still multiplied by when the optimizer's step begins.

    Args:
        optimizer: Its pre-hooks run.

    Returns:
        The scale of the loss, if a fused optimizer is to divide by it; otherwise 1.
    """
    # torch's GradScaler sets it for the time of the step.
    scale: Tensor | None = getattr(optimizer, 'grad_scale', None)
    return 1.0 if scale is None else scale


@torch.no_grad()
def unscale(optimizer: Optimizer) -> None:
    """Divide gradients as for optimizers that are not fused, to change them.

    Args:
        optimizer: Its pre-hooks run; afterwards it does not divide by itself.
    """
    scale = scale_left(optimizer)
    if not isinstance(scale, Tensor):
        return
    inverse = scale.double().reciprocal().float()  # as GradScaler computes it
    for group in optimizer.param_groups:
        for parameter in group['params']:
            if parameter.grad is not None:
                parameter.grad.mul_(inverse.to(parameter.grad.device))
    optimizer.grad_scale = None  # type: ignore[attr-defined]  # see scale_left

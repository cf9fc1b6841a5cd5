"""Gradients that wait for the optimizer's step, in a form that checkpoints can hold.

While gradients are accumulated they are part of the training state. Until DDP averages
them, each process has its own.
"""

import torch
from mmengine.dist import all_gather, all_gather_object, is_main_process
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

Gradients = dict[str, Tensor]


def gather_gradients(model: nn.Module, num_shares: int) -> list[Gradients]:
    """Gather the gradients of all processes; every process must call it.

    Args:
        model: The model or its wrapper.
        num_shares: How many processes see different images. Process r trains other
            parameters than process r + ``num_shares``, on the same images.

    Returns:
        On the main process, one dict per share: gradients by parameter name, on the
        CPU. Empty on other processes, and if no process has any gradient.
    """
    parameters = dict(_unwrapped(model).named_parameters())
    own = [name for name, p in parameters.items() if p.grad is not None]
    held = all_gather_object(own)
    if not any(held):
        return []
    gathered: list[Gradients] = [{} for _ in range(num_shares)]
    for name in sorted(set().union(*held)):
        parameter = parameters[name]
        grad = parameter.grad
        # One parameter at a time: a GPU has no room for the gradients of all processes.
        grad = torch.zeros_like(parameter) if grad is None else grad
        grads = all_gather(grad.contiguous())
        if is_main_process():
            for rank, (names, value) in enumerate(zip(held, grads, strict=True)):
                if name in names:
                    gathered[rank % num_shares][name] = value.detach().cpu()
    return gathered if is_main_process() else []


def set_gradients(
    model: nn.Module,
    gathered: list[Gradients],
    rank: int | None,
    *,
    factor: float = 1.0,
) -> None:
    """Restore what `gather_gradients` returned.

    Args:
        model: The model or its wrapper, with the same parameters.
        gathered: One dict per share; ``[]`` does nothing.
        rank: The share whose gradients to take. None takes the mean over all, which
            is what the step needs if the number of shares has changed.
        factor: What to multiply them by, if they wait in another unit now.
    """
    if not gathered:
        return
    gradients = gathered[rank] if rank is not None else _mean(gathered)
    for name, parameter in _unwrapped(model).named_parameters():
        if name in gradients and parameter.requires_grad:
            parameter.grad = gradients[name].to(parameter, copy=True)
            if factor != 1:
                parameter.grad.mul_(factor)


def _mean(gathered: list[Gradients]) -> Gradients:
    total: Gradients = {}
    for gradients in gathered:
        for name, gradient in gradients.items():
            total[name] = total[name] + gradient if name in total else gradient
    return {name: gradient / len(gathered) for name, gradient in total.items()}


def _unwrapped(model: nn.Module) -> nn.Module:
    return model.get_submodule('module') if is_model_wrapper(model) else model

"""Puts the network of a pipeline together: for validation and checkpoints."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from ..models import tensors_of


def share(
    model: nn.Module,
    stages: Mapping[str, int],
    sources: Mapping[int, int],
    group: distributed.ProcessGroup,
) -> None:
    """Give every process of a replica all weights and statistics, in place.

    Args:
        model: The network, in every process of the group.
        stages: For each parameter and buffer, the stage that trains it.
        sources: For each stage, its process.
        group: The processes of the replica, all of which must call this.
    """
    with torch.no_grad():
        for name, tensor in tensors_of(model).items():
            value = tensor.detach().contiguous()
            distributed.broadcast(value, sources[stages[name]], group=group)
            tensor.copy_(value)


def taken(models: Iterable[nn.Module], names: set[str]) -> list[dict[str, Tensor]]:
    """Copies of the weights of these names, on the CPU, of several equal models."""
    return [
        {
            name: tensor.detach().to('cpu', copy=True)
            for name, tensor in tensors_of(model).items()
            if name in names
        }
        for model in models
    ]


def put_back(models: Iterable[nn.Module], weights: list[dict[str, Tensor]]) -> None:
    """Overwrite weights with what `taken` returned in another process."""
    with torch.no_grad():
        for model, values in zip(models, weights, strict=True):
            tensors = tensors_of(model)
            for name, value in values.items():
                tensors[name].copy_(value)


def optimizer_state(
    optimizer: Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Any]:
    """The state of the optimizer for these parameters, copied to the CPU, by name."""
    return {
        name: _copied(optimizer.state[parameter])
        for name, parameter in parameters.items()
        if parameter in optimizer.state
    }


def _copied(state: Any) -> Any:
    if isinstance(state, Tensor):
        return state.detach().to('cpu', copy=True)
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    return state

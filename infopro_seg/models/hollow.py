"""Copies of modules with replaced tensors: without storage, fake, or cloned.

Tensors are replaced during the copy, so no weight is ever duplicated on the way.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

Make = Callable[[Tensor], Tensor]


def hollow_copy(module: nn.Module, make: Make) -> nn.Module:
    """Copy a module, with every tensor in it replaced.

    `copy.deepcopy` refuses computed tensors (weight norm, spectral norm); here they are
    replaced like all others, whatever object holds them. What cannot be copied at all
    (locks, generators, open files) is shared with the original.

    Args:
        module: Any module; it is not changed.
        make: Called with a detached tensor, returns its replacement. Parameters stay
            parameters.

    Returns:
        A module of the same class.
    """
    tensors = (*module.parameters(), *module.buffers())
    replaced = {id(tensor): _replacement(tensor, make) for tensor in tensors}
    with _ReplacingTensors(make):
        try:
            return copy.deepcopy(module, dict(replaced))
        except Exception:  # objects may refuse to be copied in any way
            return _copied_by_parts(module, dict(replaced))


def meta_copy(module: nn.Module) -> nn.Module:
    """A copy of a module whose tensors have shapes but no storage."""
    return hollow_copy(module, lambda tensor: tensor.to('meta'))


def _replacement(tensor: Tensor, make: Make) -> Tensor:
    if is_lazy(tensor):
        device = make(torch.empty(0)).device
        lazy: Callable[..., Tensor] = type(tensor)  # the stubs know no arguments
        return lazy(device=device, dtype=tensor.data.dtype)
    made = make(tensor.detach())
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(made, requires_grad=tensor.requires_grad)
    return made


class _ReplacingTensors(TorchFunctionMode):
    """While active, `copy.deepcopy` of a tensor gives its replacement."""

    def __init__(self, make: Make):
        super().__init__()
        self._make = make

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping | None = None
    ) -> Any:
        """Run a function of a tensor, or replace the tensor."""
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = _replacement(tensor, self._make)
        return memo[id(tensor)]


def _copied_by_parts(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    copies = {part: type(part).__new__(type(part)) for part in module.modules()}
    memo.update({id(part): copied for part, copied in copies.items()})
    for part, copied in copies.items():
        for name, value in vars(part).items():
            vars(copied)[name] = _copied_or_shared(value, memo)
    return copies[module]


def _copied_or_shared(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # see `hollow_copy`
        return value

"""Which local module trains which weights."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from torch import Tensor, nn

from .readers import auxiliary_heads
from .recompute.buffers import modules_of

if TYPE_CHECKING:
    from .segmentor import InfoProEncoderDecoder


def owners_of(model: 'InfoProEncoderDecoder') -> dict[str, int]:
    """The local module that trains each parameter, and updates each buffer.

    Args:
        model: A local model.

    Returns:
        Index of the module, by name in the state dict. Decode head, neck and whatever
        no other module runs belong to the last module.

    Raises:
        ValueError: if two modules share a parameter.
    """
    last = len(model.local_modules) - 1
    owners: dict[int, int] = {}
    names = {id(tensor): name for name, tensor in _named_tensors(model)}
    for index, tensor in _owned(model):
        if owners.setdefault(id(tensor), index) != index:
            raise ValueError(
                f'{names[id(tensor)]} belongs to local_{owners[id(tensor)]} and to '
                f'local_{index}: modules that share weights cannot be trained apart.'
            )
    return {name: owners.get(id(t), last) for name, t in _named_tensors(model)}


def _owned(model: 'InfoProEncoderDecoder') -> Iterator[tuple[int, Tensor]]:
    auxiliary = auxiliary_heads(model)
    for module in model.local_modules:
        parts = [m for unit in module.units for m in modules_of(unit, model.backbone)]
        if module.index < len(model.local_heads):
            parts += model.local_heads[module.index].modules()
        for prefix, head in auxiliary.items():
            if model.auxiliary_module[prefix] == module.index:
                parts += head.modules()
        for part in parts:
            yield from ((module.index, tensor) for tensor in _own_tensors(part))
        # A unit may own single parameters of the backbone.
        yield from ((module.index, p) for p in module.parameters(model.backbone))


def _own_tensors(part: nn.Module) -> Iterator[Tensor]:
    yield from part.parameters(recurse=False)
    yield from part.buffers(recurse=False)


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def tensors_of(model: nn.Module) -> Mapping[str, Tensor]:
    """All parameters and buffers, by name."""
    return dict(_named_tensors(model))

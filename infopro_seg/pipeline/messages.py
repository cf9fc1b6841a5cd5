"""Messages between processes: any object that holds tensors, as bytes and tensors."""

import io
import pickle
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Spec(NamedTuple):
    """How to make room for a tensor.

    Args:
        shape: Its sizes.
        stride: Its strides: kernels, and so roundings, may depend on them.
        dtype: Its type.
        is_dense: Whether its storage has no gaps, so that it is sent as it lies.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    is_dense: bool


def pack(content: Any) -> tuple[bytes, list[Tensor]]:
    """Take an object apart.

    Args:
        content: What pickle takes. Tensors may be anywhere in it; the same tensor in
            several places is sent once.

    Returns:
        A header, equal for contents that differ in nothing but tensors' values, and
        the tensors, flat (L,).
    """
    file, tensors = io.BytesIO(), _Tensors()
    _Pickler(file, tensors).dump(content)
    header = pickle.dumps((tensors.specs, file.getvalue()))
    return header, tensors.flat


def rooms_for(header: bytes, device: torch.device | str) -> list[Tensor]:
    """Uninitialised tensors (L,) to receive what belongs to a header."""
    specs, _ = pickle.loads(header)  # noqa: S301  from a process of this run
    return [
        torch.empty(torch.Size(spec.shape).numel(), dtype=spec.dtype, device=device)
        for spec in specs
    ]


def unpack(header: bytes, flat: list[Tensor]) -> Any:
    """Put an object together again, with tensors of the same strides."""
    specs, content = pickle.loads(header)  # noqa: S301
    tensors = [_shaped(spec, t) for spec, t in zip(specs, flat, strict=True)]
    return _Unpickler(io.BytesIO(content), tensors).load()


class _Tensors:
    """The distinct tensors of an object."""

    def __init__(self) -> None:
        self.specs: list[Spec] = []
        self.flat: list[Tensor] = []
        self._known: dict[tuple, int] = {}

    def index(self, tensor: Tensor) -> int:
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() == 0 or key not in self._known:
            self._known[key] = len(self.flat)
            self._add(tensor.detach())
        return self._known[key]

    def _add(self, tensor: Tensor) -> None:
        shape, stride = tuple(tensor.shape), tensor.stride()
        # `preserve_format` keeps the strides of dense tensors only.
        is_dense = torch.empty_like(tensor).stride() == stride
        self.specs.append(Spec(shape, stride, tensor.dtype, is_dense))
        if is_dense:
            flat = tensor.as_strided((tensor.numel(),), (1,))
        else:
            flat = tensor.contiguous().flatten()
        self.flat.append(flat)


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, tensors: _Tensors) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._tensors = tensors

    def persistent_id(self, obj: Any) -> int | None:
        """Tensors go beside the bytes."""
        return self._tensors.index(obj) if isinstance(obj, Tensor) else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, tensors: list[Tensor]) -> None:
        super().__init__(file)
        self._tensors = tensors

    def persistent_load(self, pid: int) -> Tensor:
        """The tensor that a place refers to."""
        return self._tensors[pid]


def _shaped(spec: Spec, flat: Tensor) -> Tensor:
    if spec.is_dense:
        return flat.as_strided(spec.shape, spec.stride)
    if 0 in spec.stride:  # an expanded tensor, of which parts cannot be written
        return flat.view(spec.shape)
    made = torch.empty_strided(
        spec.shape, spec.stride, dtype=spec.dtype, device=flat.device
    )
    return made.copy_(flat.view(spec.shape))

"""Lets fake tensors run operators whose result depends on the data.

mmseg's ``accuracy`` selects the pixels that are not ignored; fake tensors have no
values to select by. Here every such operator gives its largest possible result (all
pixels selected), so its memory is bounded from above instead of left out.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...compat import READ_VALUE, UNIQUE, TorchDispatchMode, packet_of
from .simulation import is_of_the_model, reader_of

_aten = torch.ops.aten
_MASKS = (torch.bool, torch.uint8)
# A loss may read a value for each class of each image; a loop that waits for another
# value reads on for ever.
_MOST_READS = 10_000


class AssumedShapes(TorchDispatchMode):
    """Replaces the result of data-dependent operators by an assumption.

    Selections take everything. A number read from a tensor is 1, or 0.5 if it need not
    be whole: optimizers divide by it and by one minus it. A truth value is
    True, except that of ``==``, which is False: losses skip classes whose count
    equals zero, and the assumption is that no class is skipped.
    """

    def __init__(self) -> None:
        super().__init__()
        #: Names of the operators whose result was assumed; of values that were read,
        #: by whom.
        self.operators: set[str] = set()
        self._reading: tuple = ()
        self._num_reads = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator, or what is assumed in its place."""
        kwargs = kwargs or {}
        assume = _ASSUMPTIONS.get(func)
        if assume is not None:
            result = assume(*args, **kwargs)
            if result is not NotImplemented:
                if func is _READ:
                    self._note_read()
                else:
                    self.operators.add(packet_of(func).__name__)
                return result
        result = func(*args, **kwargs)
        if func in _EQUAL:
            result.is_equality = True
        return result

    def _note_read(self) -> None:
        frame = inspect.currentframe()
        while frame is not None and not is_of_the_model(frame):
            frame = frame.f_back
        # No reference to the frame: it would keep its tensors alive.
        reading = () if frame is None else (id(frame), frame.f_lineno)
        self._num_reads = self._num_reads + 1 if reading == self._reading else 1
        self._reading = reading
        if self._num_reads > _MOST_READS:
            raise RuntimeError(
                'a loop that ends by the value of a tensor does not end here: '
                f'every value is assumed ({_MOST_READS} were read)'
            )
        if self._num_reads == 1:
            self.operators.add(f'a value read by {reader_of(frame)}')


def _index(x: Tensor, indices: list[Tensor | None]) -> Any:
    if not any(i is not None and i.dtype in _MASKS for i in indices):
        return NotImplemented
    # A mask is as many index tensors as it has axes, of one entry a selected value.
    expanded: list[Tensor | None] = []
    for index in indices:
        if index is not None and index.dtype in _MASKS:
            rows = _nonzero(index)
            expanded += [rows[:, axis] for axis in range(index.dim())]
        else:
            expanded.append(index)
    return _aten.index.Tensor(x, expanded)


def _nonzero(x: Tensor) -> Tensor:
    return torch.empty(x.numel(), x.dim(), dtype=torch.long, device=x.device)


def _masked_select(x: Tensor, mask: Tensor) -> Tensor:
    shape = torch.broadcast_shapes(x.shape, mask.shape)
    return x.new_empty(shape.numel())


def _unique(x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
    long = x.new_empty(x.shape, dtype=torch.long)
    return x.new_empty(x.numel()), long, x.new_empty(x.numel(), dtype=torch.long)


def _scalar(x: Tensor) -> bool | int | float:
    if x.dtype == torch.bool:
        return not getattr(x, 'is_equality', False)
    return 0.5 if x.dtype.is_floating_point else 1


_READ = READ_VALUE
_EQUAL = {_aten.eq.Scalar, _aten.eq.Tensor}
_ASSUMPTIONS: dict[Any, Callable[..., Any]] = {
    _aten.index.Tensor: _index,
    _aten.nonzero.default: _nonzero,
    _aten.masked_select.default: _masked_select,
    UNIQUE: _unique,
    _READ: _scalar,
}

"""Lets a network run on fake tensors, or says in one sentence what cannot and where.

Fake tensors have no values, but some operators' results depend on them: mmseg's
``accuracy`` selects the pixels that are not ignored. Here every such operator gives its
largest possible result (all pixels selected), so its memory is bounded from above
instead of left out.
"""

import contextlib
import inspect
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from ...compat import READ_VALUE, UNIQUE, TorchDispatchMode, packet_of

_aten = torch.ops.aten
_MASKS = (torch.bool, torch.uint8)
# A loss may read a value for each class of each image; a loop that waits for another
# value reads on for ever.
_MOST_READS = 10_000
# Where functions lie that only run those of the model.
_OTHERS = tuple(f'{Path(file).parent}{os.sep}' for file in (torch.__file__, __file__))
_ADVICE = (
    'If training stops there too, mend that. If not, it needs the values of tensors or '
    'an operator that PyTorch cannot simulate: no plan can be made, and training does '
    'not need one with local=dict(splits=[...]) or local=dict(num_modules=K).'
)


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


class SimulationError(RuntimeError):
    """A network or an optimizer that does not run on fake tensors."""


@contextlib.contextmanager
def naming_culprit(network: nn.Module | None = None) -> Iterator[None]:
    """Turn whatever stops a simulation into a `SimulationError` that says where.

    Batch norm's refusal of a single value per channel passes: it is about the batch.

    Args:
        network: Modules in it are named as in its state dict.

    Raises:
        SimulationError: in place of any other exception.
    """
    try:
        yield
    except SimulationError:
        raise
    except Exception as error:
        if 'more than 1 value per channel' in str(error):
            raise
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        what = str(error).strip().partition('\n')[0]
        raise SimulationError(
            f'a training step cannot be simulated: {culprit(frames, network)} stops '
            f'with {type(error).__name__}{what and f": {what}"}. {_ADVICE}'
        ) from error


def culprit(frames: list[FrameType], network: nn.Module | None = None) -> str:
    """What runs in these frames: module or optimizer, function, file and line.

    Args:
        frames: From the outermost to the innermost.
        network: Modules in it are named as in its state dict.
    """
    owner = next((o for o in map(_owner, reversed(frames)) if o is not None), None)
    own = [frame for frame in frames if is_of_the_model(frame)]
    if not own:
        return _named(owner, network)
    code = own[-1].f_code
    function = getattr(code, 'co_qualname', code.co_name)
    place = f'{function}, line {own[-1].f_lineno} of {code.co_filename}'
    # Backward passes of autograd functions run outside of every module.
    return f'{_named(owner, network)} in {place}' if owner is not None else place


def reader_of(frame: FrameType | None) -> str:
    """What reads a value of a tensor in this frame, or in a function that it calls."""
    if frame is None:
        return 'PyTorch'
    code = frame.f_code
    place = f'{code.co_name}, line {frame.f_lineno} of {Path(code.co_filename).name}'
    owner = None
    outer: FrameType | None = frame
    while outer is not None and owner is None:
        owner, outer = _owner(outer), outer.f_back
    return place if owner is None else f'{_named(owner, None)} in {place}'


def _owner(frame: FrameType) -> Any:
    owner = frame.f_locals.get('self')
    return owner if isinstance(owner, nn.Module | torch.optim.Optimizer) else None


def is_of_the_model(frame: FrameType) -> bool:
    """Whether a function is neither PyTorch's nor the planner's."""
    return not frame.f_code.co_filename.startswith(_OTHERS)


def _named(owner: Any, network: nn.Module | None) -> str:
    kind = type(owner).__name__
    if isinstance(owner, torch.optim.Optimizer):
        return f'optimizer {kind}'
    if owner is None:
        return 'PyTorch'
    names = {} if network is None else {id(m): n for n, m in network.named_modules()}
    name = names.get(id(owner))
    return f'{name} ({kind})' if name else kind

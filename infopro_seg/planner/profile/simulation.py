"""Says what cannot run on fake tensors, and where, in one sentence."""

import contextlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

# Where functions lie that only run those of the model.
_OTHERS = tuple(f'{Path(file).parent}{os.sep}' for file in (torch.__file__, __file__))
_ADVICE = (
    'If training stops there too, mend that. If not, it needs the values of tensors or '
    'an operator that PyTorch cannot simulate: no plan can be made, and training does '
    'not need one with local=dict(splits=[...]) or local=dict(num_modules=K).'
)


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

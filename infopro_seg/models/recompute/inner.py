"""Checkpoints that blocks make themselves: mmseg's ``with_cp``, and blocks like it.

Such a block runs again in backward, long after its first run, with whatever weights are
constant and whatever statistics are there by then. torch's reentrant form, which mmseg
uses, also runs a backward pass of its own: it cannot be asked for single gradients, and
without a gradient for its input it trains nothing. While a local model runs, all calls
of `torch.utils.checkpoint` therefore run without reentrance, and a block runs again as
it ran first: running statistics are updated once, constant weights are constant.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from ...compat import checkpoints_repeated_in
from .buffers import EarlierBuffers

Context = contextlib.AbstractContextManager


@contextlib.contextmanager
def exact_inner_checkpoints(
    around: Callable[[], Context] = contextlib.nullcontext,
) -> Iterator[None]:
    """While active, blocks that checkpoint themselves run again as they ran first.

    Args:
        around: Gives what is entered whenever such a block runs again.
    """
    with checkpoints_repeated_in(functools.partial(_contexts, around)):
        yield


@contextlib.contextmanager
def without_inner_checkpoints() -> Iterator[None]:
    """While active, blocks that checkpoint themselves only run."""
    with checkpoints_repeated_in(None):
        yield


class Renewed(Context):
    """A context that is made anew whenever it is entered.

    A graph can be differentiated twice, and its blocks then run again twice.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], Context]):
        self._make = make
        self._entered: list[Context] = []

    def __enter__(self) -> None:
        context = self._make()
        context.__enter__()
        self._entered.append(context)

    def __exit__(self, *exception: Any) -> bool | None:
        return self._entered.pop().__exit__(*exception)


def _contexts(
    around: Callable[[], Context], function: Callable[..., Any]
) -> tuple[Context, Context]:
    """What the first run of a checkpointed function is in, and what the second."""
    buffers = EarlierBuffers(m for part in _parts(function) for m in part.modules())
    return _first(buffers), Renewed(lambda: _again(around, buffers))


@contextlib.contextmanager
def _first(buffers: EarlierBuffers) -> Iterator[None]:
    with buffers.noting_changes(), buffers.noting_calls():
        yield


@contextlib.contextmanager
def _again(around: Callable[[], Context], buffers: EarlierBuffers) -> Iterator[None]:
    # Checkpoints inside checkpoints must be made again in the same way.
    with around(), exact_inner_checkpoints(around), buffers:
        yield


def _parts(function: Any) -> Iterator[nn.Module]:
    """Modules that a function is, belongs to or holds; it may change their buffers."""
    if isinstance(function, functools.partial):
        yield from _parts(function.func)
        held = [*function.args, *function.keywords.values()]
    else:
        held = [function, getattr(function, '__self__', None)]
        held += map(_content, getattr(function, '__closure__', None) or ())
    yield from (value for value in held if isinstance(value, nn.Module))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None

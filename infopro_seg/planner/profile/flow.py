"""Fresh states to run a link of the chain alone on, and the end of its graph."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor

from ...units import State


def tensors_of(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from tensors_of(item)


def flow_tensors(state: State) -> list[Tensor]:
    """The distinct tensors that later units need: the running value and the skips."""
    return list({id(t): t for t in tensors_of((state.x, state.skips))}.values())


def fresh_state(
    state: State,
    requires_grad: bool,
    *,
    skips_without: Collection[int] = (),
    outputs_without: Collection[int] = (),
) -> State:
    """A state of the same shapes in new storage.

    Args:
        state: Shapes, types and layout to follow.
        requires_grad: Whether gradients flow into all its tensors, and on to nobody.
        skips_without: Indices of skips into which they do not.
        outputs_without: Indices of outputs into which they do not.

    Returns:
        The state. Tensors that were one and the same object still are.
    """
    memo: dict[int, Tensor] = {}
    return dataclasses.replace(
        state,
        x=_renewed(state.x, memo, requires_grad),
        skips=tuple(
            _renewed(skip, memo, requires_grad and i not in skips_without)
            for i, skip in enumerate(state.skips)
        ),
        outputs=tuple(
            _renewed(output, memo, requires_grad and i not in outputs_without)
            for i, output in enumerate(state.outputs)
        ),
    )


class Sink(torch.autograd.Function):
    """The end of a link's graph: its backward makes the gradients of the output."""

    @staticmethod
    def forward(
        ctx: Any, note: Callable[[tuple[Tensor, ...]], None] | None, *tensors: Tensor
    ) -> Tensor:
        """A scalar without memory of its inputs; ``note`` is shown the gradients."""
        ctx.note = note
        ctx.shapes = [(t.shape, t.dtype) for t in tensors]
        return tensors[0].new_empty(())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """New gradients, as the next link would have made them."""
        grads = tuple(grad.new_empty(shape, dtype=dtype) for shape, dtype in ctx.shapes)
        if ctx.note is not None:
            ctx.note(grads)
        return (None, *grads)


class _Source(torch.autograd.Function):
    """The start of a link's graph: makes its input and swallows the gradient."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, make: Callable[[], Tensor]) -> Tensor:
        return make()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        return None, None


# Not a closure that calls itself: such a cycle would keep tensors alive.
def _renewed(value: Any, memo: dict[int, Tensor], requires_grad: bool) -> Any:
    if isinstance(value, tuple):
        return tuple(_renewed(item, memo, requires_grad) for item in value)
    if not isinstance(value, Tensor):
        return value
    if id(value) not in memo:
        make = functools.partial(torch.empty_like, value, requires_grad=False)
        if requires_grad and value.dtype.is_floating_point:
            memo[id(value)] = _Source.apply(torch.empty((), requires_grad=True), make)
        else:
            memo[id(value)] = make()
    return memo[id(value)]

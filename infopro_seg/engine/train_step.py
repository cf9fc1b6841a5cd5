"""What is to hold in the runner's training step, and for no loss computed elsewhere.

Hooks of a user may compute a loss between steps, of a held-out batch for instance.
Early backward passes would add its gradients to those of the next step.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from torch import nn

from ..models import InfoProEncoderDecoder, LocalModule

Context = Callable[[], AbstractContextManager]
Watcher = Callable[[LocalModule], AbstractContextManager]


class _Surrounded:
    """A model's ``train_step`` inside context managers; the last is the innermost."""

    def __init__(self, train_step: Callable) -> None:
        self.train_step = train_step
        self.contexts: list[Context] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with contextlib.ExitStack() as stack:
            for context in self.contexts:
                stack.enter_context(context())
            return self.train_step(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Copies of the model do not belong to the runner.
        return _itself, (self.train_step,)


def surround_train_step(model: nn.Module, context: Context) -> Callable[[], None]:
    """Enter a context manager around every training step of a model.

    Args:
        model: That of the runner: the wrapper, if there is one.
        context: Makes the context manager; called for each step.

    Returns:
        Call it to end this.
    """
    attributes: dict[str, Any] = vars(model)
    # With torch.compile the runner has put a step of its own there.
    before = attributes.get('train_step')
    if isinstance(before, _Surrounded):
        surrounded = before
    else:
        step: Any = model.train_step
        surrounded = attributes['train_step'] = _Surrounded(step)
    surrounded.contexts.append(context)

    def leave() -> None:
        surrounded.contexts.remove(context)
        if surrounded.contexts or attributes.get('train_step') is not surrounded:
            return
        del attributes['train_step']
        if surrounded.train_step != model.train_step:
            attributes['train_step'] = surrounded.train_step

    return leave


def watch_train_step(
    wrapper: nn.Module, model: InfoProEncoderDecoder, watcher: Watcher
) -> Callable[[], None]:
    """Let a model have a watcher in its training steps.

    Args:
        wrapper: See `surround_train_step`.
        model: The model itself.
        watcher: See ``InfoProEncoderDecoder.watchers``.

    Returns:
        Call it to end this.
    """
    context = functools.partial(_watched, model, watcher)
    return surround_train_step(wrapper, context)


@contextlib.contextmanager
def _watched(model: InfoProEncoderDecoder, watcher: Watcher) -> Iterator[None]:
    before = model.watchers
    model.watchers = (*before, watcher)
    try:
        yield
    finally:
        model.watchers = before


def _itself(train_step: Callable) -> Callable:
    return train_step

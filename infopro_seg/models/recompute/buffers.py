"""Buffers as they were before a piece of network ran, for when it runs again."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ...compat import version_of
from ...units import Unit


class EarlierBuffers:
    """Lends modules the buffers that they had when this object was made.

    Otherwise the second forward would update running statistics again. Switching them
    off (``track_running_stats = False``) does not work: autograd saves them, and
    checkpointing demands the same number of saved tensors. Only modules in training
    mode are handled, since others do not change their buffers.

    An object can be entered more than once: graphs can be differentiated twice.

    Args:
        modules: The modules that run.
    """

    def __init__(self, modules: Iterable[nn.Module]):
        self._known: set[nn.Module] = set()
        self._earlier: list[tuple[nn.Module, str, Tensor]] = []
        #: While the first forward runs, each buffer itself with its version.
        self._before: list[tuple[Tensor, int]] = []
        self._own: list[tuple[nn.Module, str, Tensor]] = []
        self._note(modules)

    def _note(self, modules: Iterable[nn.Module]) -> None:
        for module in modules:
            if module in self._known:
                continue
            self._known.add(module)
            if not module.training:
                continue
            for name, buffer in module.named_buffers(recurse=False):
                self._earlier.append((module, name, buffer.clone()))
                self._before.append((buffer, version_of(buffer)))

    @contextlib.contextmanager
    def noting_calls(self) -> Iterator[None]:
        """Around the first forward: also note each other module right before it runs.

        For a function that does not say which modules it calls.
        """

        def note(module: nn.Module, args: Any) -> None:
            self._note([module])

        with register_module_forward_pre_hook(note):
            yield

    @contextlib.contextmanager
    def noting_changes(self) -> Iterator[None]:
        """Around the first forward: forget what it did not change.

        Batch norms change their statistics without a trace, so only integers, such as
        the tables of indices in attention, are found to be unchanged.
        """
        yield
        self._earlier = [
            (module, name, copy)
            for (module, name, copy), (buffer, version) in zip(
                self._earlier, self._before, strict=True
            )
            if buffer.is_floating_point()
            or getattr(module, name) is not buffer
            or version_of(buffer) != version
        ]
        self._before = []
        self._known = set()

    def __enter__(self) -> None:
        self._own = [
            (module, name, getattr(module, name)) for module, name, _ in self._earlier
        ]
        for module, name, buffer in self._earlier:
            setattr(module, name, buffer.clone())

    def __exit__(self, *exception: object) -> None:
        for module, name, buffer in self._own:
            setattr(module, name, buffer)
        self._own = []


def modules_of(unit: Unit, backbone: nn.Module) -> Iterator[nn.Module]:
    """The modules that a unit runs, submodules included."""
    for prefix in unit.owns:
        try:
            part = backbone.get_submodule(prefix)
        except AttributeError:  # a parameter of the backbone itself
            continue
        yield from part.modules()

"""Segments: local modules that run again in backward, for exact end-to-end gradients.

Only the input of a segment is kept. In backward the segment runs once more, including
what its units recompute themselves, and is differentiated at once. Its parameters are
arguments of one autograd function, so that they get their gradients in the way that the
host (optimizer wrapper, DistributedDataParallel) expects. PyTorch's checkpointing does
not work here: its hooks would miss what units recompute stepwise.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..compat import tree_leaves, tree_map, version_of
from ..units import State
from .local_module import LocalModule
from .recompute.buffers import EarlierBuffers, modules_of
from .recompute.inner import exact_inner_checkpoints


def run_segment(module: LocalModule, backbone: nn.Module, state: State) -> State:
    """Run a module, keeping only its input for backward.

    Args:
        module: The module.
        backbone: Owner of its weights.
        state: What flows in. Earlier stage outputs are passed on.

    Returns:
        What ``module(backbone, state)`` returns, with the same gradients, bit for bit.

    Raises:
        RuntimeError: if the module changes its input in place.
    """
    parameters = [p for p in module.parameters(backbone) if p.requires_grad]
    maps = list({id(m): m for m in tree_leaves((state.x, state.skips))}.values())
    is_trained = bool(parameters) or any(m.requires_grad for m in maps)
    if not torch.is_grad_enabled() or not is_trained:
        return module(backbone, state)
    segment = _Segment(module, backbone, state, maps, parameters)
    made = _SegmentFunction.apply(segment, len(maps), *maps, *parameters)
    return segment.state_of(state, maps, made)


class _Segment:
    """One run of a module: how to repeat it, and what its tensors are.

    A map that is read again after the segment passes through it: gradients are added in
    the order of stock training only if those from later readers come first.

    Args:
        module: See `run_segment`.
        backbone: See `run_segment`.
        state: See `run_segment`.
        maps: The distinct tensors that flow in.
        parameters: The trainable parameters of the module.
    """

    def __init__(
        self,
        module: LocalModule,
        backbone: nn.Module,
        state: State,
        maps: Sequence[Tensor],
        parameters: Sequence[nn.Parameter],
    ):
        self.module = module
        self.parameters = parameters
        self._backbone = backbone
        # The state without tensors, which would stay alive with it.
        indices = {id(m): i for i, m in enumerate(maps)}
        self._before = tree_map(lambda m: indices[id(m)], (state.x, state.skips))
        self._rest = dataclasses.replace(state, x=(), skips=(), outputs=())
        self._read_later = {
            indices[id(m)] for m in tree_leaves(state.outputs) if id(m) in indices
        }
        self._buffers = EarlierBuffers(
            [m for unit in module.units for m in modules_of(unit, backbone)]
        )
        self._draws = _RandomState(maps)
        self._precision = _Precision.now()
        #: Set by `first_run`: the state after the segment with numbers for tensors
        #: (first those that flow in, then the new ones), and the numbers of what is
        #: returned.
        self._after: Any = None
        self._after_rest = self._rest
        self._returned: list[int] = []

    def first_run(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run without history; returns what is new and what passes through."""
        versions = [version_of(m) for m in maps]
        # A weight cast here has no history, and autocast's cache would hand it on.
        with (
            self._precision.entered(keeps_casts=False),
            self._buffers.noting_changes(),
        ):
            after = self._run(maps)
        if versions != [version_of(m) for m in maps]:
            raise RuntimeError(
                f'{self.module} changes in place the map that flows into it, so it '
                'cannot be run again. Move the split before it by a unit.'
            )
        tensors = [*maps]
        numbers = {id(m): i for i, m in enumerate(maps)}
        for tensor in tree_leaves((after.x, after.skips, after.outputs)):
            if id(tensor) not in numbers:
                numbers[id(tensor)] = len(tensors)
                tensors.append(tensor)
        self._after = tree_map(
            lambda t: numbers[id(t)], (after.x, after.skips, after.outputs)
        )
        self._after_rest = dataclasses.replace(after, x=(), skips=(), outputs=())
        passing = self._read_later.union(tree_leaves(self._after))
        self._returned = [
            i
            for i, tensor in enumerate(tensors)
            if i >= len(maps) or (i in passing and tensor.requires_grad)
        ]
        return tuple(
            tensors[i].detach() if i < len(maps) else tensors[i] for i in self._returned
        )

    def state_of(
        self, before: State, maps: Sequence[Tensor], made: Sequence[Tensor]
    ) -> State:
        """The state after the segment, from what flowed in and what it returned."""
        tensors = dict(enumerate(maps)) | dict(zip(self._returned, made, strict=True))
        numbers = {id(m): i for i, m in enumerate(maps)}
        x, skips, outputs = tree_map(tensors.__getitem__, self._after)
        earlier = tree_map(
            lambda m: tensors[numbers[id(m)]] if id(m) in numbers else m, before.outputs
        )
        return dataclasses.replace(
            self._after_rest, x=x, skips=skips, outputs=(*earlier, *outputs)
        )

    def run_again(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Run with history; returns what `first_run` returned."""
        with (
            self._draws.restored(),
            self._buffers,
            self._precision.entered(keeps_casts=True),
            exact_inner_checkpoints(),
            torch.enable_grad(),
        ):
            after = self._run(maps)
        found = tree_leaves((after.x, after.skips, after.outputs))
        tensors = dict(zip(tree_leaves(self._after), found, strict=True))
        tensors.update(enumerate(maps))
        return [tensors[i] for i in self._returned]

    def _run(self, maps: Sequence[Tensor]) -> State:
        x, skips = tree_map(maps.__getitem__, self._before)
        state = dataclasses.replace(self._rest, x=x, skips=skips)
        return self.module(self._backbone, state)


class _SegmentFunction(torch.autograd.Function):
    """A segment as one autograd function of its maps and its parameters."""

    @staticmethod
    def forward(
        ctx: Any, segment: _Segment, num_maps: int, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        maps = tensors[:num_maps]
        ctx.segment = segment
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*maps)
        return segment.first_run(maps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        segment: _Segment = ctx.segment
        needs_grad = ctx.needs_input_grad[2:]
        maps = [
            tensor.detach().requires_grad_(needs)
            for tensor, needs in zip(ctx.saved_tensors, needs_grad, strict=False)
        ]
        try:
            wanted = [m for m in maps if m.requires_grad]
            found = iter(
                _gradients(
                    segment.run_again(maps), grads, [*wanted, *segment.parameters]
                )
            )
        except torch.OutOfMemoryError as error:
            # For the advice in the message: by now another module ran forward last.
            error.module = segment.module  # type: ignore[attr-defined]
            raise
        return None, None, *(next(found) if needs else None for needs in needs_grad)


def _gradients(
    made: Sequence[Tensor], grads: Sequence[Tensor | None], wanted: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    pairs = [
        (tensor, grad)
        for tensor, grad in zip(made, grads, strict=True)
        if grad is not None and tensor.requires_grad
    ]
    if not pairs:
        return (None,) * len(wanted)
    tensors, grads = zip(*pairs, strict=True)
    return torch.autograd.grad(tensors, wanted, grads, allow_unused=True)


class _RandomState:
    """State of the generators that a segment draws from, before it ran."""

    def __init__(self, maps: Sequence[Tensor]):
        self._cpu = torch.get_rng_state()
        devices = {m.get_device() for m in maps if m.is_cuda}
        self._cuda = {i: torch.cuda.get_rng_state(i) for i in sorted(devices)}

    @contextlib.contextmanager
    def restored(self) -> Iterator[None]:
        with torch.random.fork_rng(list(self._cuda)):
            torch.set_rng_state(self._cpu)
            for device, state in self._cuda.items():
                torch.cuda.set_rng_state(state, device)
            yield


@dataclasses.dataclass(frozen=True)
class _Precision:
    """State of autocast: for each device, whether it is on, and its type."""

    settings: tuple[tuple[str, bool, torch.dtype], ...]
    keeps_casts: bool

    @classmethod
    def now(cls) -> '_Precision':
        devices = ('cpu', 'cuda')
        return cls(
            tuple(
                (d, torch.is_autocast_enabled(d), torch.get_autocast_dtype(d))
                for d in devices
            ),
            torch.is_autocast_cache_enabled(),
        )

    @contextlib.contextmanager
    def entered(self, *, keeps_casts: bool) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for device, is_on, dtype in self.settings:
                if is_on:
                    cache = keeps_casts and self.keeps_casts
                    stack.enter_context(
                        torch.autocast(device, dtype=dtype, cache_enabled=cache)
                    )
            yield

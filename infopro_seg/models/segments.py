"""Segments: local modules that run again in backward, for exact end-to-end gradients.

Of a segment only its input is kept. In backward it is run once more, with whatever its
units recompute themselves, and differentiated at once. Its parameters are arguments of
one autograd function, so that the host (optimizer wrapper, DistributedDataParallel) sees
them get their gradients as ever.
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from ..units import State
from .local_module import LocalModule
from .recompute import EarlierBuffers, modules_of


def run_segment(module: LocalModule, backbone: nn.Module, state: State) -> State:
    """Run a module, keeping only its input for backward.

    Args:
        module: The module.
        backbone: Owner of its weights.
        state: What flows in. Earlier stage outputs pass by.

    Returns:
        What ``module(backbone, state)`` returns; its gradients are the same bit for bit.

    Raises:
        RuntimeError: if the module changes its input in place.
    """
    parameters = [p for p in module.parameters(backbone) if p.requires_grad]
    maps, layout = tree_flatten((state.x, state.skips))
    is_trained = bool(parameters) or any(m.requires_grad for m in maps)
    if not torch.is_grad_enabled() or not is_trained:
        return module(backbone, state)
    segment = _Segment(module, backbone, state, layout, parameters)
    made = _SegmentFunction.apply(segment, len(maps), *maps, *parameters)
    after = segment.state_of(maps, made)
    return dataclasses.replace(after, outputs=(*state.outputs, *after.outputs))


class _Segment:
    """One run of a module: how to repeat it, and what its tensors are.

    Args:
        module: See `run_segment`.
        backbone: See `run_segment`.
        state: See `run_segment`.
        layout: How ``x`` and skips of the state are nested.
        parameters: Those that are trained.
    """

    def __init__(
        self,
        module: LocalModule,
        backbone: nn.Module,
        state: State,
        layout: TreeSpec,
        parameters: Sequence[nn.Parameter],
    ):
        self.module = module
        self.parameters = parameters
        self._backbone = backbone
        self._before = dataclasses.replace(state, x=(), skips=(), outputs=())
        self._layout = layout
        self._buffers = EarlierBuffers(
            [m for unit in module.units for m in modules_of(unit, backbone)]
        )
        self._draws: _RandomState | None = None
        self._precision: _Precision | None = None
        #: Set by `first_run`: the state without tensors, how they are nested, and for
        #: each its place among the inputs (negative: -1 is the first) or the results.
        self._after = self._before
        self._after_layout = layout
        self._places: list[int] = []

    def first_run(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Run without history; returns the tensors that are new."""
        self._draws = _RandomState(maps)
        self._precision = _Precision.now()
        versions = [m._version for m in maps]
        # A weight that is cast here would be taken for the cast one with a history.
        with self._precision.entered(keeps_casts=False):
            after = self._run(maps)
        if versions != [m._version for m in maps]:
            raise RuntimeError(
                f'{self.module} changes in place the map that flows into it, so it '
                'cannot be run again. Move the split before it by a unit.'
            )
        self._after = dataclasses.replace(after, x=(), skips=(), outputs=())
        tensors, self._after_layout = tree_flatten(
            (after.x, after.skips, after.outputs)
        )
        places = {id(m): -1 - i for i, m in enumerate(maps)}
        made: list[Tensor] = []
        for tensor in tensors:
            if id(tensor) not in places:
                places[id(tensor)] = len(made)
                made.append(tensor)
        self._places = [places[id(tensor)] for tensor in tensors]
        return tuple(made)

    def state_of(self, maps: Sequence[Tensor], made: Sequence[Tensor]) -> State:
        """The state behind the segment, with the stage outputs that it made."""
        tensors = [made[i] if i >= 0 else maps[-1 - i] for i in self._places]
        x, skips, outputs = tree_unflatten(tensors, self._after_layout)
        return dataclasses.replace(self._after, x=x, skips=skips, outputs=outputs)

    def run_again(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Run with history; returns the tensors that `first_run` returned."""
        assert self._draws is not None and self._precision is not None
        with (
            self._draws.restored(),
            self._buffers,
            self._precision.entered(keeps_casts=True),
            torch.enable_grad(),
        ):
            after = self._run(maps)
        tensors, _ = tree_flatten((after.x, after.skips, after.outputs))
        places = enumerate(self._places)
        first = {place: i for i, place in reversed(list(places)) if place >= 0}
        return [tensors[first[place]] for place in sorted(first)]

    def _run(self, maps: Sequence[Tensor]) -> State:
        x, skips = tree_unflatten(list(maps), self._layout)
        state = dataclasses.replace(self._before, x=x, skips=skips)
        return self.module(self._backbone, state)


class _SegmentFunction(torch.autograd.Function):
    """A segment as one operator; takes its maps, then its parameters."""

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
            # For the advice on what to do: not the module that ran forward last.
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
    """The generators that a segment draws from, as they were before it ran."""

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
    """Autocast as it was set: by device, whether it is on and to which type."""

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

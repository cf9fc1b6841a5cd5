"""Runs one link of a fake network forward and backward and counts bytes and FLOPs."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...compat import storage_key
from ...models import LocalModule
from ...models.heads.local_head import Losses
from ...models.local_backward import local_backward
from ...models.recompute.inner import exact_inner_checkpoints
from ...models.tensor_bytes import num_bytes_of
from ...units import State
from ..search.costs import Pass
from .allocation import AllocationTracker, autocast, storages_of
from .simulation import AssumedShapes


class Meter:
    """Measures passes of a fake network.

    Args:
        network: Fake; its gradients are None before and after each measurement.
        amp_dtype: Type of mixed precision; None for none.
        assumed: Active around everything that runs.
    """

    def __init__(
        self, network: nn.Module, amp_dtype: torch.dtype | None, assumed: AssumedShapes
    ):
        self.network = network
        self.amp_dtype = amp_dtype
        self.assumed = assumed
        self.tracker = AllocationTracker()
        self.tracker.track_module(network)

    def unit(
        self,
        run: Callable[[State], State],
        state: State,
        *,
        is_first: bool,
        passes_by: Collection[int] = (),
        carried: Collection[int] = (),
        input_is_kept: bool = True,
    ) -> tuple[Pass, int]:
        """Measure a unit.

        Args:
            run: Runs it.
            state: What flows in; only its shapes are used, and earlier outputs are
                not: they belong to the units that made them.
            is_first: Whether a wall, or the image, is right before it.
            passes_by: Indices of the skips that it leaves to later units.
            carried: Indices of those that it takes from before a wall.
            input_is_kept: Whether its input stays alive while it runs forward, kept by
                the unit before.

        Returns:
            The pass, and the bytes of the gradients of the skips that it takes.
        """
        state = dataclasses.replace(state, outputs=())
        with self.running():
            given = fresh_state(
                state, not is_first, skips_without={*passes_by, *carried}
            )
            if is_first:
                # A skip may be the same map; here it tells which of them is kept.
                alone = fresh_state(State(state.x), requires_grad=False)
                given = dataclasses.replace(given, x=alone.x)
                del alone
            skips = given.skips
            others = {id(t) for i in passes_by for t in tensors_of(skips[i])}
            skip_grads = _noting_grads(skips, others)
            held = given.x if is_first or input_is_kept else None
            start, flops = self._begin()
            after = run(given)
            forward_flops = self.tracker.flops - flops
            inputs = set() if held is None else storages_of(held)
            del given
            forward_peak, kept = self._since(start)
            made = [t for t in after.tensors() if id(t) not in others]
            outputs = storages_of(made)
            flow = storages_of(t for t in flow_tensors(after) if id(t) not in others)
            ends = {id(t): t for t in made if t.requires_grad}
            loss = Sink.apply(self._linger_grads, *ends.values()) if ends else None
            # Skips live on in the units that put them aside.
            passing = [skips[i] for i in passes_by]
            lingering = storages_of(skips) - storages_of(passing)
            self.tracker.linger(
                lingering,
                lingering | outputs,
                lingering | inputs,
                lingering | outputs | inputs,
                lingering | outputs,
                lingering | outputs | inputs,
            )
            del after, ends, made, skips
            frees_skips = self.tracker.lingering_bytes[0]
            live_bytes = self.tracker.live_bytes
            del held
            frees_input = is_first * (live_bytes - self.tracker.live_bytes)
            keeps_output = any(map(self.tracker.is_alive, flow))
            self._backward(loss)
            peaks = self._lingering(start + kept)
            del loss, passing
            backward_peak = peaks[0]
            step = self._finish(forward_peak, kept, backward_peak, flops)
        released, input_held, both_held, grad_held, all_held = (
            peak - backward_peak for peak in peaks[1:]
        )
        step = step._replace(
            released=released,
            input_held=input_held,
            both_held=both_held,
            grad_held=grad_held,
            all_held=all_held,
            keeps_output=keeps_output,
            frees_skips=frees_skips,
            frees_input=frees_input,
            forward_flops=forward_flops,
        )
        return step, sum(skip_grads.values())

    def losses(
        self,
        run: Callable[[State], Losses],
        state: State,
        module: nn.Module,
        *,
        requires_grad: bool = True,
        carried: Collection[int] = (),
        outlives_autocast: bool = False,
        has_reader: bool = False,
    ) -> Pass:
        """Measure a head with its losses.

        Args:
            run: Gives the losses of a state.
            state: What flows in; only its shapes are used.
            module: Owns the parameters, if they are not part of the network.
            requires_grad: Whether gradients flow out of it.
            carried: Indices of the outputs into which they do not.
            outlives_autocast: Whether its backward runs after autocast has ended,
                as that of the last module does.
            has_reader: Whether a gradient of the same map is there before its own.
        """
        self.tracker.track_module(module)
        with self.running():
            given = fresh_state(state, requires_grad, outputs_without=carried)
            start, flops = self._begin()
            losses = run(given)
            forward_peak, kept = self._since(start)
            if has_reader:
                losses['loss_of_reader'] = Sink.apply(None, *flow_tensors(given))
            casts = self._casts() if outlives_autocast else 0
            # Behind the last module nothing but autograd holds its output.
            freed = _flowing_outputs(given) if outlives_autocast else set()
            self.tracker.linger(freed)
            alive = [t for t in given.tensors() if not freed & storages_of(t)]
            del given
            self.tracker.reset_peak()
            if any('loss' in name for name in losses):
                local_backward(_UNSCALED, _NO_MODULE, losses)
            backward_peak = self.tracker.peak_bytes - start - kept
            (held_peak,) = self._lingering(start + kept)
            del losses, alive
            step = self._finish(forward_peak, kept, backward_peak, flops, module)
            return step._replace(
                casts=step.casts + casts, input_held=held_peak - backward_peak
            )

    def _linger_grads(self, grads: tuple[Tensor, ...]) -> None:
        """Count the gradients of a unit's output as alive, in the last two groups."""
        self.tracker.linger_too(storages_of(grads), (4, 5))

    def _lingering(self, start: int) -> list[int]:
        """The peaks beyond a start with each group of tensors alive; ends them."""
        peaks = [peak - start for peak in self.tracker.lingering_peaks]
        self.tracker.linger()
        return peaks

    def _casts(self) -> int:
        """Clear autocast's cache and tell how much it alone held."""
        before = self.tracker.live_bytes
        torch.clear_autocast_cache()
        return before - self.tracker.live_bytes

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """While active, what runs is counted, in the precision of the training."""
        with (
            autocast(self.amp_dtype),
            self.tracker,
            self.assumed,
            exact_inner_checkpoints(),
        ):
            yield

    def _begin(self) -> tuple[int, int]:
        self.tracker.reset_peak()
        return self.tracker.live_bytes, self.tracker.flops

    def _since(self, start: int) -> tuple[int, int]:
        return self.tracker.peak_bytes - start, self.tracker.live_bytes - start

    def _backward(self, loss: Tensor | None) -> None:
        self.tracker.reset_peak()
        if loss is not None:
            with autocast(None):
                loss.backward()

    def _finish(
        self,
        forward_peak: int,
        kept: int,
        backward_peak: int,
        flops: int,
        module: nn.Module | None = None,
    ) -> Pass:
        parameters = list((module or self.network).parameters())
        grads = num_bytes_of(p.grad for p in parameters if p.grad is not None)
        for parameter in parameters:
            parameter.grad = None
        return Pass(
            forward_peak=forward_peak,
            kept=kept,
            backward_peak=backward_peak,
            grads=grads,
            casts=self._casts(),
            flops=self.tracker.flops - flops,
        )


def _noting_grads(skips: tuple, others: Collection[int]) -> dict[int, int]:
    """Bytes that gradients of skips hold; filled when they are made."""
    noted: dict[int, int] = {}

    def note(grad: Tensor) -> None:
        storage = grad.untyped_storage()
        noted[storage_key(grad)] = storage.nbytes()

    for tensor in tensors_of(skips):
        if id(tensor) not in others and tensor.requires_grad:
            tensor.register_hook(note)
    return noted


def _flowing_outputs(state: State) -> set[int]:
    """Storages of the running value that are outputs, too."""
    return storages_of(state.x) & storages_of(state.outputs)


class _Unscaled:
    """An optimizer wrapper without accumulation or gradient scaling."""

    @staticmethod
    def scale_loss(loss: Tensor) -> Tensor:
        return loss


_UNSCALED: Any = _Unscaled()
_NO_MODULE = LocalModule(0, ())


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

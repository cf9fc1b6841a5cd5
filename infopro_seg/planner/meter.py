"""Runs one link of a fake network forward and backward and counts bytes and FLOPs."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ..engine.local_backward_hook import local_backward
from ..models import LocalModule
from ..units import State
from .allocation import AllocationTracker, autocast, num_bytes_of
from .assumed_shapes import AssumedShapes
from .costs import Pass
from .flow import Sink, flow_tensors, fresh_state


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
        self, run: Callable[[State], State], state: State, *, is_first: bool
    ) -> Pass:
        """Measure a unit.

        Args:
            run: Runs it.
            state: What flows in; only its shapes are used, and earlier outputs are
                not: they belong to the units that made them.
            is_first: Whether a wall, or the image, is right before it.
        """
        state = dataclasses.replace(state, outputs=())
        with self._running():
            given = fresh_state(state, requires_grad=not is_first)
            # Skips live on in the units that put them aside.
            held = given if is_first else given.skips
            start, flops = self._begin()
            after = run(given)
            del given
            forward_peak, kept = self._since(start)
            ends = {id(t): t for t in after.tensors() if t.requires_grad}
            loss = Sink.apply(*ends.values()) if ends else None
            self.tracker.linger(after.tensors())
            del after, ends
            backward_peak = self._backward(loss, start + kept)
            held_peak = self.tracker.lingering_peak_bytes - start - kept
            self.tracker.linger(())
            del loss, held
            return self._finish(
                forward_peak,
                kept,
                backward_peak,
                flops,
                released=held_peak - backward_peak,
            )

    def losses(
        self,
        run: Callable[[State], dict[str, Tensor]],
        state: State,
        module: nn.Module,
        *,
        requires_grad: bool = True,
        outlives_autocast: bool = False,
        has_reader: bool = False,
    ) -> Pass:
        """Measure a head with its losses.

        Args:
            run: Gives the losses of a state.
            state: What flows in; only its shapes are used.
            module: Owns the parameters, if they are not part of the network.
            requires_grad: Whether gradients flow out of it.
            outlives_autocast: Whether its backward runs after autocast has ended,
                as that of the last module does.
            has_reader: Whether a gradient of the same map is there before its own.
        """
        self.tracker.track_module(module)
        with self._running():
            given = fresh_state(state, requires_grad=requires_grad)
            start, flops = self._begin()
            losses = run(given)
            forward_peak, kept = self._since(start)
            if has_reader:
                losses['loss_of_reader'] = Sink.apply(*flow_tensors(given))
            casts = self._casts() if outlives_autocast else 0
            self.tracker.reset_peak()
            if any('loss' in name for name in losses):
                local_backward(_UNSCALED, _NO_MODULE, losses)
            backward_peak = self.tracker.peak_bytes - start - kept
            del given, losses
            step = self._finish(forward_peak, kept, backward_peak, flops, module)
            return step._replace(casts=step.casts + casts)

    def _casts(self) -> int:
        """Clear autocast's cache and tell how much it alone held."""
        before = self.tracker.live_bytes
        torch.clear_autocast_cache()
        return before - self.tracker.live_bytes

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with autocast(self.amp_dtype), self.tracker, self.assumed:
            yield

    def _begin(self) -> tuple[int, int]:
        self.tracker.reset_peak()
        return self.tracker.live_bytes, self.tracker.flops

    def _since(self, start: int) -> tuple[int, int]:
        return self.tracker.peak_bytes - start, self.tracker.live_bytes - start

    def _backward(self, loss: Tensor | None, start: int) -> int:
        self.tracker.reset_peak()
        if loss is not None:
            with autocast(None):
                loss.backward()
        return self.tracker.peak_bytes - start

    def _finish(
        self,
        forward_peak: int,
        kept: int,
        backward_peak: int,
        flops: int,
        module: nn.Module | None = None,
        released: int = 0,
    ) -> Pass:
        parameters = list((module or self.network).parameters())
        grads = num_bytes_of(p.grad for p in parameters if p.grad is not None)
        for parameter in parameters:
            parameter.grad = None
        return Pass(
            forward_peak=forward_peak,
            kept=kept,
            backward_peak=backward_peak,
            released=released,
            grads=grads,
            casts=self._casts(),
            flops=self.tracker.flops - flops,
        )


class _Unscaled:
    """An optimizer wrapper without accumulation or gradient scaling."""

    @staticmethod
    def scale_loss(loss: Tensor) -> Tensor:
        return loss


_UNSCALED: Any = _Unscaled()
_NO_MODULE = LocalModule(0, ())

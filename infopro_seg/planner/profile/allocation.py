"""Counts the bytes of live tensors and the FLOPs of a piece of training.

With fake tensors nothing is allocated or computed: a step that needs many GiB is
counted on a laptop. What is counted are the tensors that PyTorch's operators return;
workspaces inside a kernel are not seen.
"""

import weakref
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import conv_flop_count, flop_registry

from ...compat import TorchDispatchMode, packet_of, storage_key, tree_leaves


class AllocationTracker(TorchDispatchMode):
    """Watches every tensor that comes into being while it is active.

    A storage counts once, however many views it has, from the operator that makes it
    until it is freed. Equals torch's own MemTracker (tests/planner/test_allocation.py)
    and also counts FLOPs (2 a multiply-add), in a fraction of the time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live_bytes = 0
        self.peak_bytes = 0
        self.lingering_peaks: list[int] = []
        self.flops = 0
        self._refs: dict[int, weakref.ref] = {}
        self._lingering: list[set[int]] = []
        self.lingering_bytes: list[int] = []

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let compiled code run as compiled, not operator by operator as written."""
        return True

    def track(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were made before the tracker was active."""
        for tensor in tensors:
            self._note(tensor)

    def track_module(self, module: nn.Module) -> None:
        """Count the parameters, gradients and buffers of a module."""
        parameters = list(module.parameters())
        self.track(parameters)
        self.track(p.grad for p in parameters if p.grad is not None)
        self.track(module.buffers())

    def linger(self, *groups: Collection[int]) -> None:
        """Let ``lingering_peaks`` count freed storages as alive, one peak a group.

        Args:
            groups: Each as `storages_of` gives it.
        """
        self._lingering = [set(group) for group in groups]
        self.lingering_bytes = [0] * len(groups)
        self.lingering_peaks = [self.live_bytes] * len(groups)

    def linger_too(self, storages: Collection[int], groups: Iterable[int]) -> None:
        """Add storages to some of the groups, by their indices."""
        for i in groups:
            self._lingering[i] |= set(storages)

    def reset_peak(self) -> None:
        """Start new peaks at what is alive now."""
        self.peak_bytes = self.live_bytes
        self.lingering_peaks = [self.live_bytes + b for b in self.lingering_bytes]

    def is_alive(self, address: int) -> bool:
        """Whether a counted storage, by its `storage_key`, has not been freed."""
        return address in self._refs

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and count what it returns."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        count = flop_registry.get(packet_of(func))
        if func is torch.ops.aten.convolution_backward.default:
            self.flops += _convolution_backward_flops(*args)
        elif count is not None:
            self.flops += int(count(*args, **kwargs, out_val=result))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._note(leaf)
        return result

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage_key(tensor)
        if address in self._refs:
            return
        num_bytes = storage.nbytes()

        def free(ref: weakref.ref) -> None:
            del self._refs[address]
            self.live_bytes -= num_bytes
            for i, group in enumerate(self._lingering):
                if address in group:
                    group.remove(address)
                    self.lingering_bytes[i] += num_bytes

        # PyTorch keeps the Python object of a storage as long as the storage itself.
        self._refs[address] = weakref.ref(storage, free)
        self.live_bytes += num_bytes
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)
        self.lingering_peaks = [
            max(peak, self.live_bytes + num_bytes)
            for peak, num_bytes in zip(
                self.lingering_peaks, self.lingering_bytes, strict=True
            )
        ]


def _convolution_backward_flops(
    grad: Tensor, x: Tensor, weight: Tensor, *settings: Any
) -> int:
    """As many as forward, for the gradient of the input and for that of the weight.

    torch 2.14's own count leaves groups out: it is 65 times that of forward for a
    depthwise convolution of 64 channels, where 2 is right.
    """
    *_, transposed, _, _, output_mask = settings
    forward = conv_flop_count([*x.shape], [*weight.shape], [*grad.shape], transposed)
    return int(forward) * sum(output_mask[:2])


def storages_of(tensors: Any) -> set[int]:
    """What tells the storages of (nested) tensors apart, as long as they are alive."""
    return {
        storage_key(leaf)
        for leaf in tree_leaves(
            list(tensors) if isinstance(tensors, Iterator) else tensors
        )
        if isinstance(leaf, Tensor)
    }


def autocast(dtype: torch.dtype | None) -> torch.autocast:
    """Mixed precision as in training, on the fake CPU; None switches it off."""
    return torch.autocast('cpu', dtype=dtype or torch.bfloat16, enabled=bool(dtype))

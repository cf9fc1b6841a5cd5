"""Where ``num_modules=K`` cuts: into K modules that need about the same memory.

What autograd keeps is measured without weights and without data, for two images of one
reference size: 512x512 or the backbone's own, and another one of the model's only if
it does not take that. The result depends on the model alone, not on tool, batch, crop,
precision, optimizer or number of processes: the same model is always cut at the same
places. To fit a memory budget, use the planner (`infopro_seg.planner`), which knows
all of these.
"""

import dataclasses
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from ..compat import storage_key
from ..settings import LocalSettings
from ..settings.splits import even_splits, evenest_ends
from ..units import State, Unit
from .build import build_local_heads
from .hollow import meta_copy
from .losses.chunked import CHUNK_BYTES, obstacle
from .probe import Boundary, Probe, image_sizes
from .readers import auxiliary_heads, reads_by_head, stages_of
from .tensor_bytes import num_bytes_of
from .weightless import WithoutStorage, undisturbed_randomness

_NUM_IMAGES = 2
_SIZE = (512, 512)
# Full-resolution maps that are alive at once in a stock cross-entropy: its input or the
# input's gradient, the log-softmax, and the latter's gradient (counted on DeepLabV3).
_LOSS_MAPS = 3


def even_module_splits(
    network: Any, settings: LocalSettings, units: Sequence[Unit], probe: Probe
) -> tuple[str, ...]:
    """The splits that ``num_modules`` stands for.

    The largest module needs as little memory as possible; among cuts that are equal in
    this, the modules are as even as possible.

    Args:
        network: A segmentor that is complete except for its local heads; not changed.
        settings: With ``num_modules``; ``head``, ``weights`` and ``lean_loss`` matter.
        units: The units of its backbone.
        probe: The probe of its backbone.

    Returns:
        Names of the last units of all modules but the last.

    Raises:
        ValueError: if there are fewer than ``num_modules`` - 1 units.
    """
    names = [unit.name for unit in units]
    num_modules = settings.num_modules or 1
    if not 2 <= num_modules <= len(names) + 1:
        return even_splits(names, num_modules)
    errors: list[Exception] = []
    for size in image_sizes(network, usual=_SIZE):
        try:
            with undisturbed_randomness():
                measurement = _Measurement(network, settings, units, probe, size)
                costs = measurement.module_bytes()
        except Exception as error:  # without data a network may fail in any way
            errors.append(error)
        else:
            ends = evenest_ends(costs, num_modules)[:-1]
            return tuple(names[end - 1] for end in ends)
    warnings.warn(
        f'num_modules={num_modules} cuts into equal numbers of units: the memory '
        f'of this network cannot be measured without data ({type(errors[0]).__name__}: '
        f'{str(errors[0]).partition(chr(10))[0]}). Name splits to cut elsewhere.',
        stacklevel=2,
    )
    return even_splits(names, num_modules)


class _Measurement:
    """What each possible local module of one network needs for its step, in bytes.

    Weights and optimizer state are left out: every cut needs them.
    """

    def __init__(
        self,
        network: Any,
        settings: LocalSettings,
        units: Sequence[Unit],
        probe: Probe,
        size: tuple[int, int],
    ):
        self.settings = settings
        self.units = units
        self.probe = probe
        self.reads = {} if network.with_neck else reads_by_head(network, probe.outputs)
        self.network = revert_sync_batchnorm(meta_copy(network)).train()
        self.is_lean = settings.lean_loss is not False
        self.size = size
        self.image = torch.empty(
            _NUM_IMAGES, probe.image_channels, *self.size, device='meta'
        )
        own = (*self.network.parameters(), *self.network.buffers())
        self.weights = {storage_key(tensor) for tensor in own}

    def module_bytes(self) -> np.ndarray:
        """Bytes of the module of units ``i`` to ``j - 1``, at [i, j].

        The last row and column are those of the end: [i, U + 1] is the last module,
        with the decode head; [U, U + 1] is the decode head alone.
        """
        state, states, saved = State(self.image), [], []
        for unit in self.units:
            with self._noting() as kept:
                state = unit(self.network.backbone, state)
            states.append(state)
            saved.append(kept)
        return self._add_up(states, saved)

    def _add_up(self, states: list[State], saved: list[dict]) -> np.ndarray:
        num_units = len(self.units)
        kept = _kept_between(
            [
                {k: t.untyped_storage().nbytes() for k, t in unit.items()}
                for unit in saved
            ]
        )
        auxiliaries = self._auxiliary_bytes(states[-1])
        heads = self._head_bytes(states, saved)
        tail = self._tail_bytes(states[-1], saved[-1])
        # Gradients stay: those of all earlier modules are alive while a later one runs.
        grads = np.cumsum([0, *map(self._grad_bytes, self.units)])
        costs = np.full((num_units + 1, num_units + 2), np.inf)
        for first in range(num_units + 1):
            entered = self._entered_bytes(states, first)
            for end in range(first + 1, num_units + 1):
                working = heads[end - 1] + _working_bytes(states[end - 1])
                read = self._auxiliary_between(states, auxiliaries, first, end)
                own = kept[first, end] + working + read
                costs[first, end] = entered + own + grads[end]
            read = self._auxiliary_between(states, auxiliaries, first, num_units + 1)
            own = kept[first, num_units] + tail + read
            costs[first, -1] = entered + own + grads[-1]
        return costs

    def _noting(self) -> '_Saved':
        return _Saved(self.weights)

    def _grad_bytes(self, unit: Unit) -> int:
        parameters = unit.parameters(self.network.backbone)
        return num_bytes_of(p for p in parameters if p.requires_grad)

    def _entered_bytes(self, states: list[State], first: int) -> int:
        """The image, and what has crossed the wall before a module."""
        tensors = [self.image]
        if first:
            before = states[first - 1]
            read = set().union(*self.reads.values()) if self.reads else None
            tensors += before.keep(read).tensors()
        return num_bytes_of(tensors)

    def _head_bytes(self, states: list[State], saved: list[dict]) -> list[int]:
        """Bytes of a local head behind each unit; measured once per shape of map."""
        known: dict[tuple, int] = {}
        found = []
        for boundary, state, kept in zip(
            self.probe.boundaries, states, saved, strict=True
        ):
            key = (boundary.channels, boundary.stride, tuple(state.feature_map().shape))
            if key not in known:
                known[key] = self._local_head_bytes(boundary, state, kept)
            found.append(known[key])
        return found

    def _local_head_bytes(self, boundary: Boundary, state: State, kept: dict) -> int:
        stages = stages_of(self.network.decode_head)
        channels = self.probe.image_channels
        settings = dataclasses.replace(self.settings, weights=self._heaviest())
        with WithoutStorage():
            (head,) = build_local_heads(settings, [boundary], stages, channels)
        head = revert_sync_batchnorm(head).to('meta').train()
        # Valid only while the head is alive: another storage may get its address.
        own = {storage_key(t) for t in (*head.parameters(), *head.buffers())}
        num_bytes = 0
        feature_map = state.feature_map()
        with _Saved(self.weights | own) as saved:
            if head.reconstruction is not None:
                logits = head.reconstruction(feature_map, self.size)
                # The logits, the image to compare with and the gradient.
                num_bytes += 3 * num_bytes_of([logits])
            if head.segmentation is not None:
                logits = head.segmentation.forward((feature_map,))
                num_bytes += self._loss_bytes(head.segmentation, logits)
        return num_bytes + num_bytes_of(t for k, t in saved.items() if k not in kept)

    def _heaviest(self) -> dict[str, Any]:
        """Weights of a head that has every half that any module has."""
        return {
            part: max(ends) if isinstance(ends, Sequence) else ends
            for part, ends in self.settings.weights.items()
        }

    def _tail_bytes(self, state: State, kept: dict) -> int:
        """Neck and decode head, with their losses."""
        num_bytes = 0
        with self._noting() as saved:
            features = state.result()
            if self.network.with_neck:
                features = self.network.neck(features)
            previous: tuple = ()
            for stage in stages_of(self.network.decode_head):
                logits = stage.forward(features, *previous)
                previous = (_first_tensor(logits),)
                num_bytes += self._loss_bytes(stage, logits)
            if self.network.with_neck:
                for head in auxiliary_heads(self.network).values():
                    num_bytes += self._loss_bytes(head, head.forward(features))
        # The losses are freed before the gradient of the largest map exists.
        largest = max((num_bytes_of([t]) for t in saved.values()), default=0)
        own = num_bytes_of(t for k, t in saved.items() if k not in kept)
        return own + max(num_bytes, largest)

    def _auxiliary_bytes(self, state: State) -> dict[str, int]:
        """Auxiliary heads that read the backbone, with their losses."""
        if self.network.with_neck:
            return {}
        found = {}
        for name, head in auxiliary_heads(self.network).items():
            with self._noting() as saved:
                loss_bytes = self._loss_bytes(head, head.forward(state.outputs))
            found[name] = loss_bytes + num_bytes_of(saved.values())
        return found

    def _auxiliary_between(
        self, states: list[State], found: dict[str, int], first: int, end: int
    ) -> int:
        """Auxiliary heads that belong to the module of units ``first`` to ``end``-1."""
        before = len(states[first - 1].outputs) if first else 0
        after = len(states[min(end, len(states)) - 1].outputs)
        return sum(
            num_bytes
            for name, num_bytes in found.items()
            if before <= max(self.reads[name]) < after
        )

    def _loss_bytes(self, head: nn.Module, logits: Any) -> int:
        """Bytes of a loss: it needs labels, so they are computed, not measured."""
        stride = getattr(head, 'loss_stride', 1)
        area = np.prod([-(-side // stride) for side in self.size])
        num_bytes = 0
        for x in _maps(logits):
            if x.shape[1] != getattr(head, 'out_channels', None):
                # Not class logits but an embedding: never resized to the labels.
                num_bytes += 2 * num_bytes_of([x])
                continue
            map_bytes = 4 * x.shape[0] * x.shape[1] * int(area)
            if self.is_lean and obstacle(head) is None:
                map_bytes = min(map_bytes, CHUNK_BYTES)
            num_bytes += _LOSS_MAPS * map_bytes + 2 * num_bytes_of([x])
        return num_bytes


class _Saved:
    """While entered, notes what autograd saves: one tensor per storage.

    Storages are identified by address, so every noted tensor is kept alive: a freed
    one would leave its address to another.
    """

    def __init__(self, ignored: set[int]):
        self._ignored = ignored
        self._tensors: dict[int, Tensor] = {}
        self._hooks = saved_tensors_hooks(self._pack, lambda tensor: tensor)

    def __enter__(self) -> dict[int, Tensor]:
        self._hooks.__enter__()
        return self._tensors

    def __exit__(self, *exception: Any) -> None:
        self._hooks.__exit__(*exception)

    def _pack(self, tensor: Tensor) -> Tensor:
        address = storage_key(tensor)
        if address not in self._ignored:
            self._tensors[address] = tensor
        return tensor


def _kept_between(saved: Sequence[dict[int, int]]) -> np.ndarray:
    """Bytes that units ``i`` to ``j - 1`` keep together, at [i, j].

    A storage that several of them keep counts once.
    """
    num_units = len(saved)
    # [p, u]: what unit u keeps and, before it, unit p - 1 was the last to keep.
    first_kept = np.zeros((num_units + 1, num_units))
    last: dict[int, int] = {}
    for unit, kept in enumerate(saved):
        for address, num_bytes in kept.items():
            first_kept[last.get(address, -1) + 1, unit] += num_bytes
            last[address] = unit
    before = np.cumsum(first_kept, axis=0)
    total = np.zeros((num_units + 1, num_units + 1))
    for first in range(num_units):
        total[first, first + 1 :] = np.cumsum(before[first, first:])
    return total


def _working_bytes(state: State) -> int:
    """What the backward pass of a unit needs temporarily, estimated by its output."""
    return num_bytes_of([state.x] if isinstance(state.x, Tensor) else state.x)


def _maps(logits: Any) -> list[Tensor]:
    """All maps (N, C, h, w) in what a head returns."""
    if isinstance(logits, Tensor):
        return [logits] if logits.dim() == 4 else []
    parts = logits.values() if isinstance(logits, dict) else logits
    if not isinstance(parts, Iterable):
        return []
    return [x for part in parts for x in _maps(part)]


def _first_tensor(logits: Any) -> Any:
    return logits[0] if isinstance(logits, tuple | list) else logits

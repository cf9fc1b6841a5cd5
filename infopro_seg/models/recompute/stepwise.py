"""Stepwise recompute: tensors come back one at a time, when backward asks for them.

Checkpointing brings back everything that a piece of network keeps at once, before its
first gradient. Here each repeatable operator is noted as it runs, and autograd keeps a
recipe in place of the tensor: which operator, on which inputs. A recipe is followed
when backward unpacks it. Intermediate results are held until backward has used them, so
that nothing is recomputed twice.
"""

import contextlib
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...compat import (
    TO_COPY,
    TorchDispatchMode,
    is_mutable,
    storage_key,
    tree_map_only,
    version_of,
    written_tensors,
)

_aten = torch.ops.aten

# Convolutions and matrix products: their inputs are kept.
_PRODUCTS = frozenset(
    {_aten.convolution.default, _aten.addmm.default, _aten.mm.default}
)
# Repeating these changes nothing but the result: no random draws, no communication.
_REPEATABLE = frozenset(
    {
        TO_COPY,
        _aten.batch_norm_elemt.default,  # the normalisation of SyncBatchNorm
        _aten.cudnn_batch_norm.default,
        _aten.gelu.default,
        _aten.hardswish.default,
        _aten.hardtanh.default,
        _aten.leaky_relu.default,
        _aten.miopen_batch_norm.default,
        _aten.native_batch_norm.default,
        _aten.native_group_norm.default,
        _aten.native_layer_norm.default,
        _aten.relu.default,
        _aten.silu.default,
    }
)
_OUT_OF_PLACE = {
    _aten.hardswish_.default: _aten.hardswish.default,
    _aten.hardtanh_.default: _aten.hardtanh.default,
    _aten.leaky_relu_.default: _aten.leaky_relu.default,
    _aten.relu_.default: _aten.relu.default,
    _aten.silu_.default: _aten.silu.default,
}
# Operators that update running statistics (arguments 3 and 4) if argument 5, training,
# is True.
_BATCH_NORMS = frozenset(
    {
        _aten.cudnn_batch_norm.default,
        _aten.miopen_batch_norm.default,
        _aten.native_batch_norm.default,
    }
)


@contextlib.contextmanager
def stepwise_recompute(*, keep_products: bool = False) -> Iterator['Recorder']:
    """While active, autograd keeps recipes instead of tensors where it can.

    Inputs of convolutions and matrix products are kept, and so is what has no recipe.
    Losses, gradients and buffers stay equal bit for bit.

    Args:
        keep_products: Also keep the results of convolutions and matrix products, so
            that only norms and activation functions are computed again.

    Yields:
        The recorder; tell it which tensors stay alive anyway (`Recorder.keep`).
    """
    recorder = Recorder(keep_products)
    if not torch.is_grad_enabled():
        yield recorder
        return
    hooks = torch.autograd.graph.saved_tensors_hooks(recorder.pack, _unpack)
    try:
        with hooks, recorder:
            yield recorder
    finally:
        recorder.forget()


class Recorder(TorchDispatchMode):
    """Notes how tensors are made.

    Args:
        keep_products: See `stepwise_recompute`.
    """

    def __init__(self, keep_products: bool = False):
        super().__init__()
        self._recorded = _REPEATABLE if keep_products else _REPEATABLE | _PRODUCTS
        #: By address of the storage. An entry is removed when its storage is freed.
        self._values: dict[int, tuple[weakref.ref, _Value]] = {}

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """Let backward use tensors that stay alive anyway, such as a unit's output."""
        for tensor in tensors:
            value = self._value(tensor)
            if value is not None:
                value.keep(tensor)

    def forget(self) -> None:
        """End the recording; recipes live on in what autograd keeps."""
        self._values.clear()

    def pack(self, tensor: Tensor) -> Any:
        """What autograd keeps in place of a tensor."""
        value = self._value(tensor)
        if value is None:
            # Detached: an output with its history would keep itself alive.
            return tensor.detach()
        return _Slot(_View.of(tensor, value))

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operator and note it."""
        kwargs = kwargs or {}
        recipe = None
        if func in self._recorded or self._remakes(func, args):
            repeated = _OUT_OF_PLACE.get(func, func)
            recipe = _Recipe(repeated, self._inputs(repeated, args), kwargs)
        result = func(*args, **kwargs)
        if recipe is not None:
            made = result if isinstance(result, Tensor) else result[0]
            self._note(made, _Value(recipe, made.stride()))
        elif is_mutable(func):
            for tensor in written_tensors(func, args, kwargs):
                self._values.pop(storage_key(tensor), None)
        return result

    def _remakes(self, func: Any, args: Any) -> bool:
        """Whether an operator overwrites a tensor that can be made again."""
        if func not in _OUT_OF_PLACE or _is_part(args[0]):
            return False
        value = self._value(args[0])
        return value is not None and value.recipe is not None

    def _inputs(self, func: Any, args: Any) -> Any:
        """The arguments of a recipe; tensors that go into a product are kept."""
        if func in _BATCH_NORMS and args[5]:
            args = (*args[:3], None, None, *args[5:])

        def noted(tensor: Tensor) -> _View:
            value = self._value(tensor)
            if value is None:
                value = _Value(None, tensor.stride())
            if value.recipe is None or func in _PRODUCTS:
                value.keep(tensor)
            return _View.of(tensor, value)

        return tree_map_only(Tensor, noted, args)

    def _value(self, tensor: Tensor) -> '_Value | None':
        entry = self._values.get(storage_key(tensor))
        return None if entry is None else entry[1]

    def _note(self, tensor: Tensor, value: '_Value') -> None:
        storage, values = tensor.untyped_storage(), self._values
        address = storage_key(tensor)
        # PyTorch keeps the Python object of a storage as long as the storage itself.
        ref = weakref.ref(storage, lambda _: values.pop(address, None))
        values[address] = ref, value


class _Recipe(NamedTuple):
    func: Any
    args: Any
    kwargs: dict[str, Any]

    def follow(self) -> Tensor:
        args = tree_map_only(_View, _View.get, self.args, is_leaf=_is_view)
        result = self.func(*args, **self.kwargs)
        return result if isinstance(result, Tensor) else result[0]


class _Kept(NamedTuple):
    """A tensor that is kept.

    Args:
        tensor: Detached, because its history would keep this object alive.
        original: The tensor with its history, while it is alive.
        version: Version of the original when it was noted.
    """

    tensor: Tensor
    original: weakref.ref[Tensor]
    version: int

    @classmethod
    def of(cls, tensor: Tensor) -> '_Kept':
        return cls(tensor.detach(), weakref.ref(tensor), version_of(tensor))

    def is_changed(self) -> bool:
        original = self.original()
        return original is not None and version_of(original) != self.version


class _Value:
    """A tensor with a storage of its own: either kept, or to be made again.

    Args:
        recipe: How to make it; None for a tensor that existed before.
        stride: Stride of the tensor that was made.
    """

    def __init__(self, recipe: _Recipe | None, stride: tuple[int, ...]):
        self.recipe = recipe
        self.stride = stride
        #: What autograd still holds of it.
        self.slots: weakref.WeakSet[_Slot] = weakref.WeakSet()
        self._kept: _Kept | None = None
        self._made: Tensor | None = None

    def keep(self, tensor: Tensor) -> None:
        if self._kept is None:
            self._kept = _Kept.of(tensor)
            # Its inputs may be freed.
            self.recipe = None

    def get(self) -> Tensor:
        if self._kept is not None:
            if self._kept.is_changed():
                shape = tuple(self._kept.tensor.shape)
                raise RuntimeError(
                    f'a tensor of shape {shape} was changed in place '
                    'after it had been noted for stepwise recompute. Take the unit '
                    'that does this out of local=dict(recompute=...), or name it '
                    'without ":stepwise".'
                )
            return self._kept.tensor
        if self._made is not None:
            return self._made
        if self.recipe is None:
            raise RuntimeError('stepwise recompute has lost a tensor: report a bug.')
        made = self.recipe.follow()
        if made.stride() != self.stride:
            raise RuntimeError(
                f'{self.recipe.func} gave strides {made.stride()} in backward and '
                f'{self.stride} in forward; it cannot be recomputed stepwise.'
            )
        if self.slots:
            self._made = made
        return made

    def release(self, slot: '_Slot') -> None:
        self.slots.discard(slot)
        if not self.slots:
            self._made = None


class _View(NamedTuple):
    """A tensor in the storage of a value."""

    value: _Value
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int | torch.SymInt

    @classmethod
    def of(cls, tensor: Tensor, value: _Value) -> '_View':
        return cls(value, tensor.size(), tensor.stride(), tensor.storage_offset())

    def get(self) -> Tensor:
        tensor = self.value.get()
        if (tensor.size(), tensor.stride(), tensor.storage_offset()) == self[1:]:
            return tensor
        return tensor.as_strided(*self[1:])


class _Slot:
    """What autograd keeps in place of a tensor."""

    def __init__(self, view: _View):
        self.view = view
        view.value.slots.add(self)


def _unpack(kept: Any) -> Tensor:
    if isinstance(kept, Tensor):
        return kept
    value = kept.view.value
    # Operators were noted below autocast: casts are operators of their own.
    with torch.no_grad(), _without_autocast():
        tensor = kept.view.get()
    value.release(kept)
    return tensor


@contextlib.contextmanager
def _without_autocast() -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for device in ('cpu', 'cuda'):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _is_view(value: Any) -> bool:
    return isinstance(value, _View)


def _is_part(tensor: Tensor) -> bool:
    """Whether a tensor is only a part of its storage."""
    return tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size()

"""Every private part of torch, mmengine, mmseg and numpy that the package uses.

No other file touches one (ruff's SLF001 and PLC2701 see to it). Each has a canary in
tests/compat/test_canaries.py, which fails with the name of what a new version moved.
"""

import contextlib
import functools
import importlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.utils.checkpoint
from mmengine.config import Config, ConfigDict
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.models import EncoderDecoder, UNet, VisionTransformer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.conv import _ConvNd as ConvNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

try:
    multiarray = importlib.import_module('numpy._core.multiarray')
except ImportError:  # numpy 1
    multiarray = importlib.import_module('numpy.core.multiarray')

__all__ = [
    'NUMPY_PICKLES',
    'OVERRIDDEN',
    'PRODUCTS',
    'READ_VALUE',
    'TO_COPY',
    'UNIQUE',
    'ConvNd',
    'FakeTensorMode',
    'NormBase',
    'TorchDispatchMode',
    'accumulative_counts',
    'backend_with_budget',
    'check_divisible',
    'checkpoints_repeated_in',
    'config_dict',
    'copy_versions',
    'decide_validation_interval',
    'is_mutable',
    'is_on_disk',
    'is_pure_python',
    'is_resumed',
    'is_training',
    'labels_of',
    'loading_schemes',
    'loading_through',
    'name_bases',
    'packet_of',
    'set_epoch',
    'storage_key',
    'tree_leaves',
    'tree_map',
    'tree_map_only',
    'unset_fake_temporarily',
    'version_of',
    'with_positions',
    'written_tensors',
]

#: Private methods of the hosts that our classes override, (class, method). Under
#: another name in the host, ours would be passed over without a word.
OVERRIDDEN = (
    (BaseDecodeHead, '_stack_batch_gt'),
    (CheckpointHook, '_save_best_checkpoint'),
    (CheckpointHook, '_save_checkpoint_with_step'),
    (EncoderDecoder, '_decode_head_forward_train'),
)

#: Operators whose names in torch begin with an underscore.
TO_COPY = torch.ops.aten._to_copy.default
READ_VALUE = torch.ops.aten._local_scalar_dense.default
UNIQUE = torch.ops.aten._unique2.default

#: Convolutions, matrix products and attention: what costs most to compute again.
PRODUCTS = frozenset(
    getattr(torch.ops.aten, name).default
    for name in (
        *('convolution', 'mm', 'addmm', 'bmm', 'baddbmm'),
        '_scaled_dot_product_cudnn_attention',
        '_scaled_dot_product_efficient_attention',
        '_scaled_dot_product_flash_attention',
        '_scaled_dot_product_flash_attention_for_cpu',
    )
    if hasattr(torch.ops.aten, name)  # not all in torch 2.6
)

#: Functions through which numpy pickles arrays and scalars.
NUMPY_PICKLES = (multiarray._reconstruct, multiarray.scalar)


def storage_key(tensor: Tensor) -> int:
    """Tells the storage of a tensor from all others that are alive.

    It is an address: once the storage is freed, another one may get it. Whoever keeps
    keys keeps the tensors alive, or drops a key when `weakref.ref` of the storage calls
    back, which happens when the storage is freed and not before: torch keeps the Python
    object of a storage as long as the storage.
    """
    return tensor.untyped_storage()._cdata


def version_of(tensor: Tensor) -> int:
    """How often a tensor was written to in place."""
    return tensor._version


_checkpoint = torch.utils.checkpoint
# Of a checkpoint without reentrance; under the first name since torch 2.14.
_GENERATOR = next(
    name
    for name in (
        '_checkpoint_without_reentrant_generator_impl',
        '_checkpoint_without_reentrant_generator',
    )
    if hasattr(_checkpoint, name)
)
_stock_generator = getattr(_checkpoint, _GENERATOR)


@contextlib.contextmanager
def checkpoints_repeated_in(
    contexts: Callable[[Callable], tuple[Any, Any]] | None,
) -> Iterator[None]:
    """While active, every call of torch's checkpointing is one without reentrance.

    However it was imported. A call that brings contexts of its own keeps them.

    Args:
        contexts: Gives, for a function, what its first run is in and what its second
            run is in. None: functions only run, nothing is checkpointed.
    """

    def generator(function: Callable, *args: Any, **kwargs: Any) -> Iterator[None]:
        if contexts is None:
            return _once()
        stock = _checkpoint.noop_context_fn
        ours = functools.partial(contexts, function)
        args = tuple(ours if value is stock else value for value in args)
        if kwargs.get('context_fn') is stock:
            kwargs['context_fn'] = ours
        return _stock_generator(function, *args, **kwargs)

    def _once() -> Iterator[None]:
        yield

    class WithoutReentrance:
        @staticmethod
        def apply(function: Callable, preserve_rng_state: bool, *args: Any) -> Any:
            return _checkpoint.checkpoint(
                function,
                *args,
                use_reentrant=False,
                preserve_rng_state=preserve_rng_state,
            )

    ours = {'CheckpointFunction': WithoutReentrance, _GENERATOR: generator}
    before = {name: getattr(_checkpoint, name) for name in ours}
    try:
        for name, value in ours.items():
            setattr(_checkpoint, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(_checkpoint, name, value)


def backend_with_budget(name: str, budget: float) -> Any:
    """A backend of `torch.compile` that keeps a share of the activations.

    Args:
        name: Of a backend of torch.
        budget: 1 keeps what is fastest, 0 what is least.
    """
    # Takes seconds, which no other command should wait for.
    from torch._dynamo.backends.registry import lookup_backend
    from torch._functorch import config

    backend = lookup_backend(name)

    def compiled(graph: Any, inputs: Any) -> Any:
        # What is kept is decided while the graph is compiled, not when it runs.
        with config.patch(activation_memory_budget=budget):
            return backend(graph, inputs)

    return compiled


def packet_of(func: Any) -> Any:
    """An operator without its overload: ``aten.add`` of ``aten.add.Tensor``."""
    return func._overloadpacket


def is_mutable(func: Any) -> bool:
    """Whether an operator writes to any of its arguments."""
    return func._schema.is_mutable


def written_tensors(func: Any, args: Any, kwargs: Mapping) -> Iterator[Tensor]:
    """The tensors that a call of an operator writes to."""
    for i, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[i] if i < len(args) else kwargs.get(argument.name)
            for tensor in given if isinstance(given, list | tuple) else (given,):
                if isinstance(tensor, Tensor):
                    yield tensor


def copy_versions(source: Mapping, target: OrderedDict) -> None:
    """Give a state dict the versions of modules, by which they convert old weights."""
    target._metadata = getattr(  # type: ignore[attr-defined]
        source, '_metadata', OrderedDict()
    )


def is_resumed(runner: Runner) -> bool:
    """Whether a run goes on from a checkpoint of its own."""
    return runner._resume


def is_training(runner: Runner) -> bool:
    """Whether a run trains: its loop has been built."""
    return isinstance(runner._train_loop, BaseLoop)


def accumulative_counts(optim_wrapper: OptimWrapper) -> int:
    """Iterations per optimizer step."""
    return getattr(optim_wrapper, '_accumulative_counts', 1)


def decide_validation_interval(loop: Any) -> None:
    """Let a loop of the host choose the interval for where it is, as it does itself."""
    loop._decide_current_val_interval()


def set_epoch(iterator: Any, epoch: int) -> None:
    """Say in which epoch the iterator of an iteration-based loop is."""
    iterator._epoch = epoch


@contextlib.contextmanager
def loading_schemes() -> Iterator[dict[str, Any]]:
    """The host's loaders of checkpoints by prefix; changes last as long as this."""
    schemes = CheckpointLoader._schemes
    CheckpointLoader._schemes = type(schemes)(schemes)
    try:
        yield CheckpointLoader._schemes
    finally:
        CheckpointLoader._schemes = schemes


def is_on_disk(name: str) -> bool:
    """Whether the host looks for a checkpoint on disk, and not where a prefix says."""
    schemes = CheckpointLoader._schemes
    return CheckpointLoader._get_checkpoint_loader(name) is schemes['']


@contextlib.contextmanager
def loading_through(wrapped: Callable[[Callable], Callable]) -> Iterator[None]:
    """Put something around every checkpoint that the host loads, as long as this.

    Args:
        wrapped: Gets what loads a checkpoint by its name, and returns what shall.
    """
    stock = CheckpointLoader.__dict__['load_checkpoint']
    load = staticmethod(wrapped(CheckpointLoader.load_checkpoint))
    CheckpointLoader.load_checkpoint = load
    try:
        yield
    finally:
        CheckpointLoader.load_checkpoint = stock


def config_dict(cfg: Config) -> ConfigDict:
    """The content of a config, to be changed in place."""
    return cfg._cfg_dict


def is_pure_python(path: str) -> bool:
    """Whether a config is written in mmengine's pure-Python style, by imports.

    Args:
        path: A file. A name such as ``mmseg::...`` is read as text, always.
    """
    return '::' not in path and Config._is_lazy_import(path)


def name_bases(package: str, find: Callable[[str], object]) -> None:
    """Let ``_base_ = 'package::NAME'`` inherit from a file that comes with a package.

    By itself mmengine knows only its own family of packages, asks for a folder in the
    name, and looks for what is inherited in registries that are named like the package.

    Args:
        package: Its name.
        find: Gives the path of a file by its whole name.
    """
    stock = Config._get_cfg_path

    def resolve(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(f'{package}::'):
            return str(find(cfg_path)), None
        return stock(cfg_path, filename)

    Config._get_cfg_path = staticmethod(resolve)


def labels_of(head: BaseDecodeHead, data_samples: list) -> Tensor:
    """Labels (N, 1, H, W) as a head compares them with its logits."""
    return head._stack_batch_gt(data_samples)


def check_divisible(backbone: UNet, x: Any) -> None:
    """Refuse images whose sides a U-Net cannot halve as often as it must."""
    backbone._check_input_divisible(x)


def with_positions(backbone: VisionTransformer, tokens: Tensor, grid: Any) -> Tensor:
    """Tokens of a vision transformer with its position embedding, resized to a grid."""
    return backbone._pos_embeding(tokens, grid, backbone.pos_embed)

"""Which head reads which stage outputs of a backbone."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ..compat import NormBase, tree_leaves, tree_map_only
from ..settings.recompute_mode import DECODE_HEAD
from .hollow import hollow_copy, meta_copy


class Readers(NamedTuple):
    """Who reads which stage output of a network that is cut.

    Args:
        auxiliary_module: Index of the local module that each auxiliary head trains.
        read_later: For each module but the last, the indices of the outputs that are
            read after it; None for all.
        read_ever: Indices of the outputs that any head reads; None for all.
    """

    auxiliary_module: dict[str, int]
    read_later: tuple[frozenset[int] | None, ...]
    read_ever: frozenset[int] | None


def find_readers(
    network: Any, outputs: Sequence[Tensor], num_outputs: Sequence[int]
) -> Readers:
    """Find out who reads which stage output.

    An auxiliary head trains the first module after which all of its maps exist. A neck
    reads everything, and heads behind a neck belong to the last module.

    Args:
        network: An EncoderDecoder.
        outputs: Stage outputs without storage, see `Probe`.
        num_outputs: How many stage outputs exist after each module but the last.
    """
    last = len(num_outputs)
    heads = auxiliary_heads(network)
    if network.with_neck or not last:
        return Readers(dict.fromkeys(heads, last), (None,) * last, None)
    reads = reads_by_head(network, outputs)
    decode_reads = reads.pop(DECODE_HEAD)
    modules = {
        name: next((k for k, n in enumerate(num_outputs) if max(read) < n), last)
        for name, read in reads.items()
    }
    later = tuple(_later(decode_reads, reads, modules, last))
    return Readers(modules, later, decode_reads.union(*reads.values()))


def reads_by_head(network: Any, outputs: Sequence[Tensor]) -> dict[str, frozenset[int]]:
    """`outputs_read` of ``decode_head`` and of every auxiliary head.

    Args:
        network: An EncoderDecoder; its neck is ignored.
        outputs: Stage outputs without storage, see `Probe`.
    """
    heads = {DECODE_HEAD: network.decode_head, **auxiliary_heads(network)}
    train_cfg = network.train_cfg
    return {
        name: outputs_read(head, outputs, train_cfg, name)
        for name, head in heads.items()
    }


def stages_of(decode_head: nn.Module) -> tuple[BaseDecodeHead, ...]:
    """The stages of a cascade's decode head; an ordinary head is its only stage."""
    if isinstance(decode_head, nn.ModuleList):
        return tuple(decode_head)
    return (decode_head,)


def auxiliary_heads(network: Any) -> dict[str, BaseDecodeHead]:
    """Auxiliary heads by the names that EncoderDecoder gives them in logs."""
    if not network.with_auxiliary_head:
        return {}
    if isinstance(network.auxiliary_head, nn.ModuleList):
        return {f'aux_{i}': head for i, head in enumerate(network.auxiliary_head)}
    return {'aux': network.auxiliary_head}


def outputs_read(
    head: nn.Module,
    outputs: Sequence[Tensor],
    train_cfg: Any = None,
    name: str = DECODE_HEAD,
) -> frozenset[int]:
    """Which stage outputs a decode or auxiliary head reads.

    Its ``in_index`` does not tell: the head of DeepLabV3+ also takes ``inputs[0]``.
    So the head is run, in evaluation and in training mode, on outputs that note when
    they are read. It runs without weights; if it is not one of mmseg's own, its loss
    runs too, with weights.

    Args:
        head: Any mmseg decode head, or the stages of a cascade; it is not changed.
        outputs: Stage outputs without storage, see `Probe`.
        train_cfg: Passed on to its loss.
        name: The head's name in the warning.

    Returns:
        Indices into ``outputs``; all of them if the head cannot be run this way.
    """
    noting = _NotingTuple(_two_images(outputs, 'meta'))
    error = _error_of(_run_forward, head, noting)
    own = [stage for stage in stages_of(head) if not _is_of_mmseg(type(stage))]
    if error is None and not own:
        return frozenset(noting.read)
    real = _NotingTuple(_two_images(outputs, _device_of(head)))
    loss_error = _error_of(_run_loss, head, real, train_cfg)
    if loss_error is None or (error is None and not any(map(_has_own_loss, own))):
        return frozenset(noting.read | real.read)
    if name != DECODE_HEAD:
        warnings.warn(
            f'nobody knows which stage outputs the auxiliary head {name} '
            f'({type(head).__name__}) reads: a trial run of its loss failed with '
            f'{loss_error!r}. It is trained with the last module, and maps of earlier '
            'modules get no gradient from it.',
            stacklevel=2,
        )
    return frozenset(range(len(outputs)))


def _run_forward(head: nn.Module, noting: '_NotingTuple') -> None:
    """Run in both modes, without weights; norm layers stay in evaluation mode."""
    head = meta_copy(head)
    for training in (False, True):
        _set_mode(head, training)
        previous: tuple[Tensor, ...] = ()
        with _NotingUses(noting):
            for stage in stages_of(head):
                previous = (stage(noting, *previous),)


def _run_loss(head: nn.Module, noting: '_NotingTuple', train_cfg: Any) -> None:
    """Run the loss as in training, with weights, on maps of zeros."""
    head = hollow_copy(head, lambda tensor: tensor.clone())
    _set_mode(head, training=True)
    samples = [_blank_sample(noting) for _ in range(2)]
    noting.read.clear()
    previous: tuple[Tensor, ...] = ()
    with _NotingUses(noting):
        for stage in stages_of(head):
            stage.loss(noting, *previous, samples, train_cfg)
            previous = (stage(noting, *previous),)


def _error_of(run: Callable[..., None], *args: Any) -> Exception | None:
    try:
        # Some heads (LightHamHead) draw their bases anew in every forward pass.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            run(*args)
    except Exception as error:  # heads of other packages may fail in any way
        return error
    return None


def _set_mode(head: nn.Module, training: bool) -> None:
    """Set the mode, but not of norm layers: they would demand devices and sizes."""
    head.train(training)
    for module in head.modules():
        if isinstance(module, NormBase):
            module.eval()


def _two_images(outputs: Sequence, device: Any) -> list:
    """Stage outputs of two images, filled with zeros."""

    def of_two(out: Tensor) -> Tensor:
        return torch.zeros(2, *out.shape[1:], dtype=out.dtype, device=device)

    return [tree_map_only(Tensor, of_two, out) for out in outputs]


def _blank_sample(outputs: Sequence) -> SegDataSample:
    """Labels of class 0, four times the size of the largest map."""
    tensors = tree_leaves(list(outputs))
    sizes = [tuple(out.shape[-2:]) for out in tensors if out.ndim == 4]
    height, width = max(sizes, default=(16, 16))
    size = (4 * height, 4 * width)
    sample = SegDataSample(
        metainfo={'img_shape': size, 'ori_shape': size, 'pad_shape': size}
    )
    label = torch.zeros(1, *size, dtype=torch.long, device=tensors[0].device)
    sample.gt_sem_seg = PixelData(data=label)
    return sample


def _device_of(head: nn.Module) -> torch.device:
    return next((p.device for p in head.parameters()), torch.device('cpu'))


def _is_of_mmseg(owner: Any) -> bool:
    return owner.__module__.split('.')[0] == 'mmseg'


def _has_own_loss(stage: BaseDecodeHead) -> bool:
    """Whether the loss may read more than the forward pass does."""
    return 'loss' in vars(stage) or not _is_of_mmseg(type(stage).loss)


def _later(
    decode_reads: frozenset[int],
    reads: Mapping[str, frozenset[int]],
    modules: Mapping[str, int],
    last: int,
) -> Iterator[frozenset[int]]:
    for k in range(last):
        behind = [read for name, read in reads.items() if modules[name] > k]
        yield decode_reads.union(*behind)


class _NotingTuple(tuple):
    """A tuple that remembers which of its entries were taken."""

    read: set[int]

    def __new__(cls, items: Sequence[Tensor]) -> '_NotingTuple':
        self = super().__new__(cls, items)
        self.read = set()
        return self

    def __getitem__(self, index: Any) -> Any:
        self.read.update(
            range(len(self))[index]
            if isinstance(index, slice)
            else [range(len(self))[index]]
        )
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Tensor]:
        self.read.update(range(len(self)))
        return super().__iter__()


class _NotingUses(TorchFunctionMode):
    """Notes entries read by functions that bypass ``__iter__`` (torch.cat)."""

    def __init__(self, noting: _NotingTuple):
        super().__init__()
        self._noting = noting

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run a function of tensors and note whether it was given the tuple."""
        for leaf in tree_leaves((args, kwargs)):
            if leaf is self._noting:
                self._noting.read.update(range(len(leaf)))
        return func(*args, **(kwargs or {}))

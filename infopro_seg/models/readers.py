"""Who reads the stage outputs of a backbone: the heads, and what each of them takes."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..recompute_mode import DECODE_HEAD
from .probe import meta_copy


class Readers(NamedTuple):
    """Who reads which stage output, of a network that is cut.

    Args:
        auxiliary_module: Index of the local module that each auxiliary head trains.
        read_later: For each module but the last: indices of the outputs that are read
            behind it; None for all.
    """

    auxiliary_module: dict[str, int]
    read_later: tuple[frozenset[int] | None, ...]


def find_readers(
    network: Any, outputs: Sequence[Tensor], num_outputs: Sequence[int]
) -> Readers:
    """Find out who reads which stage output.

    An auxiliary head trains the first module after which all its maps exist. A neck
    reads everything, and heads behind it belong to the last module.

    Args:
        network: An EncoderDecoder.
        outputs: Stage outputs without storage, see `Probe`.
        num_outputs: Stage outputs that exist after each module but the last.
    """
    last = len(num_outputs)
    heads = auxiliary_heads(network)
    if network.with_neck:
        return Readers(dict.fromkeys(heads, last), (None,) * last)
    reads = reads_by_head(network, outputs)
    decode_reads = reads.pop(DECODE_HEAD)
    modules = {
        name: next((k for k, n in enumerate(num_outputs) if max(read) < n), last)
        for name, read in reads.items()
    }
    return Readers(modules, tuple(_later(decode_reads, reads, modules, last)))


def reads_by_head(network: Any, outputs: Sequence[Tensor]) -> dict[str, frozenset[int]]:
    """`outputs_read` of ``decode_head`` and of every auxiliary head.

    Args:
        network: An EncoderDecoder; a neck is not looked at.
        outputs: Stage outputs without storage, see `Probe`.
    """
    heads = {DECODE_HEAD: network.decode_head, **auxiliary_heads(network)}
    return {name: outputs_read(head, outputs) for name, head in heads.items()}


def stages_of(decode_head: nn.Module) -> tuple[nn.Module, ...]:
    """The stages of a cascade's decode head; an ordinary head is its only stage."""
    if isinstance(decode_head, nn.ModuleList):
        return tuple(decode_head)
    return (decode_head,)


def auxiliary_heads(network: Any) -> dict[str, nn.Module]:
    """Auxiliary heads by the names that EncoderDecoder logs them by."""
    if not network.with_auxiliary_head:
        return {}
    if isinstance(network.auxiliary_head, nn.ModuleList):
        return {f'aux_{i}': head for i, head in enumerate(network.auxiliary_head)}
    return {'aux': network.auxiliary_head}


def outputs_read(head: nn.Module, outputs: Sequence[Tensor]) -> frozenset[int]:
    """Which stage outputs a decode or auxiliary head reads.

    Its ``in_index`` does not tell: the head of DeepLabV3+ also takes ``inputs[0]``.
    So the head is run once, without weights, on outputs that note their reader.

    Args:
        head: Any mmseg decode head, or the stages of a cascade; it is not changed.
        outputs: Stage outputs without storage, see `Probe`.

    Returns:
        Indices into ``outputs``; all of them if the head cannot be run this way.
    """
    noting = _NotingTuple(outputs)
    head = meta_copy(head)
    head.eval()
    previous: tuple[Tensor, ...] = ()
    try:
        # Some heads (LightHamHead) draw their bases anew in every forward pass.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            for stage in stages_of(head):
                previous = (stage(noting, *previous),)
    except Exception:  # a head of unknown make: keeping every output is always right
        return frozenset(range(len(outputs)))
    return frozenset(noting.read)


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

    def __new__(cls, items: Sequence[Tensor]) -> '_NotingTuple':
        self = super().__new__(cls, items)
        self.read = set()
        return self

    def __getitem__(self, index):
        self.read.update(
            range(len(self))[index]
            if isinstance(index, slice)
            else [range(len(self))[index]]
        )
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Tensor]:
        self.read.update(range(len(self)))
        return super().__iter__()

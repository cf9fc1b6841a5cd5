"""Which label values the losses of a head, and a metric, accept."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmseg.evaluation import IoUMetric
from mmseg.models.losses import HuasdorffDisstanceLoss, OhemCrossEntropy, TverskyLoss

_PACKAGES = ('mmseg', 'mmdet', 'infopro_seg')
# Heads that make their own targets from any labels.
_OWN_TARGETS = ('STDCHead', 'VPDDepthHead')
# Losses of the host; other losses are not judged.
_LOSSES = {
    'CrossEntropyLoss',
    'OhemCrossEntropy',
    'FocalLoss',
    'LovaszLoss',
    'DiceLoss',
    'TverskyLoss',
    'HuasdorffDisstanceLoss',
}


@dataclass(frozen=True)
class LabelRule:
    """Label values that are allowed.

    Args:
        owner: What accepts them, such as ``decode_head``.
        num_classes: Values 0..num_classes - 1 are allowed.
        ignored: Further allowed values, which are ignored.
        takes_negative: Whether all values below 0 are allowed and ignored.
    """

    owner: str
    num_classes: int
    ignored: frozenset[int] = frozenset()
    takes_negative: bool = False

    def wrong_values(self, labels: torch.Tensor) -> list[int]:
        """Values that are not allowed, sorted.

        Args:
            labels: Integers of any shape, on the CPU; int64 is fastest.
        """
        flat = labels.detach().to(torch.int64).numpy()
        # A few counts instead of one mask per condition take a quarter of the time. As
        # unsigned integers negative values are huge: one comparison finds them, too.
        outside = [i for i in self.ignored if not 0 <= i < self.num_classes]
        num_outside = np.count_nonzero(flat.view(np.uint64) >= self.num_classes)
        num_ignored = sum(np.count_nonzero(flat == index) for index in outside)
        if num_outside == num_ignored:
            return []
        return [int(value) for value in np.unique(flat) if not self._takes(value)]

    def _takes(self, value: int) -> bool:
        is_class = 0 <= value < self.num_classes
        is_masked = value < 0 and self.takes_negative
        return is_class or is_masked or value in self.ignored

    def __str__(self) -> str:
        ignored = ', '.join(map(str, sorted(self.ignored)))
        return (
            f'{self.owner} has {self.num_classes} classes: allowed are '
            f'0..{self.num_classes - 1}, and {ignored} (ignore_index)'
        )


def head_rules(model: torch.nn.Module) -> list[LabelRule]:
    """The label values that the losses of a segmentor's heads accept.

    Args:
        model: The segmentor, maybe wrapped (DistributedDataParallel, test-time
            augmentation).

    Returns:
        One rule per head whose losses are the host's; equal ones are merged. Empty for
        a segmentor or preprocessor of another kind, which may change the labels first.
    """
    segmentor = model
    while not hasattr(segmentor, 'decode_head') and hasattr(segmentor, 'module'):
        segmentor = segmentor.get_submodule('module')
    parts = [getattr(type(segmentor), 'loss', None)]
    if getattr(segmentor, 'data_preprocessor', None) is not None:
        parts.append(type(segmentor.data_preprocessor))
    if not all(_is_known(part) for part in parts):
        return []
    rules: dict[tuple, LabelRule] = {}
    for name, head in _heads(segmentor):
        rule = _rule_of(name, head)
        if rule is not None:
            content = (rule.num_classes, rule.ignored, rule.takes_negative)
            rules.setdefault(content, rule)
    return list(rules.values())


def metric_rule(evaluator: Any, heads: list[LabelRule]) -> LabelRule | None:
    """The label values that the metric of an evaluation counts.

    Args:
        evaluator: The loop's evaluator.
        heads: The result of `head_rules`; values that a head accepts are allowed, too.

    Returns:
        The rule, or None if no metric compares labels.
    """
    for metric in getattr(evaluator, 'metrics', []):
        if type(metric) is IoUMetric and not metric.format_only:
            classes = len((metric.dataset_meta or {}).get('classes') or ())
            if not classes:
                return None
            counts = [classes, *(rule.num_classes for rule in heads)]
            ignored = {metric.ignore_index}.union(*(rule.ignored for rule in heads))
            return LabelRule('the evaluation', max(counts), frozenset(ignored))
    return None


def _heads(segmentor: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    for name in ('decode_head', 'auxiliary_head'):
        head = getattr(segmentor, name, None)
        if isinstance(head, torch.nn.ModuleList | list | tuple):
            yield from ((f'{name}[{i}]', part) for i, part in enumerate(head))
        elif head is not None:
            yield name, head


def _rule_of(name: str, head: torch.nn.Module) -> LabelRule | None:
    """The label values that a head's losses accept; None if that is unknown."""
    num_classes = getattr(head, 'num_classes', None)
    ignore_index = getattr(head, 'ignore_index', None)
    functions = [getattr(type(head), key, None) for key in ('loss', 'loss_by_feat')]
    owners = [getattr(f, '__qualname__', '').partition('.')[0] for f in functions]
    is_known = all(_is_known(function) for function in functions)
    if not is_known or set(owners) & set(_OWN_TARGETS) or num_classes is None:
        return None
    losses = _losses(head)
    known = [loss for loss in losses if _is_host_loss(loss)]
    if losses and not known:
        return None
    channels = getattr(head, 'out_channels', None)
    channels = channels if isinstance(channels, int) else num_classes
    limits = [_num_values(loss, channels) for loss in known] or [num_classes]
    ignored = [_ignored(loss, ignore_index) for loss in known] or [{ignore_index}]
    both = {i for values in ignored for i in values if i is not None}
    taken = {i for i in both if _all_take(i, limits, ignored)}
    masked = [bool(getattr(loss, 'use_sigmoid', False)) for loss in known]
    is_masked = bool(known) and all(masked) and _names(known) == {'CrossEntropyLoss'}
    return LabelRule(name, min(limits), frozenset(taken), is_masked)


def _ignored(loss: torch.nn.Module, ignore_index: int | None) -> set[int | None]:
    """Values that a loss ignores: its head's ignore index, or its own."""
    if isinstance(loss, OhemCrossEntropy):
        return {loss.ignore_label}
    if isinstance(loss, TverskyLoss | HuasdorffDisstanceLoss):
        return {loss.ignore_index}
    # Dice's own ignore_index is a class to leave out; it ignores all that is no class.
    return {ignore_index}


def _all_take(value: int, limits: list[int], ignored: list[set]) -> bool:
    pairs = zip(limits, ignored, strict=True)
    return all(0 <= value < limit or value in values for limit, values in pairs)


def _num_values(loss: torch.nn.Module, channels: int) -> int:
    """Number of label values that a loss accepts for a number of output channels."""
    name = type(loss).__name__
    is_softmax = name == 'CrossEntropyLoss' and not loss.use_sigmoid
    if channels == 1 and not is_softmax and name != 'OhemCrossEntropy':
        return 2  # background and foreground
    return channels + (name == 'FocalLoss')  # one more value: no class


def _losses(head: torch.nn.Module) -> list[torch.nn.Module]:
    losses = getattr(head, 'loss_decode', None)
    if losses is None:
        return []
    return list(losses) if isinstance(losses, torch.nn.ModuleList) else [losses]


def _is_host_loss(loss: torch.nn.Module) -> bool:
    return _is_known(type(loss)) and type(loss).__name__ in _LOSSES


def _names(losses: list[torch.nn.Module]) -> set[str]:
    return {type(loss).__name__ for loss in losses}


def _is_known(part: Any) -> bool:
    return getattr(part, '__module__', '').partition('.')[0] in _PACKAGES

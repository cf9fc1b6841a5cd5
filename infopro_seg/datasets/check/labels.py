"""A hook that finds wrong label values before they reach the model."""

from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from mmseg.structures import SegDataSample

from ...scopes import register
from .label_rules import LabelRule, head_rules, metric_rule


@register(HOOKS)
class CheckLabelsHook(Hook):
    """Stop at the first label value that the model has no class for.

    On a GPU such a value ends in a device-side assertion that names neither file nor
    value; in validation the metric silently leaves it out. The check runs on the batch
    from the loader, so no pipeline has to be changed. It takes about 0.3 ms for labels
    of 512x1024 on one core.

    In training, a value is allowed if the losses of every head accept it: the values
    0..num_classes - 1 and the ignore index, or 0 and 1 for a sigmoid head with one
    output. In validation, it is allowed if the metric counts it or a head accepts it.
    Heads, losses and metrics that are not the host's are not checked.
    """

    def __init__(self) -> None:
        self._rules: list[LabelRule] = []

    def before_run(self, runner: Runner) -> None:
        """Read the allowed values from the model."""
        self._rules = head_rules(runner.model)
        if not self._rules:
            print_log(
                'CheckLabelsHook: no head whose losses are known, training labels are '
                'not checked',
                logger='current',
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check the labels of a batch, which are still on the CPU.

        Raises:
            ValueError: if a label value is not allowed; names file and values.
        """
        check_batch(data_batch, self._rules)

    def before_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check labels that are compared with predictions.

        Raises:
            ValueError: if a label value is not allowed; names file and values.
        """
        self._check_scored(runner.val_loop.evaluator, data_batch)

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None
    ) -> None:
        """Check labels as in validation.

        Raises:
            ValueError: if a label value is not allowed; names file and values.
        """
        self._check_scored(runner.test_loop.evaluator, data_batch)

    def _check_scored(self, evaluator: object, data_batch: dict | None) -> None:
        rule = metric_rule(evaluator, self._rules)
        if rule is not None:
            check_batch(data_batch, [rule])


def check_batch(data_batch: dict | None, rules: list[LabelRule]) -> None:
    """Check the labels of a batch from a loader.

    Raises:
        ValueError: if a label value is not allowed; names file and values.
    """
    for sample in _samples(data_batch):
        if 'gt_sem_seg' in sample:
            for rule in rules:
                _check(sample, rule)


def _check(sample: SegDataSample, rule: LabelRule) -> None:
    labels = sample.gt_sem_seg.data
    label_file = sample.metainfo.get('seg_map_path', '(unnamed)')
    image_file = sample.metainfo.get('img_path', '(unnamed)')
    files = f'label file {label_file} of image {image_file}'
    if labels.dim() == 3 and labels.shape[0] != 1 and labels.shape[-1] in (2, 3, 4):
        height, width, channels = labels.shape
        raise ValueError(
            f'{files} holds colours, {channels} channels of {height}x{width} pixels, '
            'where class indices are needed: one channel that holds the class index '
            'of each pixel. Convert the label files'
        )
    values = rule.wrong_values(labels)
    if values:
        shown = ', '.join(map(str, values[:10])) + (', ...' * (len(values) > 10))
        raise ValueError(
            f'{files} holds the values {shown}. '
            f'{rule}. Convert the label files (Cityscapes: '
            'tools/prepare_cityscapes.py makes labelTrainIds), or map the values in '
            'the data set (label_map, reduce_zero_label), or set num_classes of all '
            'heads to the number of classes in the data'
        )


def _samples(data_batch: dict | None) -> Iterator[SegDataSample]:
    """All data samples of a batch; test-time augmentation nests them in lists."""
    stack = [data_batch.get('data_samples')] if isinstance(data_batch, dict) else []
    while stack:
        item = stack.pop()
        if isinstance(item, list | tuple):
            stack.extend(reversed(item))
        elif item is not None:
            yield item

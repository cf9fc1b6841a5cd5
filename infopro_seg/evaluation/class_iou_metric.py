"""mmseg's IoU with the numbers of every class in the log, not only in its text."""

from typing import Any

from mmseg.evaluation.metrics import IoUMetric
from mmseg.registry import METRICS

from ..scopes import register

#: Begins the names of the numbers of classes.
PREFIX = 'IoU.'


@register(METRICS)
class ClassIoUMetric(IoUMetric):
    """An IoUMetric that also returns ``IoU.<class>`` of every class, in percent.

    A class that is neither in the labels nor predicted has NaN, and does not count in
    the mean.

    Args:
        args: Positional arguments of IoUMetric.
        kwargs: Keyword arguments of IoUMetric.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The scores of IoUMetric and those of classes.

        Args:
            results: For every image four tensors (num_classes,), pixels in the
                intersection, in the union, predicted and labelled.
        """
        metrics: dict[str, Any] = super().compute_metrics(results)
        if self.format_only:
            return metrics
        intersections, unions, *_ = zip(*results, strict=True)
        scores = 100 * sum(intersections).double() / sum(unions).double()
        classes = self.dataset_meta['classes']
        for name, score in zip(classes, scores.tolist(), strict=True):
            metrics[PREFIX + name] = round(score, 2)
        return metrics

"""A hook that lets errors of the data pipeline name the files of the sample."""

from collections.abc import Callable, Iterator
from typing import Any

from mmcv.transforms import Compose as ComposeTransform
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric
from mmseg.registry import HOOKS
from torch.utils.data import DataLoader, Dataset

from ..datasets.check.sizes import POSITIONAL, is_scaled, is_shifted
from ..scopes import register
from .stand_in import StandIn, stood_for


@register(HOOKS)
class DataGuardHook(Hook):
    """Name the files of a sample that cannot be loaded.

    An error in a worker names the line of code, but not the file. Labels that differ in
    size from their image are an error, too, where a crop would silently pair wrong
    pixels or a metric would compare them.
    """

    def before_train(self, runner: Runner) -> None:
        """Guard the training data; workers start later."""
        guard(runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        """Guard the validation data."""
        guard(runner.val_dataloader, scored=_is_scored(runner.val_evaluator))

    def before_test(self, runner: Runner) -> None:
        """Guard the test data."""
        guard(runner.test_dataloader, scored=_is_scored(runner.test_evaluator))


class GuardedPipeline(StandIn):
    """Calls the transforms of a pipeline one by one, if that is what the pipeline does.

    Args:
        pipeline: The data set's own: one of the host's Composes, or any callable.
        scored: Whether labels are compared with predictions of the image's size.
    """

    _scored: bool

    def __init__(self, pipeline: Callable, *, scored: bool = False) -> None:
        super().__init__(pipeline, _scored=scored)

    def __call__(self, results: dict) -> dict | None:
        """Load one sample.

        Args:
            results: The data set's entry of the sample, with ``img_path``.

        Raises:
            ValueError: if a transform fails, or if image and label differ in size where
                it matters; names the files.
        """
        files = _files(results)
        for transform in _steps_of(stood_for(self)):
            if _has(results, 'gt_seg_map'):
                _check_size(results, type(transform).__name__, files, self._scored)
            transformed = _call(transform, results, files)
            if transformed is None:
                return None
            results = transformed
        return results


class GuardedTransform(StandIn):
    """One of the transforms that a data set calls itself, to mix images.

    Args:
        transform: The transform.
    """

    def __init__(self, transform: Callable) -> None:
        super().__init__(transform)

    def __call__(self, results: dict) -> dict | None:
        """Transform a sample.

        Raises:
            ValueError: if the transform fails; names the files.
        """
        return _call(stood_for(self), results, _files(results))


def guard(dataloader: DataLoader, *, scored: bool = False) -> None:
    """Guard the pipelines of a loader's data set and of all that it wraps.

    Args:
        dataloader: The runner's; changed in place.
        scored: See `GuardedPipeline`.
    """
    for dataset in _all_parts(dataloader.dataset, set()):
        pipeline = vars(dataset).get('pipeline')
        if isinstance(pipeline, list):
            dataset.pipeline = [
                t if isinstance(t, GuardedTransform) else GuardedTransform(t)
                for t in pipeline
            ]
        elif callable(pipeline) and not isinstance(pipeline, GuardedPipeline):
            dataset.pipeline = GuardedPipeline(pipeline, scored=scored)


def _steps_of(pipeline: Any) -> list[Callable]:
    """The transforms of a host's Compose; any other pipeline is a single step.

    One with a ``__call__`` of its own may choose among its transforms, or repeat them.
    """
    kind = type(pipeline)
    is_hosts = kind.__call__ is Compose.__call__ or (
        kind.__call__ is ComposeTransform.__call__
        and getattr(kind, 'transform', None) is ComposeTransform.transform
    )
    return list(pipeline.transforms) if is_hosts else [pipeline]


def _call(transform: Callable, results: dict, files: str) -> dict | None:
    try:
        return transform(results)
    except Exception as error:  # the files may be broken in any way
        raise ValueError(
            f'{files}: {type(transform).__name__} failed, {type(error).__name__}: '
            f'{error}. A file may be damaged or no image.'
        ) from error


def _files(results: Any) -> str:
    if not isinstance(results, dict):
        return 'image (unnamed)'
    files = f'image {results.get("img_path", "(unnamed)")}'
    if results.get('seg_map_path'):
        files += f', label {results["seg_map_path"]}'
    return files


def _has(results: Any, name: str) -> bool:
    return isinstance(results, dict) and name in results


def _check_size(results: dict, step: str, files: str, scored: bool) -> None:
    """Check the input of a step: arrays as they are now, not as they were loaded."""
    if not hasattr(results.get('img'), 'shape'):
        return
    image, labels = results['img'].shape, results['gt_seg_map'].shape
    original = results.get('ori_shape', image)
    if step == 'PackSegInputs' and scored:
        is_wrong, image = tuple(original[:2]) != tuple(labels[:2]), original
    elif step == 'PackSegInputs':
        is_wrong = not is_scaled(image, labels)
    else:
        is_wrong = step in POSITIONAL and is_shifted(image, labels)
    if is_wrong:
        raise ValueError(
            f'{files}: at {step} the image has {image[0]}x{image[1]} pixels (height x '
            f'width), its labels {labels[0]}x{labels[1]}; they must be equal.'
        )


def _is_scored(evaluator: Any) -> bool:
    """Whether a metric compares labels and predictions pixel by pixel."""
    metrics = getattr(evaluator, 'metrics', [])
    return any(
        isinstance(metric, IoUMetric) and not metric.format_only for metric in metrics
    )


def _all_parts(dataset: Any, seen: set[int]) -> Iterator[Any]:
    """A data set and all data sets that it holds, whatever the attributes' names."""
    if id(dataset) in seen or not hasattr(dataset, '__dict__'):
        return
    seen.add(id(dataset))
    yield dataset
    for value in list(vars(dataset).values()):
        for part in value if isinstance(value, list | tuple) else [value]:
            # Not all of the host's wrappers are torch Datasets.
            if isinstance(part, Dataset) or hasattr(part, 'get_data_info'):
                yield from _all_parts(part, seen)

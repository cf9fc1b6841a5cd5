"""Whether it matters that a label differs in size from its image.

The host handles many such pairs correctly: a resize to a fixed size makes them equal,
and logits are resized to the label. So the pipeline itself is run on blank arrays.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.dataset import BaseDataset

from ..samples import known_steps

#: Transforms that take or fill the same pixels of image and label: sizes must be equal.
POSITIONAL = {'RandomCrop', 'CenterCrop', 'Pad', 'RandomCutOut'}
# Larger images are not judged here, but when they are loaded.
_MAX_PIXELS = 2**26


def mismatch_matters(
    dataset: BaseDataset,
    image_size: tuple[int, int],
    label_size: tuple[int, int],
    *,
    scored: bool,
) -> bool:
    """Whether image and label of different sizes certainly fail, or pair wrong pixels.

    Args:
        dataset: A data set with its pipeline.
        image_size: Height and width.
        label_size: Height and width, different from those of the image.
        scored: Whether predictions of the image's size are compared with the label.
    """
    if max(np.prod(image_size), np.prod(label_size)) > _MAX_PIXELS:
        return False
    try:
        return _run_blank(dataset, image_size, label_size, scored)
    except Exception:  # a transform that wants other images; the host will tell
        return False


def _run_blank(
    dataset: BaseDataset,
    image_size: tuple[int, int],
    label_size: tuple[int, int],
    scored: bool,
) -> bool:
    results: dict[str, Any] = {'seg_fields': [], 'img_path': '', 'seg_map_path': ''}
    for step in known_steps(dataset):
        name = type(step).__name__
        if name == 'LoadImageFromFile':
            results['img'] = np.zeros((*image_size, 3), np.uint8)
            results['img_shape'] = results['ori_shape'] = image_size
        elif name == 'LoadAnnotations':
            results['gt_seg_map'] = np.zeros(label_size, np.uint8)
            results['seg_fields'].append('gt_seg_map')
        elif name in POSITIONAL and 'gt_seg_map' in results:
            image, label = results['img'].shape, results['gt_seg_map'].shape
            return is_shifted(image, label)
        elif name == 'PackSegInputs':
            label = results['gt_seg_map'].shape
            if dataset.test_mode or scored:
                return scored and label != image_size
            return not is_scaled(results['img'].shape[:2], label)
        else:
            results = step(results)
    return False


def is_shifted(image: tuple[int, ...], label: tuple[int, ...]) -> bool:
    """Whether the same pixel shows different places of the scene in image and label.

    Args:
        image: Shape: height, width, and maybe more.
        label: Shape: height, width, and maybe more.
    """
    return max(abs(a - b) for a, b in zip(image[:2], label[:2], strict=True)) > 1


def is_scaled(image: tuple[int, ...], label: tuple[int, ...]) -> bool:
    """Whether a label has the aspect ratio of its image, up to one pixel.

    Args:
        image: Height and width.
        label: Height and width.
    """
    difference = abs(label[1] * image[0] - label[0] * image[1])
    return difference <= image[0] + image[1]


def is_scored(cfg: Config, loader: str) -> bool:
    """Whether IoUMetric compares a loader's labels with predictions.

    Args:
        cfg: A complete config.
        loader: Name of the dataloader.
    """
    if loader == 'train_dataloader':
        return False
    metrics = list(_metrics(cfg.get(loader.replace('dataloader', 'evaluator'))))
    return any(_name(m) == 'IoUMetric' and not m.get('format_only') for m in metrics)


def _metrics(evaluator: Any) -> Iterator[dict[str, Any]]:
    if isinstance(evaluator, list | tuple):
        for part in evaluator:
            yield from _metrics(part)
    elif isinstance(evaluator, dict):
        if 'metrics' in evaluator:
            yield from _metrics(evaluator['metrics'])
        else:
            yield evaluator


def _name(metric: dict[str, Any]) -> str:
    kind = metric.get('type')
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[-1]

"""Around every sample's pipeline: its own random numbers, and errors that name it."""

import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from mmengine.dataset import Compose
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch.utils.data import DataLoader, Dataset, get_worker_info

from .seeded_sampler import SampleIndex


@HOOKS.register_module()
class DataGuardHook(Hook):
    """Name the files of a sample that cannot be loaded; seed augmentations.

    A worker's error says where in the code, but not for which file. Labels of another
    size than their image are an error too: a crop would quietly pair wrong pixels.

    With a `SeededSampler` Python's and numpy's generators are seeded for each sample.
    """

    def before_train(self, runner: Runner) -> None:
        """Guard the training data; workers start later."""
        guard(runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        """Guard the validation data."""
        guard(runner.val_dataloader)

    def before_test(self, runner: Runner) -> None:
        """Guard the test data."""
        guard(runner.test_dataloader)


class GuardedPipeline:
    """Calls the transforms of a pipeline one by one.

    Args:
        pipeline: The data set's own.
    """

    def __init__(self, pipeline: Compose) -> None:
        self.pipeline = pipeline

    def __call__(self, results: dict) -> dict | None:
        """Load one sample.

        Args:
            results: From the data set, with ``img_path``.

        Raises:
            ValueError: if a transform fails, or image and label differ in size;
                names the files.
        """
        index = results.get('sample_idx')
        if isinstance(index, SampleIndex):
            seed_sample(index)
        files = f'image {results.get("img_path", "(unnamed)")}'
        if results.get('seg_map_path'):
            files += f', label {results["seg_map_path"]}'
        has_labels = False
        for transform in self.pipeline.transforms:
            try:
                results = transform(results)
            except Exception as error:  # the files may be broken in any way
                raise ValueError(
                    f'{files}: {type(transform).__name__} failed, '
                    f'{type(error).__name__}: {error}. A file may be damaged or no '
                    'image.'
                ) from error
            if results is None:
                return None
            if not has_labels and 'gt_seg_map' in results:
                has_labels = True
                _check_size(results, files)
        return results


def guard(dataloader: DataLoader) -> None:
    """Guard the pipelines of a loader's data set and of all that it wraps."""
    for dataset in _leaves(dataloader.dataset):
        pipeline = getattr(dataset, 'pipeline', None)
        if isinstance(pipeline, Compose):
            dataset.pipeline = GuardedPipeline(pipeline)


def seed_sample(index: SampleIndex) -> None:
    """Seed the random generators that augmentations draw from.

    In the main process torch's generator is left alone: it is the network's.
    """
    words = np.random.SeedSequence(index.seeds).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])  # noqa: NPY002  mmcv's transforms draw from it
    if get_worker_info() is not None:
        torch.manual_seed(int(words[2]))


def _check_size(results: dict, files: str) -> None:
    image, labels = results.get('ori_shape'), results['gt_seg_map'].shape
    if image is not None and tuple(image[:2]) != tuple(labels[:2]):
        raise ValueError(
            f'{files}: the image has {image[0]}x{image[1]} pixels (height x width), '
            f'its labels {labels[0]}x{labels[1]}; they must be equal.'
        )


def _leaves(dataset: Dataset) -> Iterator[Dataset]:
    inner: list | Callable = getattr(dataset, 'datasets', None) or (
        [dataset.dataset] if hasattr(dataset, 'dataset') else []
    )
    if not inner:
        yield dataset
    for part in inner:
        yield from _leaves(part)

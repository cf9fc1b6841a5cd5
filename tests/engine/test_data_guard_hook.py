"""Errors of loading name the files, whatever holds the data set and its pipeline."""

import pytest
from mmengine.dataset import Compose, ConcatDataset, RepeatDataset
from mmengine.runner import Runner
from mmseg.datasets import MultiImageMixDataset
from torch.utils.data import DataLoader, Dataset, Subset

from infopro_seg.engine.data_guard_hook import guard
from tests.engine.runs import Scenes


class Fail:
    """A damaged file."""

    def __call__(self, results):
        raise OSError('truncated')

    def get_indices(self, dataset):
        return [0]


def failing(pipeline=None):
    dataset = Scenes(2, pipeline=[])
    dataset.pipeline = pipeline or Compose([Fail()])
    return dataset


class OwnWrapper(Dataset):
    """A user's, under names of its own."""

    def __init__(self):
        self.sources = (failing(), failing())

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.sources[index % 2][index // 2]


def mixing():
    dataset = MultiImageMixDataset(
        ConcatDataset([failing(Compose([lambda results: results]))]),
        [{'type': 'PackSegInputs'}],
    )
    dataset.pipeline = [Fail()]
    return dataset


def sliced():
    cfg = {
        'dataset': failing(),
        'batch_size': 1,
        'num_batch_per_epoch': 1,
        'sampler': {'type': 'DefaultSampler'},
    }
    return Runner.build_dataloader(cfg).dataset


@pytest.mark.parametrize(
    'dataset',
    [
        failing,
        lambda: failing(Fail()),
        lambda: RepeatDataset(failing(), 2),
        lambda: Subset(failing(), [1, 0]),
        OwnWrapper,
        mixing,
        sliced,
    ],
    ids=['plain', 'no Compose', 'nested', 'subset', 'own', 'mixing', 'sliced'],
)
def test_the_files_are_named(dataset):
    dataset = dataset()
    # Validation guards its loader each time.
    guard(DataLoader(dataset))
    guard(DataLoader(dataset))
    with pytest.raises(
        ValueError,
        match=r'^image image_\d.png, label label_\d.png: Fail failed, OSError: trunc',
    ):
        dataset[0]


def test_a_mixing_transform_still_says_which_images_it_needs():
    dataset = mixing()
    guard(DataLoader(dataset))
    (transform,) = dataset.pipeline
    assert transform.get_indices(dataset) == [0]
    assert not hasattr(transform, 'other')

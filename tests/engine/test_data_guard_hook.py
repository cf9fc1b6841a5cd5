"""Errors of loading name the files, whatever holds the data set and its pipeline."""

import copy
import pickle

import mmcv.transforms
import pytest
from mmcv.transforms import RandomApply, RandomChoice
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
    assert isinstance(transform, Fail)


class AddToLabel:
    """Adds to a number in the sample."""

    def __init__(self, amount=1):
        self.amount = amount

    def __call__(self, results):
        return {**results, 'label': results.get('label', 0) + self.amount}


def numbers(pipeline, change=None):
    """What a data set of one pipeline gives, guarded or not, twice each."""
    for is_guarded in (False, True):
        dataset = failing(copy.deepcopy(pipeline))
        if is_guarded:
            guard(DataLoader(dataset))
        if change is not None:
            change(dataset)
        samples = [dataset.prepare_data(0) for _ in range(2)]
        yield [sample and sample.get('label') for sample in samples]


def swap(dataset):
    dataset.pipeline.transforms = [AddToLabel(5)]


def set_amount(dataset):
    assert isinstance(dataset.pipeline, Compose)
    for transform in dataset.pipeline.transforms:
        assert type(transform) is AddToLabel
        transform.amount = 7


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        (lambda dataset: dataset.pipeline.transforms.append(AddToLabel(2)), 3),
        (lambda dataset: dataset.pipeline.transforms.clear(), None),
        (swap, 5),
        (set_amount, 7),
    ],
)
def test_a_hook_of_a_user_may_change_the_transforms(change, expected):
    # A curriculum, for instance.
    unguarded, guarded = numbers(Compose([AddToLabel()]), change)
    assert unguarded == guarded == [expected] * 2


class Twice(Compose):
    def __call__(self, data):
        return super().__call__(super().__call__(data))


class Never(Compose):
    def __call__(self, data):
        return data


class Renamed(Compose):
    """Calls its transforms as the host's does."""


class Unrelated:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, results):
        return self.transforms[-1](results)


def drop(results):
    return None


ADDING = [AddToLabel(1), AddToLabel(10)]
PIPELINES = {
    'Compose': (Compose(ADDING), 11),
    'Twice': (Twice(ADDING), 22),
    'Never': (Never(ADDING), None),
    'Renamed': (Renamed(ADDING), 11),
    'Unrelated': (Unrelated(ADDING), 10),
    'of mmcv': (mmcv.transforms.Compose(ADDING), 11),
    'RandomChoice': (RandomChoice([[AddToLabel(1)], [AddToLabel(10)]], [0.0, 1.0]), 10),
    'RandomApply': (RandomApply(ADDING, prob=0.0), None),
    'function': (AddToLabel(3).__call__, 3),
    'None': (Compose([drop, *ADDING]), None),
}


@pytest.mark.parametrize('name', PIPELINES)
def test_a_pipeline_is_called_as_its_class_says(name):
    pipeline, expected = PIPELINES[name]
    unguarded, guarded = numbers(pipeline)
    assert unguarded == guarded == [expected] * 2


@pytest.mark.parametrize(
    ('pipeline', 'named'),
    [
        (Twice([Fail()]), 'Twice'),
        (Renamed([Fail()]), 'Fail'),
        (mmcv.transforms.Compose([Fail()]), 'Fail'),
        (RandomChoice([[Fail()]]), 'RandomChoice'),
    ],
)
def test_what_can_be_called_one_by_one_is_named(pipeline, named):
    dataset = failing(pipeline)
    guard(DataLoader(dataset))
    with pytest.raises(ValueError, match=f'image_0.png.*: {named} failed, OSError'):
        dataset[0]


def test_a_guarded_data_set_can_be_sent_to_a_spawned_worker():
    dataset = failing(Compose([AddToLabel()]))
    guard(DataLoader(dataset))
    assert pickle.loads(pickle.dumps(dataset))[0]['label'] == 1

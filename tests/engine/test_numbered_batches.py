"""The random numbers of a sample belong to its draw, not to who loads it or how."""

import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import (
    ClassBalancedDataset,
    ConcatDataset,
    DefaultSampler,
    InfiniteSampler,
    RepeatDataset,
)
from mmengine.runner import Runner
from mmseg.datasets import MultiImageMixDataset
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
)

from infopro_seg.engine import SeededSampler
from infopro_seg.engine.data_share import DataShare
from infopro_seg.engine.numbered_batches import NumberedBatches, number_batches
from infopro_seg.engine.random_state import random_numbers_from, random_state
from tests.engine.runs import Scenes

ALONE = DataShare(0, 1)


def draws():
    """One number of each generator that augmentations draw from."""
    return (
        random.random(),
        float(np.random.rand()),  # noqa: NPY002  as mmcv's
        float(torch.rand(())),
    )


class Draw:
    """A pipeline of one transform that is no Compose."""

    def __call__(self, results):
        return {'sample_idx': results['sample_idx'], 'draws': draws()}

    def get_indices(self, dataset):
        return [random.randrange(len(dataset))]


class Cats(Scenes):
    def get_cat_ids(self, idx):
        return [idx % 3]


def scenes():
    dataset = Cats(10, pipeline=[])
    dataset.pipeline = Draw()
    return dataset


def mixed():
    dataset = MultiImageMixDataset(
        ConcatDataset([scenes(), scenes()]), [{'type': 'PackSegInputs'}]
    )
    dataset.pipeline = [Mix()]
    return dataset


class Mix(Draw):
    def __call__(self, results):
        own = results['draws'] + results['mix_results'][0]['draws']
        return {'sample_idx': results['sample_idx'], 'draws': own + draws()}


class OwnWrapper:
    """A user's wrapper, which looks the index up and keeps the data set as it likes."""

    def __init__(self):
        self.base = scenes()
        self.table = list(range(9, -1, -1))

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return self.base[self.table[int(index)]]


WRAPPERS = {
    'none': scenes,
    'repeated': lambda: RepeatDataset(scenes(), 3),
    'concatenated': lambda: ConcatDataset([scenes(), scenes()]),
    'balanced': lambda: ClassBalancedDataset(scenes(), 0.9),
    'mixed': mixed,
    'own': OwnWrapper,
    # Has __getitems__ itself.
    'subset': lambda: Subset(scenes(), [3, 1, 4, 1, 5, 9, 2, 6]),
    'subset of list access': lambda: Subset(Subset(scenes(), range(10)), range(8)),
}


def load(
    dataset,
    num_batches=4,
    workers=0,
    sampler=SeededSampler,
    skip=None,
    share=ALONE,
    **loader,
):
    """The samples of so many batches, after others that are left out."""
    loader = DataLoader(
        dataset,
        batch_size=3,
        sampler=sampler(dataset, shuffle=True, seed=5),
        num_workers=workers,
        collate_fn=list,
        **loader,
    )
    batches = number_batches(loader, 0, share)
    if skip:
        assert batches.go_to(*skip) == 0
    iterator = iter(loader)
    samples = [next(iterator) for _ in range(num_batches)]
    return [[(s['sample_idx'], s['draws']) for s in batch] for batch in samples]


@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_numbers_do_not_depend_on_what_was_drawn_before(wrapper):
    whole = load(WRAPPERS[wrapper]())
    draws()
    assert load(WRAPPERS[wrapper](), 2, skip=(0, 2)) == whole[2:]
    flat = [numbers for batch in whole for _, numbers in batch]
    assert len(set(flat)) == len(flat)


def load_alone(num_batches, skip=0):
    """As `load`, with nothing but the sampler."""
    dataset = scenes()
    sampler = SeededSampler(dataset, shuffle=True, seed=5)
    if skip:
        sampler.skip(skip)
    iterator = iter(DataLoader(dataset, 3, sampler=sampler, collate_fn=list))
    samples = [next(iterator) for _ in range(num_batches)]
    return [[(s['sample_idx'], s['draws']) for s in batch] for batch in samples]


class SmallestFirst(BatchSampler):
    """Looks its indices up, as samplers by aspect ratio do."""

    def __iter__(self):
        order = range(100)
        for batch in super().__iter__():
            yield sorted(batch, key=lambda index: order[index])


def test_a_batch_sampler_gets_numbers_from_a_seeded_sampler():
    dataset = scenes()
    sampler = SeededSampler(dataset, shuffle=True, seed=5)
    batches = SmallestFirst(sampler, 3, drop_last=False)
    iterator = iter(DataLoader(dataset, batch_sampler=batches, collate_fn=list))
    whole = load(scenes(), sampler=InfiniteSampler)
    for expected in whole[:2]:
        batch = [(s['sample_idx'], s['draws']) for s in next(iterator)]
        assert batch == sorted(expected)


def test_a_seeded_sampler_needs_no_hook():
    numbered = load(scenes(), sampler=InfiniteSampler)
    assert load_alone(4) == numbered
    assert load(scenes(), sampler=SeededSampler) == numbered
    if hasattr(InfiniteSampler, 'skip'):  # of onedl-mmengine
        assert load_alone(2, skip=6) == numbered[2:]


@pytest.mark.slow
@pytest.mark.parametrize('wrapper', WRAPPERS)
def test_workers_give_the_numbers_of_the_main_process(wrapper):
    settings = {'workers': 2, 'persistent_workers': True}
    assert load(WRAPPERS[wrapper](), **settings) == load(WRAPPERS[wrapper]())


def test_a_wrapper_does_not_change_the_numbers():
    # What is drawn right before the innermost pipeline is drawn first of the sample.
    plain = [n for batch in load(scenes()) for _, n in batch]
    for name in ('repeated', 'concatenated', 'balanced', 'own', 'subset'):
        wrapped = [n for batch in load(WRAPPERS[name]()) for _, n in batch]
        assert wrapped == plain, name


def test_a_sliced_data_set_of_the_runner_is_seeded_too():
    cfg = {
        'dataset': scenes(),
        'batch_size': 3,
        'num_batch_per_epoch': 2,
        'num_workers': 0,
        'sampler': {'type': 'DefaultSampler', 'shuffle': True},
        'collate_fn': list,
    }
    seen = []
    for _ in range(2):
        loader = Runner.build_dataloader(cfg, seed=5)
        number_batches(loader, 5, ALONE)
        seen.append([s['draws'] for batch in loader for s in batch])
    assert seen[0] == seen[1]


def test_epochs_have_other_numbers_and_any_of_them_can_be_gone_to():
    def epochs(first):
        dataset = scenes()
        sampler = DefaultSampler(dataset, shuffle=True, seed=5)
        loader = DataLoader(dataset, 3, sampler=sampler, collate_fn=list)
        batches = number_batches(loader, 0, ALONE)
        batches.go_to(first, 0)
        return [[s['draws'] for b in loader for s in b] for _ in range(first, 3)]

    whole = epochs(0)
    assert len({n for epoch in whole for n in epoch}) == 30
    assert epochs(2) == whole[2:]


def test_more_processes_share_the_numbers_of_one(monkeypatch):
    whole = [n for batch in load(scenes(), 4) for n in batch]
    for rank in (0, 1):
        name = 'mmengine.dataset.sampler.get_dist_info'
        monkeypatch.setattr(name, lambda rank=rank: (rank, 2))
        share = DataShare(rank, 2)
        own = [n for batch in load(scenes(), 2, share=share) for n in batch]
        assert own == whole[rank::2]


def test_the_main_process_goes_on_as_if_nothing_had_been_loaded():
    before = random_state()
    load(scenes())
    assert str(random_state()) == str(before)


def test_numbers_are_those_of_the_seeds():
    with random_numbers_from((5, 7)):
        expected = draws()
    words = np.random.SeedSequence((5, 7)).generate_state(3)
    assert expected[0] == random.Random(int(words[0])).random()
    assert expected[1] == np.random.RandomState(words[1]).rand()  # noqa: NPY002
    with random_numbers_from((5, 7, 0)):
        assert draws() == expected


def test_going_on_inside_an_epoch_says_what_it_did_not_have():
    batches = NumberedBatches(BatchSampler(range(7), 2, False), 0, ALONE)
    assert batches.go_to(0, 3) == 0
    assert [[i.index for i in batch] for batch in batches] == [[6]]
    assert batches.go_to(1, 4) == 0
    assert list(batches) == []
    assert batches.go_to(2, 6) == 2


def test_infinite_samplers_are_not_drawn_from_twice():
    sampler = InfiniteSampler(range(5), shuffle=True, seed=1)
    stream = iter(InfiniteSampler(range(5), shuffle=True, seed=1))
    batches = NumberedBatches(BatchSampler(sampler, 2, True), 0, ALONE)
    batches.go_to(0, 4)
    expected = [next(stream) for _ in range(12)][8:]
    iterator = iter(batches)
    assert [i.index for _ in range(2) for i in next(iterator)] == expected


def test_indices_may_be_anything_and_data_sets_are_pickled_to_workers():
    class Words(Dataset):
        def __getitem__(self, index):
            return index, draws()

    loader = DataLoader(
        Words(), batch_sampler=[[('a', 1)], [('b', 2), 'c']], collate_fn=list
    )
    number_batches(loader, 3, ALONE)
    assert [i for batch in loader for i, _ in batch] == [('a', 1), ('b', 2), 'c']
    dataset = scenes()
    number_batches(DataLoader(dataset, 2), 0, ALONE)
    number_batches(DataLoader(dataset, 2), 0, ALONE)
    assert len(pickle.loads(pickle.dumps(dataset))) == 10


def test_what_has_no_batches_of_indices_is_left_alone():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(range(4))

    for loader in (
        DataLoader(Stream(), 2),
        DataLoader(scenes(), None),
        DataLoader([1, 2], 2),
    ):
        before = dict(vars(loader))
        assert number_batches(loader, 0, ALONE) is None
        assert vars(loader) == before


def test_a_hook_of_a_user_may_change_the_sampler():
    dataset = scenes()
    loader = DataLoader(dataset, batch_size=3, collate_fn=list)
    number_batches(loader, 0, ALONE)
    assert isinstance(loader.batch_sampler, BatchSampler)
    loader.batch_sampler.sampler = range(9, -1, -1)
    loader.batch_sampler.batch_size = 5
    loader.batch_sampler.drop_last = True
    found = [[s['sample_idx'] for s in batch] for batch in loader]
    assert found == [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]

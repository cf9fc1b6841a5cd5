"""Data sets and wrappers of users: what the host builds and loads passes."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS as ENGINE_DATASETS
from mmengine.registry import DefaultScope
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS

from infopro_seg.datasets import check_data, loaders_of, set_data_root
from tests.helpers import batch

LOADS = ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
UNUSED = {'img_path': 'images/training', 'seg_map_path': 'annotations/training'}
PIPELINE = [{'type': name} for name in LOADS]
CLASSES = {'classes': ('a', 'b'), 'palette': [[0] * 3, [1] * 3]}


@DATASETS.register_module()
class ListedScenes(BaseSegDataset):
    """Takes required arguments of its own, and hands on few."""

    METAINFO = CLASSES

    def __init__(self, root, names, pipeline, labels_in='ann'):
        self.files, self.labels_in = [(root, name) for name in names], labels_in
        super().__init__(pipeline=pipeline)

    def load_data_list(self):
        return [
            {
                'img_path': f'{root}/img/{name}.png',
                'seg_map_path': f'{root}/{self.labels_in}/{name}.png',
                'label_map': None,
                'reduce_zero_label': False,
                'seg_fields': [],
            }
            for root, name in self.files
        ]


@DATASETS.register_module()
class PairsInAFile(BaseSegDataset):
    """Reads the paths of image and label from a table, whatever ``data_prefix`` is."""

    METAINFO = CLASSES

    def load_data_list(self):
        with open(self.ann_file) as file:
            rows = [line.split(',') for line in file.read().split()]
        return [
            {
                'img_path': f'{self.data_root}/{image}',
                'seg_map_path': f'{self.data_root}/{label}',
                'label_map': self.label_map,
                'reduce_zero_label': self.reduce_zero_label,
                'seg_fields': [],
            }
            for image, label in rows
        ]


@DATASETS.register_module()
def listed_scenes(folder):
    """A data set may be made by a function."""
    return ListedScenes(folder, ['1', '0'], PIPELINE)


@ENGINE_DATASETS.register_module()
class ScenesOfAnotherScope(BaseSegDataset):
    METAINFO = CLASSES


@DATASETS.register_module()
class PairedScenes(BaseSegDataset):
    """Gets its samples in its own way: the label of the next image."""

    METAINFO = CLASSES

    def get_data_info(self, idx):
        info = super().get_data_info(idx)
        following = super().get_data_info((idx + 1) % len(self))
        return {**info, 'seg_map_path': following['seg_map_path']}


@DATASETS.register_module()
class EverySecond(torch.utils.data.Dataset):
    """A wrapper with a required argument that the host's have not."""

    def __init__(self, inner, first):
        self.inner, self.first = DATASETS.build(inner), first
        self.metainfo = self.inner.metainfo

    def __len__(self):
        return (len(self.inner) - self.first) // 2

    def __getitem__(self, index):
        return self.inner[self.first + 2 * index]


@DATASETS.register_module()
class WithoutFiles(torch.utils.data.Dataset):
    metainfo = CLASSES

    def __init__(self, num):
        self.num = num

    def __len__(self):
        return self.num

    def __getitem__(self, index):
        item = batch(1, num_classes=2, seed=index)
        return {'inputs': item['inputs'][0], 'data_samples': item['data_samples'][0]}


@TRANSFORMS.register_module()
class ReadsElsewhere:
    """Makes the path of the label itself, before it is read."""

    def __call__(self, results):
        results['seg_map_path'] = results['seg_map_path'].replace('none', 'ann')
        return results


def plain(root, **settings):
    return {
        'type': 'BaseSegDataset',
        'data_root': str(root),
        'data_prefix': {'img_path': 'img', 'seg_map_path': 'ann'},
        'img_suffix': '.png',
        'metainfo': CLASSES,
        'pipeline': PIPELINE,
        **settings,
    }


def pairs_in_a_file(root, rows=('img/0.png,ann/0.png', 'img/1.png,ann/1.png')):
    """What inherits a ``data_prefix`` that it does not use, as from a base config."""
    (root / 'pairs.csv').write_text('\n'.join(rows))
    return plain(root, type='PairsInAFile', data_prefix=UNUSED, ann_file='pairs.csv')


def absolute_names(root, **settings):
    """Absolute names in a split file, which the host joins with no folder."""
    names = [f'{root}/img/{i}' for i in range(2)]
    (root / 'absolute.txt').write_text('\n'.join(names))
    return plain(root, ann_file='absolute.txt', **settings)


def listed(root, **settings):
    own = {'root': str(root), 'names': ['0', '1'], 'pipeline': PIPELINE}
    return {'type': 'ListedScenes', **own, **settings}


GOOD = {
    'arguments of its own': listed,
    'a function': lambda root: {'type': 'listed_scenes', 'folder': str(root)},
    'another scope': lambda root: {
        **plain(root),
        'type': 'mmengine.ScenesOfAnotherScope',
    },
    'scope in the config': lambda root: {
        **plain(root),
        'type': 'ScenesOfAnotherScope',
        '_scope_': 'mmengine',
        'pipeline': [{'type': f'mmseg.{name}'} for name in LOADS],
    },
    'samples in its own way': lambda root: plain(root, type='PairedScenes'),
    'wrapper of its own': lambda root: {
        'type': 'EverySecond',
        'inner': plain(root),
        'first': 0,
    },
    'wrapper that leaves out what is missing': lambda root: {
        'type': 'EverySecond',
        'inner': plain(root, ann_file=str(root / 'with_a_gap.txt')),
        'first': 0,
    },
    'no files': lambda root: {'type': 'WithoutFiles', 'num': 2},
    'paths in a table': pairs_in_a_file,
    'absolute names, label beside the image': lambda root: absolute_names(
        root, data_prefix=UNUSED, seg_map_suffix='.png'
    ),
    'absolute names and no labels': lambda root: absolute_names(
        root,
        data_prefix={'img_path': 'images/training'},
        test_mode=True,
        pipeline=[PIPELINE[0], PIPELINE[2]],
    ),
    'a class': lambda root: {'type': WithoutFiles, 'num': 2},
    'a transform of its own': lambda root: plain(
        root,
        data_prefix={'img_path': 'img', 'seg_map_path': 'none'},
        pipeline=[{'type': 'ReadsElsewhere'}, *PIPELINE],
    ),
}


@pytest.fixture
def root(tmp_path):
    for i in range(2):
        for folder in ('img', 'ann'):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f'{i}.png'), np.ones((8, 8), np.uint8))
    (tmp_path / 'with_a_gap.txt').write_text('0\n7\n')
    return tmp_path


def check(dataset, loader='train_dataloader', **settings):
    cfg = Config({loader: {'dataset': dataset}, 'default_scope': 'mmseg', **settings})
    check_data(cfg)


@pytest.mark.parametrize('name', GOOD)
def test_what_the_host_loads_passes(root, name):
    config = GOOD[name](root)
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(Config({'d': config}).d)
        assert [dataset[i] for i in range(len(dataset))]
    check(config)


@pytest.mark.parametrize(
    'name', ['arguments of its own', 'another scope', 'scope in the config']
)
def test_what_a_data_set_of_the_users_says_it_reads_is_checked(root, name):
    (root / 'ann/1.png').unlink()
    text = f'1 of 2 label files are missing, first: {root}/ann/1.png'
    with pytest.raises(FileNotFoundError, match=text):
        check(GOOD[name](root))


@pytest.mark.parametrize(
    ('rows', 'text'),
    [
        (['img/0.png,ann/0.png', 'img/7.png,ann/1.png'], '1 of 2 image .*/img/7.png'),
        (['img/0.png,ann/7.png', 'img/1.png,no/1.png'], '2 of 2 label .*/ann/7.png'),
        (
            ['img/0.png,annotations/training/0.png', 'img/1.png,ann/1.png'],
            r'no .*/annotations/training \(data_prefix.seg_map_path\)',
        ),
    ],
)
def test_what_is_missing_is_named_not_a_folder_that_is_not_used(root, rows, text):
    with pytest.raises(FileNotFoundError, match=text) as raised:
        check(pairs_in_a_file(root, rows))
    assert 'img_path' not in str(raised.value)


@pytest.mark.parametrize(
    ('settings', 'rows', 'text'),
    [
        # The host tells what is wrong with a table that is there.
        ({}, ['img/0.png'], None),
        ({}, [], 'no image .* in .*/pairs.csv'),
        ({'ann_file': 'gone.csv'}, [], r'no .*/gone.csv \(ann_file\)'),
    ],
)
def test_a_data_set_that_cannot_be_built_is_not_blamed_on_an_unused_folder(
    root, settings, rows, text
):
    config = {**pairs_in_a_file(root, rows), **settings}
    if text is None:
        check(config)
        return
    with pytest.raises(FileNotFoundError, match=text):
        check(config)


@pytest.mark.parametrize('key', ['dataset', 'datasets', 'inner'])
def test_the_root_reaches_what_is_wrapped_under_the_usual_names(root, key):
    config = {'type': 'EverySecond', key: plain('elsewhere'), 'first': 0}
    cfg = Config({'default_scope': 'mmseg', 'train_dataloader': {'dataset': config}})
    if key == 'inner':
        with pytest.warns(UserWarning, match='has no effect'):
            set_data_root(cfg, str(root))
    else:
        set_data_root(cfg, str(root))
        assert cfg.train_dataloader.dataset[key].data_root == str(root)


@pytest.mark.parametrize(
    ('settings', 'training', 'checked'),
    [
        ({'val_cfg': {'type': 'ValLoop'}}, True, ['train', 'val']),
        ({'val_cfg': None}, True, ['train']),
        ({}, True, ['train']),
        ({'val_cfg': {'type': 'ValLoop'}}, False, ['test']),
    ],
)
def test_only_loaders_that_run_are_looked_at(settings, training, checked):
    cfg = Config({'train_dataloader': {}, 'val_dataloader': {}, **settings})
    names = loaders_of(cfg, training=training)
    assert list(names) == [f'{name}_dataloader' for name in checked]


def test_a_test_without_labels_needs_neither_them_nor_training_data(root):
    for path in (root / 'ann').iterdir():
        path.unlink()
    unlabelled = plain(root, test_mode=True, pipeline=[PIPELINE[0], PIPELINE[2]])
    cfg = Config(
        {
            'default_scope': 'mmseg',
            'train_dataloader': {'dataset': plain(root / 'gone')},
            'test_dataloader': {'dataset': unlabelled},
            'test_evaluator': {
                'type': 'IoUMetric',
                'format_only': True,
                'output_dir': 'o',
            },
        }
    )
    check_data(cfg, loaders=loaders_of(cfg, training=False))
    with pytest.raises(FileNotFoundError, match='gone'):
        check_data(cfg, loaders=loaders_of(cfg, training=True))

"""Every data set class of the host: what stock builds and loads passes, no more.

The judge is the host itself: it builds the data set of the config and loads every
sample. The check passes if and only if that works.
"""

import gc
import shutil

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmseg import datasets
from mmseg.datasets import BaseCDDataset, BaseSegDataset
from mmseg.registry import DATASETS

from infopro_seg.datasets import check_data

from .. import helpers  # noqa: F401  registers mmseg's modules

LOAD_IMAGE = {'type': 'LoadImageFromFile'}
LOAD_LABEL = {'type': 'LoadAnnotations'}
PACK = {'type': 'PackSegInputs'}
# Of packages that are not installed, or of a layout that is not folders.
OTHERS = {'DSDLSegDataset', 'DecathlonDataset', 'OneDLDataset'}
CLASSES = [
    name
    for name in dir(datasets)
    if isinstance(cls := getattr(datasets, name), type)
    and issubclass(cls, BaseSegDataset | BaseCDDataset)
    and name not in OTHERS
]
PREFIX = {'img_path': 'images/train', 'seg_map_path': 'labels/train'}


def layout(name, root):
    """The config of a data set with two samples on disk."""
    config = {
        'type': name,
        'data_root': str(root),
        'data_prefix': dict(PREFIX),
        'pipeline': [LOAD_IMAGE, LOAD_LABEL, PACK],
    }
    if name in ('BaseSegDataset', 'BaseCDDataset'):
        config['metainfo'] = {'classes': ('a', 'b')}
    if name in ('LEVIRCDDataset', 'BaseCDDataset'):
        config['data_prefix']['img_path2'] = 'images2/train'
    if name == 'NYUDataset':
        config['data_prefix'] = {
            'img_path': 'images/train',
            'depth_map_path': 'labels/train',
        }
        config['pipeline'] = [
            LOAD_IMAGE,
            {'type': 'LoadDepthAnnotation', 'depth_rescale_factor': 0.001},
            PACK,
        ]
    if name == 'HSIDrive20Dataset':
        config['pipeline'] = [{'type': 'LoadImageFromNpyFile'}, LOAD_LABEL, PACK]
    if name == 'PascalVOCDataset':
        config['ann_file'] = 'split.txt'
    write(name, root, config)
    return config


def write(name, root, config):
    stems = ('room_0001', 'room_0002')
    root.mkdir()
    (root / 'split.txt').write_text('\n'.join(stems))
    for folder in config['data_prefix'].values():
        (root / folder).mkdir(parents=True)
    built = DATASETS.build({**config, 'lazy_init': True})
    image, labels = np.full((8, 10, 3), 7, np.uint8), np.ones((8, 10), np.uint8)
    for stem in stems:
        path = root / 'images/train' / f'{stem}{built.img_suffix}'
        if path.suffix == '.npy':
            np.save(path, image)
        else:
            cv2.imwrite(str(path), image)
        if (root / 'images2').exists():
            cv2.imwrite(str(root / 'images2/train' / path.name), image)
        label = root / 'labels/train' / f'{stem}{built.seg_map_suffix}'
        cv2.imwrite(str(label), labels)


def files(root, kind):
    return sorted((root / kind / 'train').iterdir())


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def complete(root, config):
    pass


def label_missing(root, config):
    files(root, 'labels')[1].unlink()


def labels_missing_and_not_loaded(root, config):
    shutil.rmtree(root / 'labels')
    config['pipeline'] = [config['pipeline'][0], PACK]


def label_folder_missing(root, config):
    shutil.rmtree(root / 'labels')


def image_folder_missing(root, config):
    shutil.rmtree(root / 'images')


def root_missing(root, config):
    shutil.rmtree(root)


def images_missing(root, config):
    for path in files(root, 'images'):
        path.unlink()


def image_cut(root, config):
    cut(files(root, 'images')[1])


def label_cut(root, config):
    cut(files(root, 'labels')[0])


def image_is_text(root, config):
    files(root, 'images')[0].write_text('<html>404 not found</html>')


def first_sample_only(root, config):
    files(root, 'labels')[1].unlink()
    config['indices'] = [0]


def not_serialized(root, config):
    config['serialize_data'] = False


def absolute_paths(root, config):
    prefixes = config['data_prefix']
    config['data_prefix'] = {key: str(root / prefixes[key]) for key in prefixes}
    config['data_root'] = '/nowhere'
    if 'ann_file' in config:
        config['ann_file'] = str(root / config['ann_file'])


def root_left_out(root, config):
    absolute_paths(root, config)
    del config['data_root']


def listed_but_missing(root, config):
    (root / 'split.txt').write_text('room_0001\nroom_0003')
    config['ann_file'] = 'split.txt'


CHANGES = [
    complete,
    label_missing,
    labels_missing_and_not_loaded,
    label_folder_missing,
    image_folder_missing,
    root_missing,
    images_missing,
    image_cut,
    label_cut,
    image_is_text,
    first_sample_only,
    not_serialized,
    absolute_paths,
    root_left_out,
    listed_but_missing,
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    # The host collects garbage for each data set: nearly all of the time here.
    monkeypatch.setattr(gc, 'collect', lambda *_: 0)


def host_loads(config):
    """Whether the host builds a data set and loads all of it."""
    try:
        with DefaultScope.overwrite_default_scope('mmseg'):
            dataset = DATASETS.build(config)
            return len([dataset[i] for i in range(len(dataset))]) > 0
    except Exception:
        return False


def passes(config):
    cfg = Config({'train_dataloader': {'dataset': config}, 'default_scope': 'mmseg'})
    try:
        check_data(cfg)
    except (FileNotFoundError, ValueError) as error:
        assert str(config['data_root']) in str(error)
        return False
    return True


@pytest.mark.parametrize('change', CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize('name', CLASSES)
def test_passes_if_and_only_if_the_host_loads_it(tmp_path, name, change):
    config = layout(name, tmp_path / 'data')
    change(tmp_path / 'data', config)
    is_loaded = host_loads(config)
    assert passes(config) == is_loaded or is_other_damage(name, change)
    if change is complete:
        assert is_loaded


def is_other_damage(name, change):
    """Files of formats that are not looked into: the host tells when it loads them."""
    numpy_file = name == 'HSIDrive20Dataset' and change in (image_cut, image_is_text)
    depth = name == 'NYUDataset' and change is label_cut
    return numpy_file or depth


def test_all_classes_are_met():
    assert {'LoveDADataset', 'REFUGEDataset', 'LEVIRCDDataset'} <= set(CLASSES)
    assert len(CLASSES) >= 27

"""Which data sets --data-root reaches, and what is checked of foreign ones."""

import pytest
from mmengine.config import Config
from mmseg.datasets import BaseSegDataset, CityscapesDataset
from mmseg.registry import DATASETS

from infopro_seg.datasets import check_data, loaders_of, set_data_root

from .. import helpers  # noqa: F401  registers mmseg's modules
from .test_camvid import PIPELINE, make_camvid

PREFIX = {'img_path': 'train', 'seg_map_path': 'trainannot'}


class Tiles(BaseSegDataset):
    """Takes what its author needed."""

    METAINFO = {
        'classes': tuple('abcdefghijkl'),
        'palette': [[i] * 3 for i in range(12)],
    }

    def __init__(self, root, pipeline):
        super().__init__(
            data_root=root, pipeline=pipeline, img_suffix='.png', data_prefix=PREFIX
        )


class Folder(BaseSegDataset):
    """Hands its own argument on as the root, and the rest as it is."""

    def __init__(self, folder='a', **kwargs):
        super().__init__(data_root=folder, **kwargs)


class Own(Tiles):
    """Finds files in a way of its own."""

    def __getitem__(self, index):
        return {}


class Picked(Tiles):
    def get_data_info(self, idx):
        return {'img_path': 'nowhere', 'seg_map_path': 'nowhere'}


def config(dataset, **settings):
    loaders = {'train_dataloader': {'dataset': dataset}}
    return Config({'default_scope': 'mmseg', **loaders, **settings})


def tiles(cls, root):
    return {'type': cls, 'root': str(root), 'pipeline': PIPELINE}


@pytest.mark.parametrize('cls', [Tiles, Folder])
def test_a_class_without_data_root_is_not_given_one(cls):
    cfg = config({'type': cls, 'pipeline': []})
    with pytest.warns(UserWarning, match='does not reach train_dataloader.dataset'):
        set_data_root(cfg, 'b')
    assert 'data_root' not in cfg.train_dataloader.dataset


def test_absolute_paths_are_said_to_stay(tmp_path):
    prefix = {'img_path': '/a/img', 'seg_map_path': '/a/ann'}
    cfg = config({'type': CityscapesDataset, 'data_root': 'x', 'data_prefix': prefix})
    with pytest.warns(UserWarning, match='its paths are absolute'):
        set_data_root(cfg, tmp_path)


@pytest.mark.parametrize('given', [{}, {'data_root': 'a'}])
@pytest.mark.parametrize('kind', [CityscapesDataset, 'CityscapesDataset'])
def test_classes_and_names_are_reached_also_in_lists(tmp_path, kind, given):
    part = {'type': kind, **given}
    joined = {
        'type': 'ConcatDataset',
        'datasets': [part, {'type': 'RepeatDataset', 'times': 2, 'dataset': part}],
    }
    cfg = config({'type': 'MultiImageMixDataset', 'dataset': joined, 'pipeline': []})
    set_data_root(cfg, tmp_path)
    first, second = cfg.train_dataloader.dataset.dataset.datasets
    assert first.data_root == second.dataset.data_root == str(tmp_path)


def test_own_signature_is_checked_as_the_host_builds_it(tmp_path):
    make_camvid(tmp_path)
    cfg = config(tiles(Tiles, tmp_path))
    check_data(cfg)
    (tmp_path / 'trainannot/0001.png').unlink()
    with pytest.raises(FileNotFoundError, match='1 of 2 label files are missing'):
        check_data(cfg)
    with pytest.raises(FileNotFoundError, match=r'no folder \S+none \(data_root\)'):
        check_data(config(tiles(Tiles, tmp_path / 'none')))


@pytest.mark.parametrize('cls', [Own, Picked])
def test_own_ways_to_get_samples_are_left_alone(tmp_path, cls):
    make_camvid(tmp_path)
    (tmp_path / 'trainannot/0001.png').unlink()
    check_data(config(tiles(cls, tmp_path)))


@DATASETS.register_module()
class FirstOnly:
    """A wrapper of the user's, which uses what it likes."""

    def __init__(self, dataset):
        self.dataset = dataset


@pytest.mark.parametrize(
    'outer', [{'type': 'FirstOnly'}, {'type': FirstOnly}], ids=['name', 'class']
)
def test_data_sets_in_foreign_wrappers_are_left_alone(tmp_path, outer):
    make_camvid(tmp_path)
    (tmp_path / 'trainannot/0001.png').unlink()
    check_data(config({**outer, 'dataset': tiles(Tiles, tmp_path)}))


def test_shortened_epochs_and_functions_are_left_alone(tmp_path):
    lost = tiles(Tiles, tmp_path / 'none')
    cfg = config(lost)
    cfg.train_dataloader.num_batch_per_epoch = 1
    check_data(cfg)
    check_data(config({**lost, 'type': lambda root, pipeline: None}))


def test_scope_of_an_inherited_config_reaches_what_it_wraps(tmp_path):
    make_camvid(tmp_path)
    inner = {
        'type': 'CamVidDataset',
        'data_root': str(tmp_path),
        'data_prefix': PREFIX,
        'pipeline': PIPELINE,
    }
    outer = {'type': 'RepeatDataset', 'times': 2, 'dataset': inner, '_scope_': 'mmseg'}
    cfg = config(outer, default_scope='mmengine')
    check_data(cfg)
    (tmp_path / 'trainannot/0001.png').unlink()
    with pytest.raises(FileNotFoundError):
        check_data(cfg)


def test_loaders_are_those_that_run():
    with_validation = Config({'val_cfg': {}, 'val_dataloader': {}})
    both = ('train_dataloader', 'val_dataloader')
    assert loaders_of(with_validation, training=True) == both
    assert loaders_of(Config({'val_cfg': None}), training=True) == both[:1]
    assert loaders_of(with_validation, training=False) == ('test_dataloader',)


def test_the_checks_leave_pillows_limit_as_it_was(tmp_path, monkeypatch):
    import PIL.Image

    make_camvid(tmp_path)
    monkeypatch.setattr(PIL.Image, 'MAX_IMAGE_PIXELS', 4)
    check_data(config(tiles(Tiles, tmp_path)))
    assert PIL.Image.MAX_IMAGE_PIXELS == 4

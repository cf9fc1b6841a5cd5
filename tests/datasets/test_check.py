"""What check_datasets says about data that are not ready, and set_data_root."""

import shutil

import pytest
from mmengine.config import Config

from infopro_seg.datasets import check_datasets, set_data_root
from infopro_seg.datasets.camvid import CAMVID_LAYOUT

from .. import helpers  # noqa: F401  registers mmseg's modules
from .test_camvid import make_camvid

LOADS = ['LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs']
PIPELINE = [{'type': name} for name in LOADS]
CITY = ('aachen_000000_000000', 'aachen_000000_000001')


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def make_cityscapes(root, splits=('train', 'val'), *, with_labels=True):
    for split in splits:
        for name in CITY:
            touch(root / 'leftImg8bit' / split / 'aachen' / f'{name}_leftImg8bit.png')
            annotations = root / 'gtFine' / split / 'aachen'
            touch(annotations / f'{name}_gtFine_polygons.json')
            if with_labels:
                touch(annotations / f'{name}_gtFine_labelTrainIds.png')


def cityscapes(root, split='train'):
    prefix = {'img_path': f'leftImg8bit/{split}', 'seg_map_path': f'gtFine/{split}'}
    return {
        'type': 'CityscapesDataset',
        'data_root': str(root),
        'data_prefix': prefix,
        'pipeline': PIPELINE,
    }


def camvid(root, split='train'):
    prefix = {'img_path': split, 'seg_map_path': f'{split}annot'}
    return {
        'type': 'CamVidDataset',
        'data_root': str(root),
        'data_prefix': prefix,
        'pipeline': PIPELINE,
    }


DRAWN = {'type': 'DrawnStreetDataset', 'num_scenes': 2, 'size': (32, 64), 'seed': 0}


def config(train, val=None, test=None):
    loaders = {
        'train_dataloader': train,
        'val_dataloader': val,
        'test_dataloader': test,
    }
    content = {name: data and {'dataset': data} for name, data in loaders.items()}
    return Config({'default_scope': 'mmseg', **content})


def problem_of(cfg, **kwargs):
    with pytest.raises(FileNotFoundError) as error:
        check_datasets(cfg, **kwargs)
    return str(error.value)


def test_complete_data_pass(tmp_path):
    make_cityscapes(tmp_path / 'city')
    make_camvid(tmp_path / 'cam')
    city, cam = cityscapes(tmp_path / 'city'), camvid(tmp_path / 'cam')
    check_datasets(config(city, cityscapes(tmp_path / 'city', 'val'), cam))


def test_drawn_scenes_need_nothing():
    check_datasets(config(DRAWN, DRAWN))


def test_config_is_not_changed(tmp_path):
    make_camvid(tmp_path)
    cfg = config({**camvid(tmp_path), 'pipeline': [{'type': 'LoadImageFromFile'}]})
    before = cfg.to_dict()
    check_datasets(cfg)
    assert cfg.to_dict() == before


def test_missing_root_is_said_once_for_all_splits(tmp_path):
    root = tmp_path / 'none'
    cfg = config(*(cityscapes(root, split) for split in ('train', 'val', 'val')))
    text = problem_of(cfg)
    assert text.startswith('1 problem(s)')
    assert f'no folder {root} (data_root)' in text
    for loader in ('train', 'val', 'test'):
        assert f'{loader}_dataloader.dataset (CityscapesDataset)' in text
    assert 'leftImg8bit/\n' in text
    assert f'python tools/prepare_cityscapes.py {root}' in text
    assert '--data-root DATA_ROOT' in text


def test_half_prepared_cityscapes_names_the_preparation(tmp_path):
    make_cityscapes(tmp_path, with_labels=False)
    text = problem_of(config(cityscapes(tmp_path), cityscapes(tmp_path, 'val')))
    assert text.startswith('2 problem(s)')
    first = tmp_path / 'gtFine/train/aachen' / f'{CITY[0]}_gtFine_labelTrainIds.png'
    assert f'2 of 2 label files are missing, first: {first}' in text
    assert text.count(f'python tools/prepare_cityscapes.py {tmp_path}') == 1


def test_missing_labels_are_counted_and_the_first_three_named(tmp_path):
    make_cityscapes(tmp_path, ('train',))
    folder = tmp_path / 'leftImg8bit/train/bonn'
    for i in range(5):
        touch(folder / f'bonn_{i}_leftImg8bit.png')
    text = problem_of(config(cityscapes(tmp_path)))
    assert '5 of 7 label files are missing' in text
    assert [f'bonn_{i}_gtFine' in text for i in range(5)] == [True] * 3 + [False] * 2


def test_missing_annotation_folder_names_the_setting(tmp_path):
    make_cityscapes(tmp_path, ('train',))
    shutil.rmtree(tmp_path / 'gtFine')
    text = problem_of(config(cityscapes(tmp_path)))
    assert f'no {tmp_path}/gtFine/train (data_prefix.seg_map_path)' in text


def test_all_problems_come_in_one_error(tmp_path):
    make_camvid(tmp_path / 'cam')
    (tmp_path / 'cam/trainannot/0000.png').unlink()
    cfg = config(camvid(tmp_path / 'cam'), cityscapes(tmp_path / 'city', 'val'), DRAWN)
    text = problem_of(cfg)
    assert text.startswith('2 problem(s)')
    assert '1. train_dataloader.dataset (CamVidDataset): CamVid: 1 of 2' in text
    assert (
        f'2. val_dataloader.dataset (CityscapesDataset): no folder {tmp_path}' in text
    )
    assert text.count(CAMVID_LAYOUT) == 1


def test_wrapped_data_sets_are_found(tmp_path):
    repeated = {'type': 'RepeatDataset', 'times': 2, 'dataset': camvid(tmp_path / 'a')}
    joined = {'type': 'ConcatDataset', 'datasets': [DRAWN, repeated]}
    text = problem_of(config(joined))
    assert 'train_dataloader.dataset.datasets[1].dataset (CamVidDataset)' in text


def test_only_the_named_loaders_are_looked_at(tmp_path):
    cfg = config(camvid(tmp_path / 'none'), DRAWN)
    check_datasets(cfg, loaders=('val_dataloader', 'test_dataloader'))
    with pytest.raises(FileNotFoundError):
        check_datasets(cfg, loaders=('train_dataloader',))


def plain(root, **kwargs):
    prefix = {'img_path': 'img', 'seg_map_path': 'ann'}
    return {
        'type': 'BaseSegDataset',
        'data_root': str(root),
        'data_prefix': prefix,
        'metainfo': {'classes': ('a', 'b')},
        'pipeline': PIPELINE,
        **kwargs,
    }


def make_plain(root):
    for i in range(2):
        touch(root / 'img' / f'{i}.jpg')
        touch(root / 'ann' / f'{i}.png')


def test_any_other_data_set_is_checked_by_its_own_listing(tmp_path):
    make_plain(tmp_path)
    check_datasets(config(plain(tmp_path)))
    (tmp_path / 'ann' / '1.png').unlink()
    text = problem_of(config(plain(tmp_path)))
    assert f'1 of 2 label files are missing, first: {tmp_path}/ann/1.png' in text
    assert 'Expected layout' not in text


def test_class_given_as_a_type_is_checked_too(tmp_path):
    from mmseg.datasets import CityscapesDataset

    wrong = {**cityscapes(tmp_path / 'none'), 'type': CityscapesDataset}
    assert '(CityscapesDataset): no folder' in problem_of(config(wrong))


def test_empty_listing_is_a_problem(tmp_path):
    (tmp_path / 'img').mkdir()
    (tmp_path / 'ann').mkdir()
    text = problem_of(config(plain(tmp_path)))
    assert f'no image *.jpg in {tmp_path}/img' in text


def test_annotation_file_is_checked_and_followed(tmp_path):
    make_plain(tmp_path)
    text = problem_of(config(plain(tmp_path, ann_file='split.txt')))
    assert f'no {tmp_path}/split.txt (ann_file)' in text
    (tmp_path / 'split.txt').write_text('0\n7\n')
    text = problem_of(config(plain(tmp_path, ann_file='split.txt')))
    assert f'1 of 2 image files are missing, first: {tmp_path}/img/7.jpg' in text
    (tmp_path / 'split.txt').write_text('')
    text = problem_of(config(plain(tmp_path, ann_file='split.txt')))
    assert f'no image *.jpg in {tmp_path}/split.txt' in text


def test_remote_and_unknown_data_sets_are_left_alone(tmp_path):
    remote = plain(tmp_path / 'none', backend_args={'backend': 'petrel'})
    check_datasets(config(remote, plain('s3://bucket'), {'type': 'NotRegistered'}))


def test_data_root_reaches_every_data_set(tmp_path):
    repeated = {'type': 'RepeatDataset', 'times': 2, 'dataset': camvid('a')}
    joined = {'type': 'ConcatDataset', 'datasets': [repeated, camvid('b')]}
    cfg = config(joined, camvid('c'), camvid('d'))
    cfg.data_root = 'a'
    set_data_root(cfg, tmp_path)
    first, second = cfg.train_dataloader.dataset.datasets
    reached = [
        cfg,
        first.dataset,
        second,
        cfg.val_dataloader.dataset,
        cfg.test_dataloader.dataset,
    ]
    assert [part.data_root for part in reached] == [str(tmp_path)] * 5
    assert 'data_root' not in first


def test_data_root_without_files_to_read_warns():
    cfg = config(DRAWN)
    with pytest.warns(UserWarning, match="data root 'somewhere' has no effect"):
        set_data_root(cfg, 'somewhere')
    assert 'data_root' not in cfg.train_dataloader.dataset

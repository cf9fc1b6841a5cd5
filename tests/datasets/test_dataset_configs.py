"""The base configs of the data sets: complete, consistent, usable."""

from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, METRICS, TRANSFORMS

from infopro_seg.datasets import check_datasets, set_data_root

from .. import helpers  # noqa: F401  registers mmseg's modules
from .test_camvid import make_camvid

FOLDER = Path(__file__).parents[2] / 'configs' / '_base_' / 'datasets'
NAMES = ('camvid', 'cityscapes', 'drawn_streets')


def load(name):
    return Config.fromfile(FOLDER / f'{name}.py')


@pytest.mark.parametrize('name', NAMES)
def test_test_settings_are_those_of_validation(name):
    cfg = load(name)
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.test_evaluator == cfg.val_evaluator
    assert cfg.train_dataloader.dataset != cfg.val_dataloader.dataset


@pytest.mark.parametrize('name', NAMES)
def test_data_sets_pipelines_and_metric_build(name):
    cfg = load(name)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        DATASETS.build({**loader.dataset, 'lazy_init': True})
    for transform in cfg.tta_pipeline:
        TRANSFORMS.build(transform)
    METRICS.build(cfg.val_evaluator)


def test_drawn_streets_give_samples_of_the_stated_size():
    cfg = load('drawn_streets')
    check_datasets(cfg)
    train = DATASETS.build(cfg.train_dataloader.dataset)
    val = DATASETS.build(cfg.val_dataloader.dataset)
    for item in (train[0], val[0]):
        assert item['inputs'].shape == (3, *cfg.image_size)
        assert item['data_samples'].gt_sem_seg.shape == cfg.image_size
    assert train.seed != val.seed


def test_drawn_streets_keep_label_size_under_test_time_augmentation():
    cfg = load('drawn_streets')
    dataset = {**cfg.val_dataloader.dataset, 'pipeline': cfg.tta_pipeline}
    item = DATASETS.build(dataset)[0]
    assert len(item['inputs']) == 8
    assert {x.gt_sem_seg.shape for x in item['data_samples']} == {cfg.image_size}


def test_camvid_reads_a_folder_given_by_data_root(tmp_path):
    for split in ('train', 'val'):
        make_camvid(tmp_path, split)
    cfg = load('camvid')
    set_data_root(cfg, tmp_path)
    check_datasets(cfg)
    item = DATASETS.build(cfg.val_dataloader.dataset)[0]
    assert item['inputs'].shape == (3, 12, 16)
    assert item['data_samples'].gt_sem_seg.data.unique().tolist() == [*range(11), 255]


def test_cityscapes_crops_and_scales_are_those_of_the_paper():
    cfg = load('cityscapes')
    crop = next(t for t in cfg.train_pipeline if t.type == 'RandomCrop')
    assert crop.crop_size == (512, 1024)
    scales = [t.scale_factor for t in cfg.tta_pipeline[1].transforms[0]]
    assert scales == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]

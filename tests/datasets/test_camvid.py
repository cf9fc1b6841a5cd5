"""CamVidDataset on small folders of the SegNet layout."""

import cv2
import numpy as np
import pytest
import torch
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS

from infopro_seg.datasets import CamVidDataset

from .. import helpers  # noqa: F401  registers mmseg's modules

PIPELINE = [
    {'type': 'LoadImageFromFile'},
    {'type': 'LoadAnnotations'},
    {'type': 'PackSegInputs'},
]
TRAIN = {'img_path': 'train', 'seg_map_path': 'trainannot'}


def make_camvid(root, split='train', *, suffix='.png', num_images=2):
    """Images and labels of 12x16 pixels; the labels hold every id 0..11."""
    labels = np.repeat(np.arange(12, dtype=np.uint8)[:, None], 16, axis=1)
    for folder in (split, f'{split}annot'):
        (root / folder).mkdir(parents=True)
    for i in range(num_images):
        image = np.full((12, 16, 3), 20 * i, np.uint8)
        cv2.imwrite(str(root / split / f'{i:04d}{suffix}'), image)
        cv2.imwrite(str(root / f'{split}annot' / f'{i:04d}.png'), labels)


def build(root, **kwargs):
    settings = {'data_root': str(root), 'data_prefix': TRAIN, 'pipeline': PIPELINE}
    return DATASETS.build({'type': 'CamVidDataset', **settings, **kwargs})


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
def test_pairs_are_found_with_either_image_suffix(tmp_path, suffix):
    make_camvid(tmp_path, suffix=suffix)
    dataset = build(tmp_path)
    assert len(dataset) == 2
    info = dataset.get_data_info(1)
    assert info['img_path'] == str(tmp_path / 'train' / f'0001{suffix}')
    assert info['seg_map_path'] == str(tmp_path / 'trainannot' / '0001.png')


def test_suffix_is_found_for_each_folder(tmp_path):
    make_camvid(tmp_path, suffix='.jpg')
    make_camvid(tmp_path, 'val', suffix='.png')
    val = {'img_path': 'val', 'seg_map_path': 'valannot'}
    assert (len(build(tmp_path)), len(build(tmp_path, data_prefix=val))) == (2, 2)


def test_unlabelled_becomes_255_and_nothing_else_changes(tmp_path):
    make_camvid(tmp_path)
    labels = build(tmp_path)[0]['data_samples'].gt_sem_seg.data
    assert labels[0, :, 0].tolist() == [*range(11), 255]


def test_class_subset_keeps_unlabelled_at_255(tmp_path):
    make_camvid(tmp_path)
    dataset = build(tmp_path, metainfo={'classes': ('car', 'road')})
    labels = dataset[0]['data_samples'].gt_sem_seg.data[0, :, 0]
    expected = torch.full((12,), 255)
    expected[8], expected[3] = 0, 1
    assert torch.equal(labels, expected)
    assert dataset.metainfo['palette'] == [[64, 0, 128], [128, 64, 128]]


def test_metric_ignores_unlabelled_pixels(tmp_path):
    make_camvid(tmp_path)
    dataset = build(tmp_path, test_mode=True)
    sample = dataset[0]['data_samples']
    prediction = sample.gt_sem_seg.clone()
    prediction.data = prediction.data.clone()
    prediction.data[prediction.data == 255] = 4
    sample.pred_sem_seg = prediction
    metric = IoUMetric()
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [sample.to_dict()])
    assert metric.evaluate(1)['mIoU'] == 100.0


def test_classes_are_in_the_order_of_the_label_files():
    meta = CamVidDataset.METAINFO
    assert len(meta['classes']) == len(meta['palette']) == 11
    assert meta['classes'][0] == 'sky'
    assert meta['classes'][10] == 'bicyclist'


@pytest.mark.parametrize('folder', ['train', 'trainannot'])
def test_missing_folder_is_named_with_the_layout(tmp_path, folder):
    make_camvid(tmp_path)
    (tmp_path / folder).rename(tmp_path / 'elsewhere')
    with pytest.raises(FileNotFoundError, match=f'no folder .*/{folder}') as error:
        build(tmp_path)
    assert 'valannot/' in str(error.value)


def test_empty_folder_is_named_with_the_layout(tmp_path):
    make_camvid(tmp_path, num_images=0)
    with pytest.raises(FileNotFoundError, match=r'no image \(.png.*/train') as error:
        build(tmp_path)
    assert 'trainannot/' in str(error.value)


def test_images_without_label_are_counted_and_named(tmp_path):
    make_camvid(tmp_path, num_images=6)
    for i in (1, 2, 3, 5):
        (tmp_path / 'trainannot' / f'{i:04d}.png').unlink()
    with pytest.raises(FileNotFoundError, match='4 of 6 images') as error:
        build(tmp_path)
    text = str(error.value)
    assert all(f'000{i}.png' in text.split(' Expected')[0] for i in (1, 2, 3))
    assert '0005.png' not in text


def test_mixed_suffixes_need_a_decision(tmp_path):
    make_camvid(tmp_path, suffix='.jpg')
    (tmp_path / 'train' / '0001.jpg').rename(tmp_path / 'train' / '0001.png')
    with pytest.raises(ValueError, match=r'\.jpg and \.png; set img_suffix'):
        build(tmp_path)
    assert len(build(tmp_path, img_suffix='.png')) == 1


def test_lazy_data_set_looks_for_no_file(tmp_path):
    dataset = build(tmp_path / 'nowhere', lazy_init=True)
    assert dataset.metainfo['label_map'] == {11: 255}

"""CheckLabelsHook: which values it refuses, what it says, where it looks."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from mmseg.registry import DATASETS, HOOKS
from mmseg.structures import SegDataSample

from infopro_seg.datasets import CheckLabelsHook
from infopro_seg.datasets.check_labels import label_range, wrong_values

from .. import helpers  # noqa: F401  registers mmseg's modules


class Segmentor(torch.nn.Module):
    """As much of a segmentor as the hook looks at."""

    def __init__(self, num_classes=19, ignore_index=255, heads=1):
        super().__init__()
        parts = [torch.nn.Identity() for _ in range(heads)]
        for i, part in enumerate(parts):
            part.num_classes, part.ignore_index = num_classes + i, ignore_index
        self.decode_head = parts[0] if heads == 1 else torch.nn.ModuleList(parts)


class Wrapper(torch.nn.Module):
    """Holds a model as DistributedDataParallel does."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def ready_hook(model=None):
    hook = HOOKS.build({'type': 'CheckLabelsHook'})
    hook.before_run(SimpleNamespace(model=model or Segmentor()))
    return hook


def sample(*values, **meta):
    data = torch.tensor(values).reshape(1, 1, -1)
    meta = meta or {'img_path': 'a/b.png', 'seg_map_path': 'a/b_labels.png'}
    return SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=data))


STAGES = ('before_train_iter', 'before_val_iter', 'before_test_iter')


@pytest.mark.parametrize('stage', STAGES)
def test_classes_and_the_ignore_index_pass(stage):
    batch = {'data_samples': [sample(0, 18, 255), sample(255, 255)]}
    getattr(ready_hook(), stage)(None, 0, batch)


@pytest.mark.parametrize('stage', STAGES)
def test_wrong_value_names_file_values_range_and_remedy(stage):
    batch = {'data_samples': [sample(0, 1), sample(3, 33, 19, 255, -1)]}
    with pytest.raises(ValueError, match='a/b_labels.png') as error:
        getattr(ready_hook(), stage)(None, 0, batch)
    text = str(error.value)
    assert 'of image a/b.png holds the values -1, 19, 33.' in text
    assert 'has 19 classes: allowed are 0..18, and 255 (ignore_index)' in text
    assert 'tools/prepare_cityscapes.py' in text
    assert 'num_classes' in text


def test_long_lists_of_values_are_cut():
    batch = {'data_samples': [sample(*range(40))]}
    with pytest.raises(ValueError, match='values 19, 20, .*, 28, ...\\. The'):
        ready_hook().before_train_iter(None, 0, batch)


def test_sample_without_names_is_reported_too():
    batch = {'data_samples': [sample(99, ori_shape=(1, 1))]}
    with pytest.raises(
        ValueError, match=r'label file \(unnamed\) of image \(unnamed\)'
    ):
        ready_hook().before_train_iter(None, 0, batch)


def test_test_time_augmentation_is_looked_through():
    batch = {'data_samples': [[sample(0)], [sample(77)]]}
    with pytest.raises(ValueError, match='values 77'):
        ready_hook().before_test_iter(None, 0, batch)


@pytest.mark.parametrize(
    'batch', [None, {}, {'data_samples': None}, {'data_samples': [SegDataSample()]}]
)
def test_batches_without_labels_pass(batch):
    ready_hook().before_test_iter(None, 0, batch)


def test_labels_are_not_changed():
    item = sample(0, 5, 255)
    before = item.gt_sem_seg.data.clone()
    ready_hook().before_train_iter(None, 0, {'data_samples': [item]})
    assert torch.equal(item.gt_sem_seg.data, before)


@pytest.mark.parametrize('dtype', [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize('ignore', [255, 2, 0, -100])
def test_wrong_values_equal_the_plain_definition(dtype, ignore):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 7, (1, 4, 5), generator=generator).to(dtype)
        labels[0, 0, :2] = ignore
        expected = {
            value
            for value in labels.unique().tolist()
            if not 0 <= value < 5 and value != ignore
        }
        # A -100 does not fit in uint8 and wraps round to a wrong value.
        assert wrong_values(labels, 5, ignore) == sorted(expected)


def test_labels_in_strided_memory_are_read_right():
    labels = torch.arange(20).reshape(4, 5).t()
    assert wrong_values(labels, 18, 255) == [18, 19]


def test_range_comes_from_the_model_through_wrappers():
    assert label_range(Segmentor(7, 254)) == (7, 254)
    assert label_range(Wrapper(Wrapper(Segmentor(7, 254)))) == (7, 254)


def test_range_of_a_cascade_is_that_of_its_last_head():
    assert label_range(Segmentor(7, heads=3)) == (9, 255)


@pytest.mark.parametrize('model', [torch.nn.Identity(), Wrapper(torch.nn.Identity())])
def test_model_without_decode_head_is_refused(model):
    with pytest.raises(TypeError, match='Identity has no decode_head'):
        ready_hook(model)


def test_real_segmentor_is_understood():
    from mmseg.registry import MODELS

    assert label_range(MODELS.build(helpers.deeplabv3())) == (5, 255)


def test_raw_cityscapes_ids_are_found_in_a_stock_pipeline(tmp_path):
    for folder, shape in (('img', (8, 8, 3)), ('ann', (8, 8))):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / '0.png'), np.full(shape, 26, np.uint8))
    pipeline = [{'type': f'Load{kind}'} for kind in ('ImageFromFile', 'Annotations')]
    dataset = DATASETS.build(
        {
            'type': 'BaseSegDataset',
            'img_suffix': '.png',
            'data_root': str(tmp_path),
            'data_prefix': {'img_path': 'img', 'seg_map_path': 'ann'},
            'pipeline': [*pipeline, {'type': 'PackSegInputs'}],
        }
    )
    batch = pseudo_collate([dataset[0]])
    with pytest.raises(ValueError, match=f'{tmp_path}/ann/0.png .* the values 26'):
        ready_hook().before_train_iter(None, 0, batch)


def test_hook_is_registered():
    assert HOOKS.get('CheckLabelsHook') is CheckLabelsHook

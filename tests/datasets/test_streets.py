"""DrawnStreetDataset and DrawScene in stock mmseg pipelines."""

import os.path as osp

import numpy as np
import pytest
from mmengine.fileio import get, get_text
from mmengine.visualization import Visualizer
from mmseg.datasets import CityscapesDataset
from mmseg.engine import SegVisualizationHook
from mmseg.evaluation import IoUMetric
from mmseg.registry import DATASETS, TRANSFORMS
from mmseg.visualization import SegLocalVisualizer
from PIL import Image

from infopro_seg.datasets import DrawnStreetDataset, DrawScene, draw_scene
from infopro_seg.datasets.streets.scene_files import scene_name

from .. import helpers  # noqa: F401  registers mmseg's modules

SETTINGS = {'num_scenes': 4, 'size': (32, 64), 'seed': 3}
DRAW = [{'type': 'DrawScene'}]
LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]
PACK = [{'type': 'PackSegInputs'}]


def test_builds_from_the_registries():
    built = DATASETS.build({'type': 'DrawnStreetDataset', **SETTINGS})
    assert isinstance(built, DrawnStreetDataset)
    assert isinstance(TRANSFORMS.build(DRAW[0]), DrawScene)


def test_classes_and_palette_are_those_of_cityscapes():
    dataset = DrawnStreetDataset(**SETTINGS)
    assert dataset.metainfo['classes'] == CityscapesDataset.METAINFO['classes']
    assert dataset.metainfo['palette'] == CityscapesDataset.METAINFO['palette']
    assert len(dataset) == 4


def test_draw_scene_leaves_what_the_stock_loaders_leave():
    drawn = DrawnStreetDataset(**SETTINGS, pipeline=DRAW)[2]
    loaded = DrawnStreetDataset(**SETTINGS, pipeline=LOAD)[2]
    assert drawn.keys() == loaded.keys()
    for key, value in loaded.items():
        if isinstance(value, np.ndarray):
            assert np.array_equal(drawn[key], value), key
            assert drawn[key].dtype == value.dtype
        else:
            assert drawn[key] == value, key
    assert drawn['seg_fields'] == ['gt_seg_map']
    assert drawn['img_shape'] == drawn['ori_shape'] == (32, 64)


def test_seed_separates_training_from_validation():
    train = DrawnStreetDataset(**SETTINGS, pipeline=DRAW)
    val = DrawnStreetDataset(**{**SETTINGS, 'seed': 4}, pipeline=DRAW)
    for index in range(4):
        image = draw_scene(32, 64, seed=3, index=index)[0]
        assert np.array_equal(train[index]['img'], image)
        assert not np.array_equal(val[index]['img'], image)


def test_same_scene_is_drawn_again_and_again():
    dataset = DrawnStreetDataset(**SETTINGS, pipeline=DRAW)
    assert np.array_equal(dataset[1]['img'], dataset[1]['img'])


@pytest.mark.parametrize('pipeline', [DRAW, LOAD])
def test_class_subset_maps_other_classes_to_255(pipeline):
    metainfo = {'classes': ('sky', 'road')}
    dataset = DrawnStreetDataset(**SETTINGS, metainfo=metainfo, pipeline=pipeline)
    labels = dataset[0]['gt_seg_map']
    original = draw_scene(32, 64, seed=3, index=0)[1]
    assert set(np.unique(labels)) == {0, 1, 255}
    assert np.array_equal(labels == 0, original == 10)
    assert np.array_equal(labels == 1, original == 0)


def test_indices_select_scenes():
    dataset = DrawnStreetDataset(**SETTINGS, indices=[3, 1], pipeline=DRAW)
    assert len(dataset) == 2
    expected = draw_scene(32, 64, seed=3, index=3)[0]
    assert np.array_equal(dataset[0]['img'], expected)


def test_names_survive_packing():
    sample = DrawnStreetDataset(**SETTINGS, pipeline=DRAW + PACK)[1]['data_samples']
    assert sample.img_path == 'drawn://32x64/seed-3_000001.png'
    assert sample.seg_map_path == 'drawn://32x64/seed-3_000001_labels.png'
    assert sample.gt_sem_seg.data.shape == (1, 32, 64)


def test_metric_saves_predictions_under_the_scene_name(tmp_path):
    dataset = DrawnStreetDataset(**SETTINGS, pipeline=DRAW + PACK, test_mode=True)
    sample = dataset[1]['data_samples']
    sample.pred_sem_seg = sample.gt_sem_seg.clone()
    metric = IoUMetric(output_dir=str(tmp_path))
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [sample.to_dict()])
    saved = np.array(Image.open(tmp_path / 'seed-3_000001.png'))
    assert np.array_equal(saved, draw_scene(32, 64, seed=3, index=1)[1])
    assert metric.evaluate(1)['mIoU'] == 100.0


def test_visualization_hook_can_open_a_scene(tmp_path):
    dataset = DrawnStreetDataset(**SETTINGS, pipeline=DRAW + PACK)
    sample = dataset[1]['data_samples']
    sample.pred_sem_seg = sample.gt_sem_seg.clone()
    visualizer = SegLocalVisualizer.get_instance(
        'drawn', vis_backends=[{'type': 'LocalVisBackend'}], save_dir=str(tmp_path)
    )
    visualizer.dataset_meta = dataset.metainfo
    assert Visualizer.get_current_instance() is visualizer
    hook = SegVisualizationHook(draw=True)
    hook.after_test_iter(None, 0, {}, [sample])
    names = [path.name for path in tmp_path.rglob('*.png')]
    assert names == [f'test_{osp.basename(sample.img_path)}_1.png']


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'num_scenes': 0}, 'num_scenes=0'),
        ({'size': (32,)}, r'size=\(32,\).*\(height, width\)'),
        ({'size': (31, 64)}, r'size=\(31, 64\).*at least 32'),
        ({'size': (32.5, 64)}, r'size=\(32.5, 64\).*integers'),
        ({'seed': -1}, 'seed=-1'),
    ],
)
def test_wrong_settings_are_named(change, words):
    with pytest.raises(ValueError, match=words):
        DrawnStreetDataset(**{**SETTINGS, **change})


@pytest.mark.parametrize('name', ['data/a.png', 'drawn://32x64/3_1.png'])
def test_foreign_names_are_refused(name):
    with pytest.raises(
        ValueError, match=f"'{name}'.*drawn://128x256/seed-3_000017.png"
    ):
        DrawScene().transform({'img_path': name, 'seg_fields': []})


def test_backend_reads_images_only():
    name = scene_name(32, 64, seed=0, index=0)
    assert get(name).startswith(b'\x89PNG')
    with pytest.raises(ValueError, match='not get_text'):
        get_text(name)

"""Labels of another size than their image are refused where it matters alone."""

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmseg.registry import TRANSFORMS

import tests.helpers  # noqa: F401  registers everything
from infopro_seg.engine.data_guard_hook import GuardedPipeline

RESIZE = {
    'type': 'RandomResize',
    'scale': (128, 64),
    'ratio_range': (0.5, 2.0),
    'keep_ratio': True,
}
FIXED = {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': False}
CROP = {'type': 'RandomCrop', 'crop_size': (32, 32)}
PACK = {'type': 'PackSegInputs'}
PAD = {'type': 'Pad', 'size': (96, 96)}


class Load:
    def __init__(self, image, label):
        self.image, self.label = image, label

    def __call__(self, results):
        return {
            **results,
            'img': np.zeros((*self.image, 3), np.uint8),
            'gt_seg_map': np.zeros(self.label, np.uint8),
            'seg_fields': ['gt_seg_map'],
            'img_shape': self.image,
            'ori_shape': self.image,
        }


def run(label, *steps, scored=False):
    built = [TRANSFORMS.build(dict(step)) for step in steps]
    pipeline = Compose([Load((64, 64), label), *built])
    return GuardedPipeline(pipeline, scored=scored)(
        {'img_path': 'a.png', 'seg_map_path': 'b.png', 'reduce_zero_label': None}
    )


@pytest.mark.parametrize(
    ('label', 'steps'),
    [
        ((32, 32), (RESIZE, CROP, PACK)),
        ((32, 32), (PACK,)),
        ((48, 80), (FIXED, CROP, PACK)),
        ((64, 64), (CROP, PAD, PACK)),
    ],
    ids=['half, resized', 'half', 'other shape, resized', 'equal'],
)
def test_what_the_host_pairs_rightly_passes(label, steps):
    assert run(label, *steps)['data_samples'].gt_sem_seg.shape


@pytest.mark.parametrize(
    ('label', 'steps', 'where'),
    [
        ((32, 32), (CROP, PACK), 'RandomCrop the image has 64x64 .* labels 32x32'),
        ((32, 32), (PAD, PACK), 'Pad the image has 64x64'),
        ((32, 64), (PACK,), 'PackSegInputs the image has 64x64 .* labels 32x64'),
    ],
)
def test_what_would_pair_wrong_pixels_is_refused_with_its_files(label, steps, where):
    with pytest.raises(ValueError, match=f'a.png, label b.png: at {where}'):
        run(label, *steps)


def test_a_metric_needs_labels_of_the_original_size():
    assert run((64, 64), {**FIXED, 'scale': (32, 32)}, PACK)
    resized = run((64, 64), FIXED, PACK, scored=True)
    assert resized['data_samples'].gt_sem_seg.shape == (64, 64)
    with pytest.raises(ValueError, match='PackSegInputs the image has 64x64'):
        run((32, 32), PACK, scored=True)

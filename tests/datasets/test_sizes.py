"""When a label of another size than its image matters, and when it does not."""

import cv2
import numpy as np
import pytest
from mmengine.config import Config

from infopro_seg.datasets import check_images

from .. import helpers  # noqa: F401  registers mmseg's modules

LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]
PACK = {'type': 'PackSegInputs'}
CROP = {'type': 'RandomCrop', 'crop_size': (8, 8)}
FIXED = {'type': 'Resize', 'scale': (16, 16), 'keep_ratio': False}
KEPT = {
    'type': 'RandomResize',
    'scale': (64, 32),
    'ratio_range': (0.5, 2.0),
    'keep_ratio': True,
}
FLIP = {'type': 'RandomFlip', 'prob': 0.5}


class Squeeze:
    """A transform of the user's: nobody knows what it does to sizes."""

    def __call__(self, results):
        return results


def check(root, pipeline, image=(16, 32), label=(16, 32), loader='train', metric=None):
    for folder, size in (('img', (*image, 3)), ('ann', label)):
        (root / folder).mkdir()
        cv2.imwrite(str(root / folder / 'a.png'), np.zeros(size, np.uint8))
    dataset = {
        'type': 'BaseSegDataset',
        'img_suffix': '.png',
        'data_root': str(root),
        'data_prefix': {'img_path': 'img', 'seg_map_path': 'ann'},
        'metainfo': {'classes': ('a', 'b')},
        'pipeline': pipeline,
    }
    name = f'{loader}_dataloader'
    content = {name: {'dataset': dataset}, f'{loader}_evaluator': metric}
    cfg = Config({'default_scope': 'mmseg', **content})
    check_images(cfg, loaders=(name,))


HALF = (8, 16)
IOU = {'type': 'IoUMetric'}
TTA = {'type': 'TestTimeAug', 'transforms': [[FLIP], [LOAD[1]], [PACK]]}
SIDE = {'type': 'Resize', 'scale': (64, 32), 'keep_ratio': True}
PASSES = {
    'made equal by a fixed size': {'pipeline': [*LOAD, FIXED, CROP], 'label': (30, 20)},
    'half, resized by the side': {'pipeline': [*LOAD, KEPT, CROP, PACK], 'label': HALF},
    'half, logits are resized': {'pipeline': [*LOAD, FLIP, PACK], 'label': HALF},
    'image resized first': {
        'pipeline': [LOAD[0], FIXED, LOAD[1], CROP, PACK],
        'label': (16, 16),
    },
    'own transform': {'pipeline': [*LOAD, Squeeze(), CROP, PACK], 'label': (9, 9)},
    'no label loaded': {'pipeline': [LOAD[0], PACK], 'label': (9, 9)},
    'validation, equal': {
        'pipeline': [LOAD[0], SIDE, LOAD[1], PACK],
        'loader': 'val',
        'metric': IOU,
    },
    'validation, not scored': {
        'pipeline': [*LOAD, PACK],
        'label': HALF,
        'loader': 'val',
        'metric': [{'type': 'IoUMetric', 'format_only': True}],
    },
    'validation, own metric': {
        'pipeline': [*LOAD, PACK],
        'label': HALF,
        'loader': 'val',
        'metric': {'type': 'Mine'},
    },
}
FAILS = {
    'crop': {'pipeline': [*LOAD, CROP, PACK], 'label': HALF},
    'crop of a turned label': {'pipeline': [*LOAD, KEPT, CROP], 'label': (32, 16)},
    'another shape': {'pipeline': [*LOAD, FLIP, PACK], 'label': (32, 16)},
    'pad': {'pipeline': [*LOAD, {'type': 'Pad', 'size': (64, 64)}], 'label': HALF},
    'validation': {
        'pipeline': [LOAD[0], SIDE, LOAD[1], PACK],
        'label': HALF,
        'loader': 'val',
        'metric': [IOU],
    },
    'test, dict of metrics': {
        'pipeline': [*LOAD, PACK],
        'label': HALF,
        'loader': 'test',
        'metric': {'type': 'Evaluator', 'metrics': IOU},
    },
    'test-time augmentation': {
        'pipeline': [LOAD[0], TTA],
        'label': HALF,
        'loader': 'test',
        'metric': IOU,
    },
}


@pytest.mark.parametrize('case', PASSES)
def test_sizes_that_the_host_makes_fit_pass(tmp_path, case):
    check(tmp_path, **PASSES[case])


@pytest.mark.parametrize('case', FAILS)
def test_sizes_that_pair_wrong_pixels_or_fail_are_refused(tmp_path, case):
    with pytest.raises(ValueError, match=r'a.png has 16x32 pixels .* they must be'):
        check(tmp_path, **FAILS[case])

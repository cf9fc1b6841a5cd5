"""Prediction keeps no graph, no local head, and a bounded number of logit maps."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.structures import SegDataSample

from infopro_seg.planner.profile.allocation import AllocationTracker
from tests.engine.runs import MODEL
from tests.helpers import build

# Many classes, so that logits outweigh all other maps.
NUM_CLASSES = 64
CROP = 64
SLIDE = {'mode': 'slide', 'crop_size': (CROP, CROP), 'stride': (CROP, CROP)}


def peak_bytes(side, test_cfg):
    """Peak of predicting one square image, and bytes of its logits."""
    model = {**MODEL, 'decode_head': {**MODEL['decode_head']}}
    model['decode_head']['num_classes'] = NUM_CLASSES
    network = build({**model, 'test_cfg': ConfigDict(test_cfg)}).eval()
    for head in network.local_heads:
        head.register_forward_pre_hook(pytest.fail)
    size = (side, side)
    sample = SegDataSample(metainfo={'ori_shape': size, 'img_shape': size})
    with torch.no_grad(), AllocationTracker() as tracker:
        network.predict(torch.zeros(1, 3, *size), [sample])
    assert not sample.seg_logits.data.requires_grad
    return tracker.peak_bytes, 4 * NUM_CLASSES * side * side


def test_slide_mode_needs_three_maps_of_logits_and_one_crop():
    one_crop, _ = peak_bytes(CROP, {'mode': 'whole'})
    for side in (2 * CROP, 4 * CROP):
        peak, logits = peak_bytes(side, SLIDE)
        assert peak < 3 * logits + one_crop


def test_whole_mode_grows_with_the_image_and_no_faster():
    small, _ = peak_bytes(2 * CROP, {'mode': 'whole'})
    large, logits = peak_bytes(4 * CROP, {'mode': 'whole'})
    assert large <= 4 * small
    assert large < 4 * logits

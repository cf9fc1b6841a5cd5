"""What a lean local head adds to the FLOPs of real networks, at every boundary."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS

from infopro_seg.models.heads.segmentation import LocalSegmentationHead
from infopro_seg.models.weightless import WithoutStorage
from infopro_seg.planner.from_config import setting_of
from infopro_seg.planner.make import planned_model
from infopro_seg.planner.profile.allocation import AllocationTracker
from infopro_seg.planner.profile.fake_step import (
    fake_batch,
    fake_segmentor,
    fake_tensors,
)
from infopro_seg.settings.config import read_config
from infopro_seg.units import State, units_of
from infopro_seg.zoo.classify import classify_model
from infopro_seg.zoo.memory_table import REPRESENTATIVES
from tests.samples import some_of

# Networks of about 50 000 multiply-adds an image pixel, or fewer.
REAL_TIME = (
    'stdc/stdc1_4xb12-80k_cityscapes-512x1024.py',
    'stdc/stdc2_in1k-pre_4xb12-80k_cityscapes-512x1024.py',
    'erfnet/erfnet_fcn_4xb4-160k_cityscapes-512x1024.py',
    'hrnet/fcn_hr18s_4xb2-40k_cityscapes-512x1024.py',
    'mobilenet_v3/mobilenet-v3-d8_lraspp_4xb4-320k_cityscapes-512x1024.py',
)
THIN = {'segmentation': {'channels': 16}, 'reconstruction': {'channels': 16}}


def head_shares(name, head=None):
    """Forward FLOPs of the local head behind every unit, as parts of the network's."""
    if name.startswith(('convnext', 'poolformer')):
        pytest.importorskip('mmpretrain')
    config = f'mmseg::{name}'
    reason = classify_model(read_config(config).model)[2]
    if reason:
        pytest.skip(reason)
    setting = setting_of(config, local={'head': head}, batch_size=2)
    model = ConfigDict(planned_model(setting.model))
    with WithoutStorage():
        units = units_of(MODELS.build(copy.deepcopy(model.backbone)))
        model.local.splits = [unit.name for unit in units]
        network = MODELS.build(model)
    tracker, costs = AllocationTracker(), []
    with fake_tensors() as (fake_mode, assumed):
        fake = fake_segmentor(network, fake_mode)
        inputs, samples = fake_batch(fake, 2, setting.crop_size)
        state = State(inputs)
        with torch.no_grad(), tracker, assumed:
            for unit, local_head in zip(units, fake.local_heads, strict=True):
                state = unit(fake.backbone, state)
                before = tracker.flops
                local_head.loss(state.feature_map(), inputs, samples, None)
                costs.append(tracker.flops - before)
            fake.last_losses(state, samples)
    flops = tracker.flops - sum(costs)
    return [cost / flops for cost in costs]


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    some_of(
        (name for name in REPRESENTATIVES if name not in REAL_TIME),
        'mobilenet_v2/mobilenet-v2-d8_deeplabv3_4xb2-80k_cityscapes-512x1024.py',
    ),
)
def test_a_lean_head_costs_at_most_a_few_percent_at_any_boundary(name):
    assert max(head_shares(name)) <= 0.05


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', REAL_TIME)
def test_real_time_networks_can_take_thinner_heads(name):
    assert max(head_shares(name)) <= 0.18
    assert max(head_shares(name, THIN)) <= 0.05


@pytest.mark.parametrize(
    ('in_channels', 'stride', 'expected'),
    [
        (2048, 8, 128),
        (2048, 32, 128),
        (720, 4, 64),
        (64, 1, 16),
        (24, 4, 24),
        (16, 2, 16),
        (512, None, 128),
    ],
)
def test_large_maps_get_narrower_heads(in_channels, stride, expected):
    head = LocalSegmentationHead(in_channels, stride=stride, num_classes=5)
    assert head.channels == expected
    given = LocalSegmentationHead(
        in_channels, channels=40, stride=stride, num_classes=5
    )
    assert given.channels == 40


@pytest.mark.parametrize('stride', [1, 2, 4, 8])
def test_the_widest_head_costs_the_same_at_all_fine_strides(stride):
    head = LocalSegmentationHead(256, stride=stride, num_classes=5)
    convolution = head.convs[1].conv.weight
    assert convolution.numel() / stride**2 == 2304

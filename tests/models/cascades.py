"""Small cascades: stock CascadeEncoderDecoder configs with narrow networks."""

import copy

from torch.nn import functional

from tests.backbones import BACKBONES
from tests.helpers import deeplabv3

RESNET = {**BACKBONES['resnet18'], 'norm_eval': False}
RESNET_WIDTHS = (8, 16, 32, 64)
HRNET_WIDTHS = (4, 8, 16, 32)


def cascade(backbone, stages, **settings):
    """A cascade on a backbone; the stages share what a stock head needs."""
    model = deeplabv3(backbone, auxiliary=None)
    shared = {
        key: model['decode_head'][key]
        for key in ('num_classes', 'norm_cfg', 'align_corners', 'loss_decode')
    }
    model.update(
        type='CascadeEncoderDecoder',
        num_stages=len(stages),
        decode_head=[copy.deepcopy({**shared, **stage}) for stage in stages],
        **settings,
    )
    return model


def ocrnet_hrnet():
    """OCRNet as on HRNet: both stages read all stage outputs."""
    reads = {
        'in_channels': list(HRNET_WIDTHS),
        'in_index': (0, 1, 2, 3),
        'input_transform': 'resize_concat',
        'dropout_ratio': -1,
    }
    stages = [
        {'type': 'FCNHead', 'channels': 8, 'num_convs': 1, 'kernel_size': 1, **reads},
        {'type': 'OCRHead', 'channels': 16, 'ocr_channels': 8, **reads},
    ]
    return cascade(BACKBONES['hrnet'], stages)


def ocrnet_resnet():
    """OCRNet as on ResNet: the first stage reads output 2, the second output 3."""
    stages = [
        {
            'type': 'FCNHead',
            'in_channels': RESNET_WIDTHS[2],
            'in_index': 2,
            'channels': 8,
            'num_convs': 1,
            'concat_input': False,
        },
        {
            'type': 'OCRHead',
            'in_channels': RESNET_WIDTHS[3],
            'in_index': 3,
            'channels': 16,
            'ocr_channels': 8,
        },
    ]
    return cascade(RESNET, stages)


def pointrend():
    """PointRend: a pyramid, a coarse head, and a head on its uncertain points."""
    stages = [
        {
            'type': 'FPNHead',
            'in_channels': [8] * 4,
            'in_index': [0, 1, 2, 3],
            'feature_strides': [4, 8, 8, 8],
            'channels': 8,
            'dropout_ratio': -1,
        },
        {
            'type': 'PointHead',
            'in_channels': [8],
            'in_index': [0],
            'channels': 8,
            'num_fcs': 2,
            'dropout_ratio': -1,
            'norm_cfg': None,
        },
    ]
    return cascade(
        RESNET,
        stages,
        neck={
            'type': 'FPN',
            'in_channels': list(RESNET_WIDTHS),
            'out_channels': 8,
            'num_outs': 4,
        },
        train_cfg={
            'num_points': 32,
            'oversample_ratio': 3,
            'importance_sample_ratio': 0.75,
        },
        test_cfg={
            'mode': 'whole',
            'subdivision_steps': 1,
            'subdivision_num_points': 64,
            'scale_factor': 2,
        },
    )


CASCADES = {
    'ocrnet-hrnet': ocrnet_hrnet,
    'ocrnet-resnet': ocrnet_resnet,
    'pointrend': pointrend,
}


def point_sample(maps, points, align_corners=False, **kwargs):
    """What mmcv's operator of this name does, where it was built without operators.

    Args:
        maps: (N, C, H, W).
        points: (N, P, 2) in [0, 1].
        align_corners: See `torch.nn.functional.grid_sample`.
        kwargs: Of grid_sample.

    Returns:
        (N, C, P).
    """
    grid = 2 * points.unsqueeze(2) - 1
    sampled = functional.grid_sample(maps, grid, align_corners=align_corners, **kwargs)
    return sampled.squeeze(3)

"""Small segmentors that differ in their heads; a new head adds a line here."""

import copy

from tests.backbones import BACKBONES
from tests.helpers import BN, WIDTHS, deeplabv3
from tests.models.cascades import CASCADES

_SHARED = {
    'channels': 8,
    'num_classes': 5,
    'dropout_ratio': 0.1,
    'norm_cfg': BN,
    'align_corners': False,
    'loss_decode': {'type': 'CrossEntropyLoss', 'loss_weight': 1.0},
}


def on_last(type, **settings):
    """A head that reads the last stage output."""
    reads = {'in_channels': WIDTHS[3], 'in_index': 3}
    return {'type': type, **_SHARED, **reads, **settings}


def on_all(type, **settings):
    """A head that reads all stage outputs."""
    reads = {'in_channels': list(WIDTHS), 'in_index': [0, 1, 2, 3]}
    return {'type': type, **_SHARED, **reads, **settings}


def fcn(index, weight=0.4, **settings):
    """A plain head on one stage output."""
    loss = {'type': 'CrossEntropyLoss', 'loss_weight': weight}
    return {
        'type': 'FCNHead',
        **_SHARED,
        'in_channels': WIDTHS[index],
        'in_index': index,
        'num_convs': 1,
        'concat_input': False,
        'loss_decode': loss,
        **settings,
    }


def network(head, auxiliary=None, **settings):
    """A narrow ResNet-18 under a head."""
    model = deeplabv3(BACKBONES['resnet18'], WIDTHS, auxiliary=None, **settings)
    model['decode_head'] = copy.deepcopy(head)
    if auxiliary is not None:
        model['auxiliary_head'] = copy.deepcopy(auxiliary)
    return model


def pyramid_neck(type='FPN', **settings):
    """A neck that gives four maps of 8 channels."""
    return {
        'type': type,
        'in_channels': list(WIDTHS),
        'out_channels': 8,
        'num_outs': 4,
        **settings,
    }


_FPN_HEAD = on_all('FPNHead', in_channels=[8] * 4, feature_strides=[4, 8, 8, 8])
_KNET_STAGE = {
    'type': 'KernelUpdateHead',
    'num_classes': 5,
    'num_ffn_fcs': 2,
    'num_heads': 2,
    'num_mask_fcs': 1,
    'feedforward_channels': 16,
    'in_channels': 8,
    'out_channels': 8,
    'dropout': 0.0,
    'conv_kernel_size': 1,
    'ffn_act_cfg': {'type': 'ReLU', 'inplace': True},
    'with_ffn': True,
    'feat_transform_cfg': {
        'conv_cfg': {'type': 'Conv2d'},
        'act_cfg': None,
    },
    'kernel_updator_cfg': {
        'type': 'KernelUpdator',
        'in_channels': 8,
        'feat_channels': 8,
        'out_channels': 8,
        'act_cfg': {'type': 'ReLU', 'inplace': True},
        'norm_cfg': {'type': 'LN'},
    },
}

HEADS = {
    'ASPP': network(on_last('ASPPHead', dilations=(1, 2)), fcn(2)),
    'DepthwiseSeparableASPP': network(
        on_last(
            'DepthwiseSeparableASPPHead',
            dilations=(1, 2),
            c1_in_channels=WIDTHS[0],
            c1_channels=4,
        ),
        fcn(2),
    ),
    'PSP': network(on_last('PSPHead', pool_scales=(1, 2)), fcn(2)),
    'FCN': network(on_last('FCNHead', num_convs=2), fcn(2)),
    'UPer': network(on_all('UPerHead', pool_scales=(1, 2)), fcn(2)),
    'Segformer': network(on_all('SegformerHead')),
    'FPN': network(_FPN_HEAD, fcn(2, in_channels=8), neck=pyramid_neck()),
    'LightHam': network(
        {
            **on_all('LightHamHead', ham_channels=8),
            'in_channels': list(WIDTHS[1:]),
            'in_index': [1, 2, 3],
            'norm_cfg': {'type': 'GN', 'num_groups': 4},
            'ham_kwargs': {
                'MD_S': 1,
                'MD_R': 4,
                'train_steps': 2,
                'rand_init': True,
            },
        }
    ),
    'NL': network(on_last('NLHead', reduction=2, use_scale=True), fcn(2)),
    'GC': network(on_last('GCHead'), fcn(2)),
    'DA': network(on_last('DAHead', pam_channels=4), fcn(2)),
    'APC': network(on_last('APCHead', pool_scales=(1, 2), fusion=True), fcn(2)),
    'DM': network(on_last('DMHead', filter_sizes=(1, 3)), fcn(2)),
    'ISA': network(on_last('ISAHead', isa_channels=4, down_factor=(2, 2)), fcn(2)),
    'EMA': network(
        on_last('EMAHead', ema_channels=8, num_bases=4, num_stages=2, momentum=0.1),
        fcn(2),
    ),
    'Enc': network(
        {
            **on_all('EncHead', num_codes=4, use_se_loss=True, add_lateral=False),
            'in_channels': list(WIDTHS[1:]),
            'in_index': (1, 2, 3),
            'loss_se_decode': {
                'type': 'CrossEntropyLoss',
                'use_sigmoid': True,
                'loss_weight': 0.2,
            },
        },
        fcn(2),
    ),
    'SETRUP': network(
        on_last('SETRUPHead', num_convs=1, up_scale=2, norm_cfg=BN),
        [fcn(i) for i in (0, 1, 2)],
    ),
    'no norm': network(
        on_last('FCNHead', num_convs=1, norm_cfg=None, dropout_ratio=-1)
    ),
    'KNet': network(
        {
            'type': 'IterativeDecodeHead',
            'num_stages': 2,
            'kernel_update_head': [copy.deepcopy(_KNET_STAGE) for _ in range(2)],
            'kernel_generate_head': on_last('FCNHead', num_convs=1),
        },
        fcn(2),
    ),
    'two losses': network(
        on_last(
            'FCNHead',
            num_convs=1,
            loss_decode=[
                {'type': 'CrossEntropyLoss', 'loss_name': 'loss_ce'},
                {'type': 'DiceLoss', 'loss_name': 'loss_dice'},
            ],
        )
    ),
    'hard pixels': network(
        on_last(
            'FCNHead',
            num_convs=1,
            sampler={'type': 'OHEMPixelSampler', 'thresh': 0.7, 'min_kept': 100},
        ),
        fcn(1),
    ),
    'four auxiliary heads': network(
        on_last('FCNHead', num_convs=1), [fcn(i, 0.1 * (i + 1)) for i in range(4)]
    ),
    'an auxiliary head on two outputs': network(
        on_last('FCNHead', num_convs=1),
        fcn(
            0,
            in_channels=list(WIDTHS[:3:2]),
            in_index=[0, 2],
            input_transform='resize_concat',
        ),
    ),
    **{name: make() for name, make in CASCADES.items()},
}

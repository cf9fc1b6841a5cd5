"""A small segmentor for every backbone, with a stock head that suits it."""

import functools

from mmseg.registry import MODELS

from infopro_seg.models.probe import probe_backbone
from infopro_seg.units import units_of
from tests.backbones import BACKBONES
from tests.helpers import BN, deeplabv3

# The stock segmentor itself cannot take a bare output, and absolute positions fit one
# image size only; one ResNet speaks for all.
TRAINED = [
    name
    for name in BACKBONES
    if name.split('-')[0] not in ('resnet18', 'resnext50')
    and name not in ('mobilenet_v2-bare', 'mobilenet_v3-large', 'swin-frozen')
]
#: Those that `make test` tries where a test takes long.
SAMPLE = ('swin', 'unet')
_HEAD = {
    'channels': 8,
    'num_classes': 5,
    'norm_cfg': BN,
    'align_corners': False,
    'loss_decode': {'type': 'CrossEntropyLoss', 'loss_weight': 1.0},
}


@functools.cache
def outputs_of(name):
    """The stage outputs of a backbone, without storage."""
    backbone = MODELS.build(BACKBONES[name])
    return probe_backbone(backbone, units_of(backbone)).outputs


def pyramid(type, widths, **settings):
    """A head that reads all stage outputs."""
    return {
        'type': type,
        'in_channels': widths,
        'in_index': list(range(len(widths))),
        **_HEAD,
        **settings,
    }


def single(type, widths, index, **settings):
    """A head that reads one stage output."""
    return {
        'type': type,
        'in_channels': widths[index],
        'in_index': index,
        **_HEAD,
        **settings,
    }


def fcn(widths, index):
    return single('FCNHead', widths, index, num_convs=1, concat_input=False)


def decode_head(name, widths):
    """A stock head that mmseg's own configs put on this family."""
    last = len(widths) - 1
    family = name.split('-')[0]
    if name == 'vit-tokens':
        return pyramid(
            'DPTHead',
            widths,
            embed_dims=16,
            post_process_channels=[8] * 4,
            readout_type='project',
            input_transform='multiple_select',
        )
    if name == 'vit-no-class-token':
        return single(
            'SegmenterMaskTransformerHead',
            widths,
            0,
            num_layers=1,
            num_heads=2,
            embed_dims=16,
        ) | {'channels': 16, 'norm_cfg': {'type': 'LN'}}
    if family == 'hrnet' and last > 0:
        return pyramid(
            'FCNHead',
            widths,
            input_transform='resize_concat',
            kernel_size=1,
            num_convs=1,
        )
    if family == 'mit':
        return pyramid('SegformerHead', widths)
    if family == 'mscan':
        return pyramid(
            'LightHamHead',
            widths,
            ham_channels=8,
            # Does not fit the local heads, which must not take it over.
            norm_cfg={'type': 'GN', 'num_groups': 8},
            ham_kwargs={'MD_S': 1, 'MD_R': 4, 'train_steps': 2, 'rand_init': True},
        )
    if family in ('swin', 'beit', 'convnext', 'poolformer'):
        return pyramid('UPerHead', widths, pool_scales=(1, 2))
    if family in ('pcpvt', 'svt'):
        return pyramid('FPNHead', [8] * len(widths), feature_strides=[4, 8, 16, 32])
    if family in ('resnet18', 'resnet50', 'resnext50', 'resnest50'):
        return single('DepthwiseSeparableASPPHead', widths, last) | {
            'c1_in_channels': widths[0] if last > 0 else 0,
            'c1_channels': 4 if last > 0 else 0,
            'dilations': (1, 2),
        }
    return fcn(widths, last)


def segmentor(name):
    """The config of a stock segmentor on a backbone of the test list."""
    outputs = outputs_of(name)
    widths = [(out[0] if isinstance(out, tuple) else out).shape[1] for out in outputs]
    model = deeplabv3(BACKBONES[name], widths, auxiliary=None)
    model['decode_head'] = decode_head(name, widths)
    has_tokens = any(isinstance(out, tuple) for out in outputs)
    if len(widths) > 1 and not has_tokens:
        model['auxiliary_head'] = fcn(widths, len(widths) // 2)
    if name.split('-')[0] in ('pcpvt', 'svt'):
        model['neck'] = {
            'type': 'FPN',
            'in_channels': widths,
            'out_channels': 8,
            'num_outs': len(widths),
        }
        if 'auxiliary_head' in model:
            model['auxiliary_head']['in_channels'] = 8
        model['decode_head']['feature_strides'] = [4, 8, 16, 32][: len(widths)]
    return model

"""One small config of every supported backbone; a new family adds a line here."""

import importlib.util

from .helpers import BN, resnet

# Images of all tests; not square, so that swapped rows and columns show.
SIZE = (64, 96)
_HRNET_STAGES = {
    'stage1': {
        'num_modules': 1,
        'num_branches': 1,
        'block': 'BOTTLENECK',
        'num_blocks': (2,),
        'num_channels': (8,),
    },
    **{
        f'stage{n}': {
            'num_modules': n // 2,
            'num_branches': n,
            'block': 'BASIC',
            'num_blocks': (1,) * n,
            'num_channels': (4, 8, 16, 32)[:n],
        }
        for n in (2, 3, 4)
    },
}
# Rates above 0, so that a change in the order of random draws shows.
_DROP = {'drop_rate': 0.1, 'attn_drop_rate': 0.1, 'drop_path_rate': 0.3}
_TRANSFORMER = {'img_size': SIZE, 'embed_dims': 16, 'num_layers': 3, 'num_heads': 2}
_TWINS = {
    'embed_dims': [8, 16, 24, 32],
    'num_heads': [1, 2, 2, 2],
    'mlp_ratios': [2, 2, 2, 2],
    'depths': [2, 1, 2, 2],
    'sr_ratios': [8, 4, 2, 1],
    **_DROP,
}
_STDC = {
    'type': 'STDCNet',
    'stdc_type': 'STDCNet1',
    'in_channels': 3,
    'channels': (8, 8, 16, 32, 32),
    'bottleneck_type': 'cat',
    'norm_cfg': BN,
    'act_cfg': {'type': 'ReLU'},
}

BACKBONES = {
    'resnet18': resnet(18, 'ResNet', base_channels=8),
    'resnet50': resnet(50, 'ResNet', base_channels=8),
    'resnet18-v1c-3-stages': resnet(
        base_channels=8,
        num_stages=3,
        strides=(1, 2, 1),
        dilations=(1, 1, 2),
        out_indices=(2,),
    ),
    'resnet18-v1d': resnet(18, 'ResNetV1d', base_channels=8),
    'resnet18-frozen': resnet(frozen_stages=1),
    'resnext50': resnet(50, 'ResNeXt', groups=4, base_width=4, base_channels=16),
    'resnest50': resnet(50, 'ResNeSt', stem_channels=16, base_channels=16),
    'mobilenet_v2': {'type': 'MobileNetV2', 'widen_factor': 0.25, 'norm_cfg': BN},
    'mobilenet_v2-bare': {
        'type': 'MobileNetV2',
        'widen_factor': 0.25,
        'norm_cfg': BN,
        'out_indices': (6,),
        'strides': (1, 2, 2, 1, 1, 1, 1),
        'dilations': (1, 1, 1, 2, 2, 4, 4),
    },
    'mobilenet_v3': {'type': 'MobileNetV3', 'norm_cfg': BN, 'out_indices': (0, 1, 12)},
    'mobilenet_v3-large': {
        'type': 'MobileNetV3',
        'arch': 'large',
        'norm_cfg': BN,
        'out_indices': (1, 3, 16),
    },
    'swin': {
        'type': 'SwinTransformer',
        'embed_dims': 8,
        'depths': (2, 1, 2, 1),
        'num_heads': (1, 2, 2, 4),
        'mlp_ratio': 2,
        **_DROP,
    },
    'swin-frozen': {
        'type': 'SwinTransformer',
        'pretrain_img_size': SIZE,
        'use_abs_pos_embed': True,
        'embed_dims': 8,
        'depths': (1, 2, 1),
        'num_heads': (1, 2, 2),
        'strides': (4, 2, 2),
        'out_indices': (0, 2),
        'frozen_stages': 1,
    },
    'mit': {
        'type': 'MixVisionTransformer',
        'embed_dims': 8,
        'num_layers': [2, 1, 2, 1],
        'num_heads': [1, 2, 2, 4],
        'mlp_ratio': 2,
        **_DROP,
    },
    'mit-2-outputs': {
        'type': 'MixVisionTransformer',
        'embed_dims': 8,
        'num_layers': [1, 1, 1, 1],
        'out_indices': (1, 2),
    },
    'mscan': {
        'type': 'MSCAN',
        'embed_dims': [8, 8, 16, 16],
        'mlp_ratios': [2, 2, 2, 2],
        'depths': [2, 1, 2, 1],
        'norm_cfg': BN,
        'drop_rate': 0.1,
        'drop_path_rate': 0.3,
    },
    'pcpvt': {'type': 'PCPVT', **_TWINS},
    'svt': {
        'type': 'SVT',
        'windiow_sizes': [3, 3, 3, 3],
        **_TWINS,
        'out_indices': (1, 3),
        'norm_after_stage': True,
    },
    'vit': {
        'type': 'VisionTransformer',
        'mlp_ratio': 2,
        'out_indices': (0, 2),
        'final_norm': True,
        **_TRANSFORMER,
        **_DROP,
    },
    'vit-tokens': {
        'type': 'VisionTransformer',
        'out_indices': (0, 1, 2),
        'out_origin': True,
        'output_cls_token': True,
        'pre_norm': True,
        'patch_norm': True,
        **_TRANSFORMER,
        'img_size': 80,
    },
    'vit-no-class-token': {
        'type': 'VisionTransformer',
        'with_cls_token': False,
        'frozen_exclude': ['layers'],
        **_TRANSFORMER,
    },
    'beit': {
        'type': 'BEiT',
        'mlp_ratio': 2,
        'out_indices': (0, 2),
        'final_norm': True,
        'attn_drop_rate': 0.1,
        'drop_path_rate': 0.3,
        **_TRANSFORMER,
    },
    'hrnet': {'type': 'HRNet', 'extra': _HRNET_STAGES, 'norm_cfg': BN},
    'hrnet-frozen': {
        'type': 'HRNet',
        'extra': _HRNET_STAGES,
        'norm_cfg': BN,
        'frozen_stages': 2,
        'multiscale_output': False,
    },
    'unet': {'type': 'UNet', 'base_channels': 4, 'norm_cfg': BN},
    'unet-strided': {
        'type': 'UNet',
        'base_channels': 4,
        'num_stages': 3,
        'strides': (1, 2, 1),
        'enc_num_convs': (1, 1, 1),
        'dec_num_convs': (1, 1),
        'downsamples': (True, False),
        'enc_dilations': (1, 1, 1),
        'dec_dilations': (1, 1),
        'upsample_cfg': {'type': 'DeconvModule'},
        'norm_cfg': BN,
    },
    'stdc': {**_STDC, 'stdc_type': 'STDCNet2', 'with_final_conv': True},
    'stdc-add': {**_STDC, 'bottleneck_type': 'add'},
    'stdc-context': {
        'type': 'STDCContextPathNet',
        'backbone_cfg': _STDC,
        'last_in_channels': (32, 32),
        'out_channels': 16,
        'ffm_cfg': {'in_channels': 32, 'out_channels': 16, 'scale_factor': 4},
        'norm_cfg': BN,
    },
    'erfnet': {
        'type': 'ERFNet',
        'enc_downsample_channels': (4, 8, 16),
        'enc_stage_non_bottlenecks': (1, 4),
        'enc_non_bottleneck_channels': (8, 16),
        'dec_upsample_channels': (8, 4),
        'dec_stages_non_bottleneck': (1, 1),
        'dec_non_bottleneck_channels': (8, 4),
        'norm_cfg': BN,
    },
}

# Backbones of packages that are optional.
if importlib.util.find_spec('mmpretrain'):
    BACKBONES['convnext'] = {
        'type': 'mmpretrain.ConvNeXt',
        'arch': {'depths': [1, 2, 1, 1], 'channels': [8, 8, 16, 16]},
        'drop_path_rate': 0.3,
        'out_indices': (0, 1, 3),
        'gap_before_final_norm': False,
    }
    BACKBONES['poolformer'] = {
        'type': 'mmpretrain.PoolFormer',
        'arch': {
            'layers': [1, 2, 1, 1],
            'embed_dims': [8, 12, 16, 24],
            'mlp_ratios': [2, 2, 2, 2],
            'layer_scale_init_value': 1e-5,
        },
        'drop_path_rate': 0.3,
        'out_indices': (0, 2, 4, 6),
        'in_patch_size': 7,
        'in_stride': 4,
        'in_pad': 2,
        'down_patch_size': 3,
        'down_stride': 2,
        'down_pad': 1,
    }
if importlib.util.find_spec('timm'):
    BACKBONES['timm_resnet'] = {
        'type': 'TIMMBackbone',
        'model_name': 'resnet10t',
        'pretrained': False,
        'out_indices': (1, 3, 4),
        'drop_path_rate': 0.3,
    }
    BACKBONES['timm_convnext'] = {
        'type': 'TIMMBackbone',
        'model_name': 'test_convnext',
        'pretrained': False,
    }

"""One small config of every supported backbone; a new family adds a line here."""

from .helpers import BN, resnet

_BLOCKS = {'strides': (1, 2, 2, 2), 'dilations': (1, 1, 1, 1)}

BACKBONES = {
    'resnet18': resnet(18, 'ResNet'),
    'resnet50': resnet(50, 'ResNet', base_channels=8),
    'resnet18-v1c-3-stages': resnet(
        num_stages=3, strides=(1, 2, 1), dilations=(1, 1, 2), out_indices=(2,)
    ),
    'resnet18-v1d': resnet(18, 'ResNetV1d'),
    'resnet18-frozen': resnet(frozen_stages=1),
    'resnext50': resnet(50, 'ResNeXt', groups=4, base_width=4),
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
}

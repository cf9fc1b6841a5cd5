"""What makes a real config small enough to run in seconds, as ``--cfg-options``."""

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS

from infopro_seg.settings.config import as_list, type_name

CROP = (64, 64)
SCALE = (128, 64)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Narrow backbones: what to set, by type.
WIDTHS = {
    'ResNetV1c': {'base_channels': 4, 'stem_channels': 4},
    'MobileNetV2': {'widen_factor': 0.1},
    'MixVisionTransformer': {'embed_dims': 8},
    'SwinTransformer': {'embed_dims': 12},
    'VisionTransformer': {'embed_dims': 48, 'img_size': CROP},
    'UNet': {'base_channels': 4},
    'SVT': {'embed_dims': [8, 16, 32, 64]},
    'PCPVT': {'embed_dims': [8, 16, 40, 64]},
    'MSCAN': {'embed_dims': [8, 16, 24, 32]},
    'HRNet': {
        'extra.stage1.num_channels': (8,),
        'extra.stage2.num_channels': (4, 8),
        'extra.stage3.num_channels': (4, 8, 16),
        'extra.stage4.num_channels': (4, 8, 16, 32),
    },
    'STDCContextPathNet': {
        'backbone_cfg.channels': (8, 8, 16, 32, 64),
        'ffm_cfg.in_channels': 40,
        'ffm_cfg.out_channels': 16,
        'out_channels': 8,
        'last_in_channels': (64, 32),
    },
}
# Widths of heads and necks that no other part depends on.
HEAD_WIDTHS = {
    'channels': 8,
    'c1_channels': 8,
    'ham_channels': 32,
    'ocr_channels': 8,
}


def small_options(cfg):
    """Settings that shrink data, schedule and widths of a config.

    Returns:
        ``KEY=VALUE`` texts.
    """
    options = {**_data(cfg), **_schedule(cfg), **_model(cfg)}
    return [f'{key}={_text(value)}' for key, value in options.items()]


def _text(value):
    if isinstance(value, list | tuple):
        # A comma also makes a tuple of one.
        inside = ','.join(map(_text, value))
        return f'[{inside}]' if isinstance(value, list) else f'({inside})'
    return str(value)


def _data(cfg):
    options = {}
    for loader in LOADERS:
        options[f'{loader}.num_workers'] = 0
        options[f'{loader}.persistent_workers'] = False
        options |= _sizes(f'{loader}.dataset', cfg[loader]['dataset'])
    options['train_dataloader.batch_size'] = 2
    if 'total_batch_size' in cfg:
        options['total_batch_size'] = 2
    return options


def _sizes(place, part):
    """Every image size inside a data set config, wherever it is nested."""
    if isinstance(part, list | tuple):
        items = enumerate(part)
    else:
        items = part.items() if isinstance(part, dict) else ()
    options = {}
    for key, value in items:
        where = f'{place}.{key}'
        if key in ('crop_size', 'size') and isinstance(value, list | tuple):
            options[where] = CROP
        elif key in ('scale', 'img_scale'):
            options[where] = SCALE
        elif key == 'num_scenes':
            options[where] = 3
        else:
            options |= _sizes(where, value)
    return options


def _schedule(cfg):
    return {
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 2,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.checkpoint.max_keep_ckpts': 2,
        'default_hooks.logger.interval': 1,
    }


def _model(cfg):
    model = cfg.model
    options = {'model.data_preprocessor.size': CROP, 'model.pretrained': None}
    for name in _places_of_weights(model.backbone):
        options[f'model.backbone.{name}'] = None
    widths = WIDTHS[type_name(model.backbone)]
    options |= {f'model.backbone.{key}': value for key, value in widths.items()}
    channels = _output_channels(model.backbone, options)
    if 'neck' in model:
        options['model.neck.in_channels'] = channels
        options['model.neck.out_channels'] = 8
        channels = [8] * len(channels)
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name)
        for i, head in enumerate(as_list(heads)):
            place = f'model.{name}.{i}' if isinstance(heads, list) else f'model.{name}'
            options |= {f'{place}.{k}': v for k, v in _head(head, channels).items()}
    if model.test_cfg.get('mode') == 'slide':
        options['model.test_cfg.crop_size'] = CROP
        options['model.test_cfg.stride'] = (48, 48)
    return options


def _places_of_weights(part):
    """Where pretrained weights are named, at any depth."""
    for key, value in part.items():
        if key in ('init_cfg', 'pretrained'):
            yield key
        elif isinstance(value, dict):
            yield from (f'{key}.{name}' for name in _places_of_weights(value))


def _output_channels(backbone, options):
    """Channels of the outputs of the small backbone."""
    small = Config({'model': {'backbone': backbone.to_dict()}})
    own = {k: v for k, v in options.items() if k.startswith('model.backbone.')}
    small.merge_from_dict(own)
    network = revert_sync_batchnorm(MODELS.build(small.model.backbone))
    # Some backbones return nothing from train() and eval().
    network.eval()
    with torch.no_grad():
        outputs = network(torch.zeros(1, 3, *CROP))
    return [x.shape[1] for x in outputs]


def _head(head, channels):
    index = head.get('in_index', -1)
    is_several = isinstance(index, list | tuple)
    options = {
        'in_channels': [channels[i] for i in index] if is_several else channels[index]
    }
    if 'c1_in_channels' in head:
        options['c1_in_channels'] = channels[0]
    return options | {k: v for k, v in HEAD_WIDTHS.items() if k in head}

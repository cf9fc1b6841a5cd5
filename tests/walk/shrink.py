"""What makes a real config small enough to run in seconds, as ``--cfg-options``."""

import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS

from infopro_seg.settings.config import as_list, type_name

CROP = (64, 64)
SCALE = (128, 64)
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Narrow backbones: what to set, by type. Depths stay: configs name units to cut after.
BACKBONES = {
    'BEiT': {'embed_dims': 48, 'img_size': CROP},
    'ERFNet': {
        'enc_downsample_channels': (4, 8, 16),
        'enc_non_bottleneck_channels': (8, 16),
        'dec_upsample_channels': (8, 4),
        'dec_non_bottleneck_channels': (8, 4),
    },
    'HRNet': {
        'extra.stage1.num_blocks': (1,),
        'extra.stage1.num_channels': (8,),
        'extra.stage2.num_blocks': (1, 1),
        'extra.stage2.num_channels': (4, 8),
        'extra.stage3.num_blocks': (1, 1, 1),
        'extra.stage3.num_channels': (4, 8, 16),
        'extra.stage4.num_blocks': (1, 1, 1, 1),
        'extra.stage4.num_channels': (4, 8, 16, 32),
    },
    'MixVisionTransformer': {'embed_dims': 8},
    'MobileNetV2': {'widen_factor': 0.1},
    'MSCAN': {'embed_dims': [8, 16, 24, 32]},
    'PCPVT': {'embed_dims': [8, 16, 40, 64]},
    'ResNeSt': {'base_channels': 8, 'stem_channels': 8},
    'ResNetV1c': {'base_channels': 4, 'stem_channels': 4},
    'STDCContextPathNet': {
        'backbone_cfg.channels': (8, 8, 16, 32, 64),
        'ffm_cfg.in_channels': 24,
        'ffm_cfg.out_channels': 16,
        'out_channels': 8,
        'last_in_channels': (64, 32),
    },
    'SVT': {'embed_dims': [16, 32, 64, 128]},
    'SwinTransformer': {'embed_dims': 12},
    'UNet': {'base_channels': 4},
    'VisionTransformer': {'embed_dims': 48, 'img_size': CROP},
}
# Widths of necks and heads that no other part depends on, set where a config has them.
NECK_WIDTHS = {'mid_channels': 8, 'out_channels': 8}
HEAD_WIDTHS = {
    'c1_channels': 8,
    'channels': 8,
    'ham_channels': 32,
    'mla_channels': 2,
    'norm_cfg.num_groups': 4,
    'ocr_channels': 8,
    'pam_channels': 8,
    'post_process_channels': [8, 8, 16, 16],
}
# Stages of K-Net's head, which are as wide as the head that makes its first kernels.
KERNEL_UPDATE_WIDTHS = {
    'feedforward_channels': 16,
    'in_channels': 8,
    'kernel_updator_cfg.feat_channels': 8,
    'kernel_updator_cfg.in_channels': 8,
    'kernel_updator_cfg.out_channels': 8,
    'out_channels': 8,
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
    options |= _at('model.backbone', BACKBONES[type_name(model.backbone)])
    features = _run(cfg, 'backbone', options, torch.zeros(1, 3, *CROP))
    width = _channels(features)[-1]
    if model.get('neck'):
        options |= _at('model.neck', _neck(model.neck, _channels(features)))
        features = _run(cfg, 'neck', options, features)
    for name in ('decode_head', 'auxiliary_head'):
        heads = model.get(name)
        for i, head in enumerate(as_list(heads)):
            place = f'model.{name}.{i}' if isinstance(heads, list) else f'model.{name}'
            options |= _at(place, _head(head, _channels(features), width))
    if model.test_cfg.get('mode') == 'slide':
        options['model.test_cfg.crop_size'] = CROP
        options['model.test_cfg.stride'] = (48, 48)
    return options


def _at(place, options):
    return {f'{place}.{key}': value for key, value in options.items()}


def _places_of_weights(part):
    """Where pretrained weights are named, at any depth."""
    for key, value in part.items():
        if key in ('init_cfg', 'pretrained'):
            yield key
        elif isinstance(value, dict):
            yield from (f'{key}.{name}' for name in _places_of_weights(value))


def _run(cfg, part, options, x):
    """What the small backbone or neck gives."""
    small = Config({'model': {part: cfg.model[part].to_dict()}})
    own = {k: v for k, v in options.items() if k.startswith(f'model.{part}.')}
    small.merge_from_dict(own)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        network = revert_sync_batchnorm(MODELS.build(small.model[part]))
    # Some backbones return nothing from train() and eval().
    network.eval()
    with torch.no_grad():
        return network(x)


def _channels(features):
    # Some vision transformers give a map with its class token.
    maps = (x if isinstance(x, torch.Tensor) else x[0] for x in features)
    return [x.shape[1] for x in maps]


def _neck(neck, channels):
    # Some necks insist on a list, one on a tuple.
    inputs = tuple(channels) if isinstance(neck.get('in_channels'), tuple) else channels
    options = {'embed_dim': channels[-1], 'in_channels': inputs, **NECK_WIDTHS}
    return _where_present(options, neck)


def _head(head, channels, width):
    """Options of a head.

    Args:
        head: Its config.
        channels: Of the feature maps it chooses from.
        width: Of the last output of the backbone.
    """
    if 'kernel_generate_head' in head:
        first = _head(head.kernel_generate_head, channels, width)
        options = _at('kernel_generate_head', first)
        for i in range(len(head.kernel_update_head)):
            options |= _at(f'kernel_update_head.{i}', KERNEL_UPDATE_WIDTHS)
        return options
    index = head.get('in_index', -1)
    is_several = isinstance(index, list | tuple)
    inputs = [channels[i] for i in index] if is_several else channels[index]
    options = {
        **HEAD_WIDTHS,
        'c1_in_channels': channels[0],
        'embed_dims': width,
        'in_channels': inputs,
    }
    if head.get('num_convs') == 0:
        # Nothing lies between the input and the classifier.
        options['channels'] = inputs
    return _where_present(options, head)


def _where_present(options, config):
    """The options that a config has a value for."""
    found = {}
    for key, value in options.items():
        outer, _, inner = key.partition('.')
        part = config.get(outer)
        if (part and inner in part) if inner else outer in config:
            found[key] = value
    return found

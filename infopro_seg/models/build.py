"""Builds the local heads that the ``local`` setting of a config asks for."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mmengine.model import ModuleList
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS
from torch import nn

from ..arguments import accepted_settings
from ..scopes import class_of, in_mmseg
from ..settings import LocalSettings
from ..settings.config import type_name
from ..settings.heads import CROSS_ENTROPY, PARTS
from ..settings.splits import linear_weights
from .heads.local_head import LocalHead
from .hollow import meta_copy
from .local_module import LocalModule
from .probe import Boundary

# Under mmcv's names and torch's class names, which pure-Python configs use.
_WIDTH_FREE_NORMS = (
    *('BN', 'BN2d', 'BatchNorm2d'),
    *('SyncBN', 'SyncBatchNorm'),
    *('IN', 'IN2d', 'InstanceNorm2d'),
)


def build_local_heads(
    settings: LocalSettings,
    boundaries: Sequence[Boundary],
    decode_heads: Sequence[nn.Module],
    image_channels: int,
    *,
    ahead: Sequence[Boundary] | None = None,
) -> ModuleList:
    """Build the local heads of all modules but the last.

    What a head's config leaves open is filled in. Channels and stride come from its
    boundary. The number of classes and outputs, the ignore index, the norm layers and
    ``align_corners`` come from the decode head, in a cascade from the last one. The
    segmentation loss is a cross-entropy over a softmax or sigmoids, whichever the
    decode head uses, so that both read the same labels. Class weights, samplers (OHEM)
    and other losses of the decode head do not apply: set them in the local head's own
    config.

    Args:
        settings: The ``local`` setting.
        boundaries: What leaves each of these modules, in order.
        decode_heads: The network's own head, or the stages of its cascade.
        image_channels: Channels of the image to reconstruct.
        ahead: What the segmentation halves read, if not the same boundaries.

    Returns:
        One `LocalHead` per boundary. A half whose weight is 0 is not built.

    Raises:
        KeyError: if the type of a half is not registered.
        ValueError: if a segmentation half has one output and a softmax over it.
    """
    norm_cfg = _norm_of(decode_heads)
    weights = {
        part: linear_weights(settings.weights[part], len(boundaries)) for part in PARTS
    }
    heads = ModuleList()
    for i, (boundary, read) in enumerate(
        zip(boundaries, ahead or boundaries, strict=True)
    ):
        halves: dict[str, dict | None] = dict.fromkeys(PARTS)
        if weights['reconstruction'][i] > 0:
            halves['reconstruction'] = _fill_reconstruction(
                settings.head['reconstruction'],
                _shape(boundary, norm_cfg),
                image_channels,
            )
        if weights['segmentation'][i] > 0:
            halves['segmentation'] = _fill_segmentation(
                settings.head['segmentation'], _shape(read, norm_cfg), decode_heads[-1]
            )
        head = LocalHead(
            **halves,
            reconstruction_weight=weights['reconstruction'][i],
            segmentation_weight=weights['segmentation'][i],
        )
        _require_more_than_a_constant(head.segmentation)
        heads.append(head)
    return heads


def _shape(boundary: Boundary, norm_cfg: dict) -> dict[str, Any]:
    """What a half is told of the map that it reads."""
    return {
        'in_channels': boundary.channels,
        'stride': boundary.stride,
        'norm_cfg': norm_cfg,
    }


def require_losses(
    modules: Sequence[LocalModule],
    local_heads: Sequence[LocalHead],
    modules_with_auxiliary: Collection[int],
    backbone: nn.Module,
) -> None:
    """Check that every module but the last has a loss.

    Args:
        modules: All modules.
        local_heads: The heads of all modules but the last.
        modules_with_auxiliary: Indices of the modules that an auxiliary head trains.
        backbone: Owner of the modules' parameters.

    Raises:
        ValueError: if a module has trainable parameters and no loss.
    """
    idle = [
        module
        for module, head in zip(modules, local_heads, strict=False)
        if head.reconstruction is None
        and head.segmentation is None
        and module.index not in modules_with_auxiliary
    ]
    if not idle:
        return
    # Some backbones freeze stages only when they are put into training mode.
    trained = meta_copy(backbone)
    trained.train()  # mmseg backbones return None
    for module in idle:
        if any(p.requires_grad for p in module.parameters(trained)):
            raise ValueError(
                f'nothing trains {module}: its local head has neither reconstruction '
                'nor segmentation (None in local.head, or weight 0 in local.weights) '
                'and no auxiliary head reads its outputs. Switch one of the two on, '
                'move the split, or freeze these units.'
            )


def _fill_reconstruction(
    config: dict | None, fill: Mapping[str, Any], image_channels: int
) -> dict | None:
    if config is None:
        return None
    return _fill(config, {**fill, 'out_channels': image_channels})


def _fill_segmentation(
    config: dict | None, fill: Mapping[str, Any], decode_head: nn.Module
) -> dict | None:
    """The config of a segmentation half that predicts what the decode head does."""
    if config is None:
        return None
    num_classes = decode_head.num_classes
    num_outputs = getattr(decode_head, 'out_channels', None) or num_classes
    ignore_index = getattr(decode_head, 'ignore_index', None)
    values = {
        **fill,
        'num_classes': num_classes,
        'out_channels': num_outputs,
        'threshold': getattr(decode_head, 'threshold', None),
        # None means that nothing is ignored; cross-entropy needs a number.
        'ignore_index': 255 if ignore_index is None else ignore_index,
        'align_corners': getattr(decode_head, 'align_corners', False),
        'in_index': 0,
    }
    if num_outputs == 1:
        # mmseg's binary loss fails without a valid label. Subsampling could drop the
        # only ones.
        values['loss_stride'] = 1
        if 'out_channels' not in accepted_settings(_class_of(config)):
            values['num_classes'] = 2
    filled = _fill(config, values)
    if 'loss_decode' not in accepted_settings(_class_of(config)):
        return filled
    return _with_loss(filled, decode_head)


def _with_loss(config: dict, decode_head: nn.Module) -> dict:
    """A loss of the decode head's kind, unless the user chose one."""
    has_one_output = config.get('out_channels') == 1
    loss = config.get('loss_decode')
    if loss in (None, CROSS_ENTROPY) and (has_one_output or _has_sigmoid(decode_head)):
        loss = {**(loss or {'type': in_mmseg('CrossEntropyLoss')}), 'use_sigmoid': True}
        return {**config, 'loss_decode': loss}
    return config


def _has_sigmoid(decode_head: nn.Module) -> bool:
    """Whether the outputs of a head are independent of one another."""
    losses = _losses_of(decode_head)
    entropies = [loss for loss in losses if isinstance(loss, CrossEntropyLoss)]
    return bool(losses) and all(
        getattr(loss, 'use_sigmoid', False) for loss in entropies or losses
    )


def _losses_of(head: nn.Module) -> list[nn.Module]:
    losses = getattr(head, 'loss_decode', None)
    if isinstance(losses, nn.ModuleList):
        return list(losses)
    return [] if losses is None else [losses]


def _require_more_than_a_constant(segmentation: nn.Module | None) -> None:
    """Refuse a softmax over one output: its loss is constant."""
    if segmentation is None or getattr(segmentation, 'out_channels', None) != 1:
        return
    for loss in _losses_of(segmentation):
        has_softmax = getattr(loss, 'use_sigmoid', True) is False
        if has_softmax and not getattr(loss, 'use_mask', False):
            raise ValueError(
                f'local.head.segmentation has one output and a {type(loss).__name__} '
                'over the softmax of it, which is constant. Set use_sigmoid=True in '
                "its loss_decode, or leave loss_decode out to follow the decode head's."
            )


def _norm_of(decode_heads: Sequence[nn.Module]) -> dict:
    """The norm layers of the last decode head whose norm fits any width, else BN.

    Group norm does not fit, and some heads (K-Net, Segmenter, PointRend) have none.
    """
    for head in reversed(decode_heads):
        norm_cfg = getattr(head, 'norm_cfg', None) or {}
        if type_name(norm_cfg) in _WIDTH_FREE_NORMS:
            return norm_cfg
    return {'type': 'BN'}


def _fill(config: dict, values: Mapping[str, Any]) -> dict:
    """Add those values that the head's class accepts and the config does not set."""
    accepted = accepted_settings(_class_of(config))
    return {**{k: v for k, v in values.items() if k in accepted}, **config}


def _class_of(config: dict) -> type:
    cls: type | None = class_of(MODELS, config['type'])
    if cls is None:
        raise KeyError(
            f'{config["type"]} is not in the registry of models; name a registered '
            'head, and import its module with custom_imports.'
        )
    return cls

"""From the ``local`` setting of a config to built local heads."""

import inspect
from collections.abc import Sequence
from typing import Any

from mmengine.model import ImgDataPreprocessor, ModuleList
from mmseg.registry import MODELS
from torch import nn

from ..settings import LocalSettings
from ..settings.heads import PARTS
from ..settings.splits import linear_weights
from .local_head import LocalHead
from .probe import Boundary

_WIDTH_FREE_NORMS = ('BN', 'SyncBN', 'IN')


def build_local_heads(
    settings: LocalSettings,
    boundaries: Sequence[Boundary],
    decode_heads: Sequence[nn.Module],
    image_channels: int,
) -> ModuleList:
    """Build the local heads of all modules but the last.

    What a head's config leaves open is filled in: channels and stride of its boundary;
    number of classes, ignore index, norm layers and alignment of the decode head, which
    in a cascade is the last one.

    Args:
        settings: The ``local`` setting.
        boundaries: What leaves each of these modules.
        decode_heads: The network's own head, or the stages of its cascade.
        image_channels: Channels of the image to reconstruct.

    Returns:
        One `LocalHead` a boundary. A half whose weight is 0 is not built.
    """
    decode_head = decode_heads[-1]
    shared = {
        'num_classes': decode_head.num_classes,
        'out_channels': decode_head.num_classes,
        'ignore_index': decode_head.ignore_index,
        'norm_cfg': _norm_of(decode_heads),
        'align_corners': decode_head.align_corners,
        'in_index': 0,
    }
    weights = {
        part: linear_weights(settings.weights[part], len(boundaries)) for part in PARTS
    }
    heads = ModuleList()
    for i, boundary in enumerate(boundaries):
        fill = {'in_channels': boundary.channels, 'stride': boundary.stride}
        fills = {
            'reconstruction': {
                **fill,
                'out_channels': image_channels,
                'norm_cfg': shared['norm_cfg'],
            },
            'segmentation': {**fill, **shared},
        }
        halves = {
            part: _fill(settings.head[part], fills[part])
            if weights[part][i] > 0
            else None
            for part in PARTS
        }
        heads.append(
            LocalHead(
                **halves,
                reconstruction_weight=weights['reconstruction'][i],
                segmentation_weight=weights['segmentation'][i],
            )
        )
    return heads


def require_known_normalisation(data_preprocessor: nn.Module) -> None:
    """Check that the image in [0, 1] can be recovered from the network's input.

    Args:
        data_preprocessor: Of the segmentor.

    Raises:
        ValueError: if it does not say how it normalises.
    """
    if not isinstance(data_preprocessor, ImgDataPreprocessor):
        raise ValueError(
            'the reconstruction loss compares with the image in [0, 1], recovered '
            'with the mean and std of the data preprocessor, but data_preprocessor '
            f'is a {type(data_preprocessor).__name__}. Use '
            "data_preprocessor=dict(type='SegDataPreProcessor', mean=..., std=...)"
            ', or set local=dict(head=dict(reconstruction=None)).'
        )


def _norm_of(decode_heads: Sequence[nn.Module]) -> dict:
    """The last norm layers of the decode heads that fit maps of any width, else BN.

    Group norm does not, and some heads (K-Net, Segmenter, PointRend) have none.
    """
    for head in reversed(decode_heads):
        norm_cfg = getattr(head, 'norm_cfg', None) or {}
        if norm_cfg.get('type') in _WIDTH_FREE_NORMS:
            return norm_cfg
    return {'type': 'BN'}


def _fill(config: dict | None, values: dict[str, Any]) -> dict | None:
    """Add the values that the head's class takes and the config leaves open."""
    if config is None:
        return None
    cls = MODELS.get(config['type'])
    if cls is None:
        raise KeyError(
            f'{config["type"]} is not in the registry of models; name a registered '
            'head, and import its module with custom_imports.'
        )
    accepted = accepted_settings(cls)
    return {**{k: v for k, v in values.items() if k in accepted}, **config}


def accepted_settings(cls: type) -> set[str]:
    """Names of all arguments that a class or its bases take."""
    return {
        name
        for base in cls.__mro__
        if '__init__' in vars(base)
        for name in inspect.signature(base.__init__).parameters
    }

"""A local head: what a local module is trained with instead of a later gradient.

It exists only for training. Its loss is ``lambda1 * reconstruction + lambda2 *
segmentation`` (Wang et al., ICLR 2021, equation 5 and section 4.3).
"""

import copy
from typing import Any

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from .reconstruction_head import reconstruction_loss, valid_pixels

#: The segmentation loss of the presets; of a decode head with sigmoids see
#: `build_local_heads`.
CROSS_ENTROPY = {
    'type': 'CrossEntropyLoss',
    'use_sigmoid': False,
    'loss_weight': 1.0,
    'loss_name': 'loss_seg',
}
# `paper` rebuilds the heads of the reference (Wang et al., ICLR 2021, released
# segmentation code); `lean` is ours, for many cuts.
PRESETS: dict[str, dict[str, dict]] = {
    'paper': {
        'reconstruction': {'type': 'InterpolatingReconstructionHead'},
        'segmentation': {
            'type': 'FCNHead',
            'channels': 512,
            'num_convs': 1,
            'concat_input': False,
            'dropout_ratio': 0.1,
            'loss_decode': CROSS_ENTROPY,
        },
    },
    'lean': {
        'reconstruction': {'type': 'SubpixelReconstructionHead'},
        'segmentation': {
            'type': 'LocalSegmentationHead',
            'dropout_ratio': 0.0,
            'loss_decode': CROSS_ENTROPY,
        },
    },
}
_PARTS = ('reconstruction', 'segmentation')


@MODELS.register_module()
class LocalHead(BaseModule):
    """Reconstructs the image from a feature map and predicts the labels from it.

    Args:
        reconstruction: Config of the reconstruction half, called as
            ``half(feature_map, size) -> logits``; None to do without.
        segmentation: Config of the segmentation half: any mmseg decode head or
            anything with its ``loss``; None to do without.
        reconstruction_weight: lambda1 of this module.
        segmentation_weight: lambda2 of this module.
        init_cfg: mmengine initialisation.
    """

    def __init__(
        self,
        reconstruction: dict | None,
        segmentation: dict | None,
        reconstruction_weight: float = 1.0,
        segmentation_weight: float = 1.0,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.reconstruction = reconstruction and MODELS.build(reconstruction)
        self.segmentation = segmentation and MODELS.build(segmentation)
        self.reconstruction_weight = reconstruction_weight
        self.segmentation_weight = segmentation_weight

    def loss(
        self, feature_map: Tensor, image: Tensor, data_samples: list, train_cfg: Any
    ) -> dict[str, Tensor]:
        """The InfoPro loss of one local module.

        Args:
            feature_map: Output of the module (N, C, h, w), with gradient.
            image: Reconstruction target (N, C, H, W) in [0, 1].
            data_samples: N samples with ``gt_sem_seg`` (1, H, W).
            train_cfg: Passed on to the segmentation half.

        Returns:
            ``loss_recon`` and the entries of the segmentation half (``loss_seg``,
            ``acc_seg``, ...), each a tensor or a list of them. Losses are weighted.
        """
        losses = {}
        if self.reconstruction is not None:
            size = tuple(image.shape[-2:])
            losses['loss_recon'] = self.reconstruction_weight * reconstruction_loss(
                self.reconstruction(feature_map, size),
                image,
                valid_pixels(data_samples, size, image.device),
            )
        if self.segmentation is not None:
            entries = self.segmentation.loss((feature_map,), data_samples, train_cfg)
            for name, value in entries.items():
                weight = self.segmentation_weight if 'loss' in name else 1
                losses[name] = _weighted(value, weight)
        return losses


def _weighted(value: Tensor | list[Tensor], weight: float) -> Tensor | list[Tensor]:
    """Entries are what mmengine's ``parse_losses`` takes."""
    if isinstance(value, list):
        return [weight * part for part in value]
    return value if weight == 1 else weight * value


def complete_head(head: dict | str | None) -> dict[str, dict | None]:
    """Fill a user's head config up from its preset.

    Args:
        head: ``dict(preset='lean', reconstruction=..., segmentation=...)``, the name
            of a preset, or None for ``lean``. A half with a ``type`` replaces that
            of the preset, one without changes single settings of it, None
            switches it off.

    Returns:
        The configs of both halves.

    Raises:
        TypeError: if it is not a dict or a name.
        ValueError: if the preset or a key is unknown.
    """
    if head is None or isinstance(head, str):
        head = {'preset': head or 'lean'}
    if not isinstance(head, dict):
        raise TypeError(f'local head {head!r} must be a dict or the name of a preset.')
    preset = head.get('preset', 'lean')
    if preset not in PRESETS:
        raise ValueError(
            f'preset={preset!r} of the local head is unknown; choose one of '
            f'{sorted(PRESETS)}.'
        )
    unknown = set(head) - {'preset', *_PARTS}
    if unknown:
        raise ValueError(
            f'local head has unknown settings {sorted(unknown)}; allowed: preset, '
            f'{", ".join(_PARTS)}.'
        )
    return {
        part: _override(PRESETS[preset][part], head.get(part, {})) for part in _PARTS
    }


def _override(preset: dict, user: dict | None) -> dict | None:
    if user is None:
        return None
    if 'type' in user:
        return copy.deepcopy(dict(user))
    return {**copy.deepcopy(preset), **copy.deepcopy(dict(user))}

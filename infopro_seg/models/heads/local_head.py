"""A local head: it trains a local module in place of the gradient from later layers.

It exists only for training. Its loss is ``lambda1 * reconstruction + lambda2 *
segmentation`` (Wang et al., ICLR 2021, equation 5 and section 4.3).
"""

from typing import Any

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from ...scopes import register
from .reconstruction import reconstruction_loss, valid_pixels

#: Losses by name, as mmengine's ``parse_losses`` takes them.
Losses = dict[str, Tensor | list[Tensor]]


@register(MODELS)
class LocalHead(BaseModule):
    """Reconstructs the image from a feature map and predicts the labels from it.

    Args:
        reconstruction: Config of the reconstruction half, called as
            ``half(feature_map, size) -> logits``; None for no reconstruction.
        segmentation: Config of the segmentation half: any mmseg decode head or
            anything with the same ``loss``; None for no segmentation.
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
        self.reconstruction = _built(reconstruction)
        self.segmentation = _built(segmentation)
        self.reconstruction_weight = reconstruction_weight
        self.segmentation_weight = segmentation_weight

    def loss(
        self,
        feature_map: Tensor,
        image: Tensor,
        data_samples: list,
        train_cfg: Any,
        ahead: Tensor | None = None,
    ) -> Losses:
        """The InfoPro loss of one local module.

        Args:
            feature_map: Output of the module (N, C, h, w), with gradient.
            image: Reconstruction target (N, C, H, W) in [0, 1].
            data_samples: N samples with ``gt_sem_seg`` (1, H, W).
            train_cfg: Passed on to the segmentation half.
            ahead: What later units make of the map (N, C', h', w'), for the
                segmentation half; None if it reads the map itself.

        Returns:
            ``loss_recon`` and the entries of the segmentation half (``loss_seg``,
            ``acc_seg``, ...). Losses are weighted.
        """
        losses: Losses = {}
        if self.reconstruction is not None:
            size = (image.shape[-2], image.shape[-1])
            losses['loss_recon'] = self.reconstruction_weight * reconstruction_loss(
                self.reconstruction(feature_map, size),
                image,
                valid_pixels(data_samples, size, image.device),
            )
        if self.segmentation is not None:
            maps = (feature_map if ahead is None else ahead,)
            entries = self.segmentation.loss(maps, data_samples, train_cfg)
            for name, value in entries.items():
                weight = self.segmentation_weight if 'loss' in name else 1
                losses[name] = _weighted(value, weight)
        return losses


def _built(half: dict | None) -> Any:
    return None if half is None else MODELS.build(half)


def _weighted(value: Tensor | list[Tensor], weight: float) -> Tensor | list[Tensor]:
    """Entries are what mmengine's ``parse_losses`` takes."""
    if isinstance(value, list):
        return [weight * part for part in value]
    return value if weight == 1 else weight * value

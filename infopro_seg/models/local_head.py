"""A local head: what a local module is trained with instead of a later gradient.

It exists only for training. Its loss is ``lambda1 * reconstruction + lambda2 *
segmentation`` (Wang et al., ICLR 2021, equation 5 and section 4.3).
"""

from typing import Any

from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor

from .reconstruction_head import reconstruction_loss, valid_mask


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
            image: Reconstruction target (N, 3, H, W) in [0, 1].
            data_samples: N samples with ``gt_sem_seg`` (1, H, W).
            train_cfg: Passed on to the segmentation half.

        Returns:
            ``loss_recon`` and the entries of the segmentation half (``loss_seg``,
            ``acc_seg``, ...). Losses are weighted.
        """
        losses = {}
        if self.reconstruction is not None:
            size = tuple(image.shape[-2:])
            paddings = [s.metainfo.get('padding_size', (0,) * 4) for s in data_samples]
            losses['loss_recon'] = self.reconstruction_weight * reconstruction_loss(
                self.reconstruction(feature_map, size),
                image,
                valid_mask(paddings, size, image.device),
            )
        if self.segmentation is not None:
            entries = self.segmentation.loss((feature_map,), data_samples, train_cfg)
            for name, value in entries.items():
                is_loss = 'loss' in name
                losses[name] = self.segmentation_weight * value if is_loss else value
        return losses

"""Supervised contrastive loss between pixels, for local heads.

Source: Khosla et al., NeurIPS 2020, equation 2, as the contrastive variant of InfoPro
uses it (Wang et al., ICLR 2021, section 3.2: temperature 0.07, projection to 128
dimensions), but over sampled pixels instead of whole images.
"""

from typing import Any

import torch
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from ...scopes import register


def supervised_contrast(
    embeddings: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """Pull pixels of one class together, push those of other classes apart.

    Args:
        embeddings: (P, D), rows of length 1.
        labels: (P,) class of each pixel.
        temperature: Divides the similarities; the smaller, the sharper.

    Returns:
        A scalar: the mean over pixels that share their class with another one. If
        there are none, zero with zero gradient.
    """
    similarity = embeddings @ embeddings.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = (labels[:, None] == labels[None]) & ~itself
    log_prob = similarity - torch.logsumexp(
        similarity.masked_fill(itself, float('-inf')), dim=1, keepdim=True
    )
    num_positive = positive.sum(1)
    has_positive = num_positive > 0
    # A product would turn the infinities in the row of a single pixel into NaN.
    log_prob = log_prob.where(positive, 0)
    per_pixel = -log_prob.sum(1) / num_positive.clamp(min=1)
    return (per_pixel * has_positive).sum() / has_positive.sum().clamp(min=1)


def sample_pixels(labels: Tensor, num_classes: int, max_per_class: int) -> Tensor:
    """Draw at most ``max_per_class`` pixels of every class, at random.

    Args:
        labels: (P,) integer classes; values outside [0, num_classes) are never drawn.
        num_classes: Number of classes.
        max_per_class: Most pixels of one class.

    Returns:
        Indices into ``labels``, at most num_classes * max_per_class.
    """
    order = torch.randperm(len(labels), device=labels.device)
    return torch.cat(
        [order[labels[order] == c][:max_per_class] for c in range(num_classes)]
    )


@register(MODELS)
class PixelContrastHead(BaseModule):
    """Projects the map to unit vectors and contrasts pixels by their labels.

    Takes the place of the segmentation head in a local head. Memory is bounded because
    the number of compared pixels is: at most ``max_pixels`` squared similarities.

    Args:
        in_channels: Channels of the feature map.
        num_classes: Number of classes.
        ignore_index: Label that is never sampled.
        channels: Width of the projection's hidden layer.
        embedding_channels: Dimensions of the unit vectors.
        temperature: See `supervised_contrast`.
        max_pixels: Bound on the pixels sampled from a batch, shared equally between
            the classes that the data set has.
        loss_weight: Factor of the loss.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: if ``max_pixels`` leaves fewer than two pixels per class.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        ignore_index: int = 255,
        channels: int = 128,
        embedding_channels: int = 128,
        temperature: float = 0.07,
        max_pixels: int = 2048,
        loss_weight: float = 1.0,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if max_pixels < 2 * num_classes:
            raise ValueError(
                f'max_pixels={max_pixels} is too small for {num_classes} classes: a '
                f'class needs two pixels to compare, so at least {2 * num_classes}.'
            )
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.temperature = temperature
        self.max_per_class = max_pixels // num_classes
        self.loss_weight = loss_weight
        self.project = nn.Sequential(
            nn.Conv2d(in_channels, channels, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, embedding_channels, kernel_size=1),
        )

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Unit vectors (N, embedding_channels, h, w); float32 even under autocast."""
        return functional.normalize(self.project(inputs[0]).float(), dim=1)

    def loss(
        self, inputs: tuple[Tensor, ...], data_samples: list, train_cfg: Any
    ) -> dict[str, Tensor]:
        """The loss of a batch.

        Args:
            inputs: One feature map (N, C, h, w).
            data_samples: N samples with ``gt_sem_seg`` (1, H, W).
            train_cfg: Unused; part of mmseg's head interface.

        Returns:
            ``loss_seg``.
        """
        embeddings = self(inputs)
        labels = torch.stack([sample.gt_sem_seg.data for sample in data_samples])
        # Class indices are exact in float32; nearest-exact samples patch centres.
        labels = functional.interpolate(
            labels.float(), size=embeddings.shape[-2:], mode='nearest-exact'
        )
        labels = labels.long().flatten()
        labels = labels.masked_fill(labels == self.ignore_index, -1)
        chosen = sample_pixels(labels, self.num_classes, self.max_per_class)
        embeddings = embeddings.permute(0, 2, 3, 1).flatten(0, 2)
        # Autocast would compute the similarities in half precision: 1 / temperature
        # leaves too few digits for their differences.
        with torch.autocast(embeddings.device.type, enabled=False):
            loss = supervised_contrast(
                embeddings[chosen], labels[chosen], self.temperature
            )
        return {'loss_seg': self.loss_weight * loss}

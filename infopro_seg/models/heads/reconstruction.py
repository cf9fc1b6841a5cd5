"""The half of a local head that reconstructs the input image.

It keeps information about the input in the module's output that later modules may
need (the mutual information I(h, x) of Wang et al., ICLR 2021, section 3.2).
"""

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional

from ...scopes import register


def reconstruction_loss(logits: Tensor, image: Tensor, valid: Tensor | None) -> Tensor:
    """Mean binary cross-entropy between a reconstruction and the image.

    Taken from logits, so that it is safe under autocast.

    Args:
        logits: (N, C, H, W), before the sigmoid.
        image: (N, C, H, W) in [0, 1].
        valid: (N, 1, H, W) bool, False on padding; None if there is none.

    Returns:
        A scalar: the mean over valid pixels and channels.
    """
    if valid is None:
        return functional.binary_cross_entropy_with_logits(logits, image)
    per_pixel = functional.binary_cross_entropy_with_logits(
        logits, image, reduction='none'
    )
    num_values = valid.sum().clamp(min=1) * image.shape[1]
    return (per_pixel * valid).sum() / num_values


@register(MODELS)
class InterpolatingReconstructionHead(BaseModule):
    """The decoder of the reference: convolutions between bilinear upsamplings.

    1x1 convolution, then one (upsampling x2, 3x3 convolution) per entry of
    ``channels``. Every convolution but the last has norm and ReLU. The intermediate
    sizes are those of the image, halved and rounded up, so that odd crops such as
    769x769 work; for sizes divisible by the stride every step is exactly x2.

    Args:
        in_channels: Channels of the feature map.
        stride: Image pixels per feature map pixel, in each direction. If it is not
            2 ** len(channels), the first step upsamples by the rest.
        channels: Channels before each upsampling. Default: the reference's, for
            stride 8 (Wang et al., ICLR 2021; released segmentation code).
        out_channels: Channels of the image.
        norm_cfg: Norm layers. Default: BN.
        act_cfg: Activations. Default: ReLU.
        init_cfg: mmengine initialisation.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int,
        channels: Sequence[int] = (128, 32, 12),
        out_channels: int = 3,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {'type': 'BN'}
        act_cfg = act_cfg or {'type': 'ReLU'}
        widths = [in_channels, *channels]
        self.convs = nn.ModuleList(
            ConvModule(
                widths[i],
                widths[i + 1],
                kernel_size=1 if i == 0 else 3,
                padding=0 if i == 0 else 1,
                norm_cfg=norm_cfg,
                act_cfg=act_cfg,
            )
            for i in range(len(channels))
        )
        self.conv_image = nn.Conv2d(widths[-1], out_channels, kernel_size=3, padding=1)

    def forward(self, feature_map: Tensor, size: tuple[int, int]) -> Tensor:
        """Reconstruct an image.

        Args:
            feature_map: (N, C, h, w).
            size: (H, W) of the image.

        Returns:
            Logits (N, out_channels, H, W).
        """
        x = feature_map
        for i, conv in enumerate(self.convs):
            factor = 2 ** (len(self.convs) - 1 - i)
            x = functional.interpolate(
                conv(x),
                size=(-(-size[0] // factor), -(-size[1] // factor)),
                mode='bilinear',
                align_corners=False,
            )
        return self.conv_image(x)


@register(MODELS)
class SubpixelReconstructionHead(BaseModule):
    """A lean decoder: it works at the map's resolution and rearranges into pixels.

    1x1 convolution to ``channels``, norm, ReLU, 3x3 convolution to a patch of stride x
    stride pixels for every map pixel (sub-pixel convolution, Shi et al., CVPR 2016).
    Memory and multiply-adds do not grow with the stride, and no map of more than
    ``out_channels`` channels exists at image resolution.

    Args:
        in_channels: Channels of the feature map.
        stride: Image pixels per feature map pixel, in each direction; any integer.
        channels: Channels in between.
        out_channels: Channels of the image.
        norm_cfg: Norm layer. Default: BN.
        act_cfg: Activation. Default: ReLU.
        init_cfg: mmengine initialisation.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int,
        channels: int = 32,
        out_channels: int = 3,
        norm_cfg: dict | None = None,
        act_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.stride = stride
        self.conv = ConvModule(
            in_channels,
            channels,
            kernel_size=1,
            norm_cfg=norm_cfg or {'type': 'BN'},
            act_cfg=act_cfg or {'type': 'ReLU'},
        )
        self.conv_patch = nn.Conv2d(
            channels, out_channels * stride**2, kernel_size=3, padding=1
        )

    def init_weights(self) -> None:
        """Start from uniform grey: a random start would be a checkerboard."""
        super().init_weights()
        for parameter in self.conv_patch.parameters():
            nn.init.zeros_(parameter)

    def forward(self, feature_map: Tensor, size: tuple[int, int]) -> Tensor:
        """Reconstruct an image.

        Args:
            feature_map: (N, C, h, w). If h * stride < H or w * stride < W, the
                reconstruction is interpolated to the size of the image.
            size: (H, W) of the image.

        Returns:
            Logits (N, out_channels, H, W).
        """
        # Every weight serves one of stride ** 2 pixels, while the loss is a mean over
        # all. The gain makes it learn as fast as a convolution at image resolution:
        # it enters the step once through the gradient and once through the output.
        patches = self.stride * self.conv_patch(self.conv(feature_map))
        image = functional.pixel_shuffle(patches, self.stride)
        if image.shape[-2] >= size[0] and image.shape[-1] >= size[1]:
            return image[..., : size[0], : size[1]]
        return functional.interpolate(
            image, size=size, mode='bilinear', align_corners=False
        )


def valid_mask(
    padding_sizes: Sequence[Sequence[int]], size: tuple[int, int], device: torch.device
) -> Tensor | None:
    """Mark the pixels of a batch of images that are not padding.

    Args:
        padding_sizes: (left, right, top, bottom) of every image, in pixels.
        size: (H, W) of the padded batch.
        device: Device of the mask.

    Returns:
        (N, 1, H, W) bool, or None if nothing is padded.
    """
    if not any(any(padding) for padding in padding_sizes):
        return None
    height, width = size
    valid = torch.zeros(len(padding_sizes), 1, height, width, dtype=torch.bool)
    for i, (left, right, top, bottom) in enumerate(padding_sizes):
        valid[i, :, top : height - bottom, left : width - right] = True
    return valid.to(device)


def valid_pixels(
    data_samples: Sequence, size: tuple[int, int], device: torch.device
) -> Tensor | None:
    """`valid_mask` of the padding that the data preprocessor noted in the samples."""
    paddings = [s.metainfo.get('padding_size', (0,) * 4) for s in data_samples]
    return valid_mask(paddings, size, device)

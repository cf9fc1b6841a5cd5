"""The half of a local head that predicts the labels, in a lean form.

The reference's form is mmseg's own FCNHead; any mmseg decode head can take its place.
"""

from inspect import signature
from typing import Any

import torch
from mmcv.cnn import ConvModule
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from torch import Tensor, nn

from ...scopes import in_mmseg, register

_MAX_CHANNELS = 128
# Channels per pixel of stride. The 3x3 convolution then costs (16 * 3) ** 2 = 2304
# multiply-adds per image pixel on maps of stride 8 or less. With 128 channels on any
# map it would be 9216 at stride 4 (5% of FPN-R101 per head) and 36864 at stride 2
# (tests/models/test_head_cost.py).
_CHANNELS_PER_STRIDE = 16
# How far the dilated convolution of a head with context looks.
_CONTEXT_PIXELS = 48

_LOSS = signature(BaseDecodeHead).parameters['loss_decode'].default


@register(MODELS)
class LocalSegmentationHead(BaseDecodeHead):
    """1x1 convolution to few channels, 3x3 convolution, classifier.

    A 3x3 convolution on the full width of a boundary, as in the reference, costs more
    than a tenth of DeepLabV3-R101. Here the width is reduced first, most on the large
    maps of small strides. The loss is taken on every ``loss_stride``-th label in each
    direction, so that no map with one channel per class exists at image resolution.

    With ``context`` the 3x3 convolution is dilated, and beside it are a 1x1 convolution
    and the mean of the map, which tell what lies farther away.

    Args:
        in_channels: Channels of the feature map.
        channels: Width of the head. Default: that of the map, but at most 128 and at
            most 16 * ``stride``.
        stride: Image pixels per feature map pixel, in each direction. None does not
            limit ``channels``.
        loss_stride: Label pixels per pixel of the loss, in each direction; 1 is the
            full label resolution.
        context: Whether the head reads context.
        kwargs: Arguments of mmseg's BaseDecodeHead (``num_classes``, ``loss_decode``,
            ...).

    Raises:
        ValueError: if ``loss_stride`` is not a positive integer.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int | None = None,
        stride: int | None = None,
        loss_stride: int = 4,
        context: bool = False,
        **kwargs: Any,
    ):
        if loss_stride < 1 or loss_stride != int(loss_stride):
            raise ValueError(
                f'loss_stride={loss_stride} must be a positive integer, 1 for a loss '
                'at full label resolution.'
            )
        widest = min(in_channels, _MAX_CHANNELS)
        if stride is not None:
            widest = min(widest, _CHANNELS_PER_STRIDE * stride)
        # The default of mmseg's heads, under a name that every scope knows.
        kwargs.setdefault('loss_decode', {**_LOSS, 'type': in_mmseg(_LOSS['type'])})
        super().__init__(in_channels, channels or widest, **kwargs)
        self.loss_stride = loss_stride
        conv = {'norm_cfg': self.norm_cfg, 'act_cfg': self.act_cfg}
        last: nn.Module = ConvModule(self.channels, self.channels, 3, padding=1, **conv)
        if context:
            last = _Context(self.channels, _dilation(stride), conv)
        self.convs = nn.Sequential(
            ConvModule(self.in_channels, self.channels, kernel_size=1, **conv), last
        )

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """Logits (N, num_classes, h, w) of the map at ``in_index``."""
        return self.cls_seg(self.convs(self._transform_inputs(inputs)))

    def _stack_batch_gt(self, batch_data_samples: list) -> Tensor:
        """Labels (N, 1, H / loss_stride, W / loss_stride), rounded up."""
        return subsample_labels(
            super()._stack_batch_gt(batch_data_samples), self.loss_stride
        )


class _Context(nn.Module):
    """A map, and what lies farther away, added up (N, C, h, w) -> (N, C, h, w)."""

    def __init__(self, channels: int, dilation: int, conv: dict):
        super().__init__()
        self.near = ConvModule(channels, channels, 1, **conv)
        self.far = ConvModule(
            channels, channels, 3, padding=dilation, dilation=dilation, **conv
        )
        # One value per image and channel: too few for a norm.
        self.everywhere = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        everywhere = self.everywhere(x.mean((-2, -1)))
        return self.near(x) + self.far(x) + everywhere[..., None, None]


def _dilation(stride: int | None) -> int:
    return max(1, _CONTEXT_PIXELS // (stride or 8))


def subsample_labels(labels: Tensor, stride: int) -> Tensor:
    """Every ``stride``-th label, from the middle of each stride x stride patch.

    Args:
        labels: (..., H, W).
        stride: 1 returns the labels themselves.

    Returns:
        (..., ceil(H / stride), ceil(W / stride)).
    """
    if stride == 1:
        return labels
    rows, columns = (
        torch.arange(
            stride // 2, size + stride // 2, stride, device=labels.device
        ).clamp(max=size - 1)
        for size in labels.shape[-2:]
    )
    return labels[..., rows[:, None], columns]

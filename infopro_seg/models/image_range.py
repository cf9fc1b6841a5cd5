"""The values of black and white: from the network's input back to an image in [0, 1].

The reconstruction loss compares with the image, but the model sees it only after the
pipeline and the data preprocessor, in unknown units.
"""

import math
from collections.abc import Sequence
from typing import TypeGuard

import torch
from mmengine.model import ImgDataPreprocessor
from mmseg.models import SegDataPreProcessor
from torch import Tensor, nn

Range = tuple[float, float]

# What interpolation and noise may cause: the share of values outside the assumed range
# by more than the slack, and the slack as a part of the range's width. Ours.
_MAX_OUTSIDE = 0.05
_SLACK = 0.1
# Width of the target range in standard deviations, for images of unknown range. Ours.
_NUM_DEVIATIONS = 6
# Deviations below this part of the mean are float32 rounding, with a margin.
_ROUNDING = 1e-4


def known_range(
    data_preprocessor: nn.Module, given: Sequence[float] | None = None
) -> Range | None:
    """Black and white in the units of the images that the preprocessor is given.

    The rule is ours. For images in 0..255, mean and std lie in 0..255 and at least one
    of the two is above 1; for images in 0..1, both are at most 1. The range is unknown,
    and `to_unit_range` takes it from each image, if the preprocessor has other numbers
    (16 bits, reflectances, bands of different kinds), mean 0 and std 1, or neither.

    Args:
        data_preprocessor: The segmentor's.
        given: (black, white), which overrides the rule.

    Returns:
        (black, white), or None if it is unknown.

    Raises:
        ValueError: if ``given`` is not two finite numbers in increasing order.
    """
    if given is not None:
        return _checked(given)
    if not _normalises(data_preprocessor):
        return None
    mean, std = data_preprocessor.mean.flatten(), data_preprocessor.std.flatten()
    largest = torch.maximum(mean, std)
    if mean.min() < 0 or largest.max() > 255 or (mean == 0).all() and (std == 1).all():
        return None
    if (largest <= 1).all():
        return 0.0, 1.0
    return (0.0, 255.0) if (largest > 1).all() else None


def recovered(data_preprocessor: nn.Module, inputs: Tensor) -> Tensor:
    """The images (N, C, H, W) before the data preprocessor normalised them.

    If its class does not normalise by mmengine's mean and std, the inputs as they are.
    """
    if _normalises(data_preprocessor):
        return inputs * data_preprocessor.std + data_preprocessor.mean
    return inputs


def to_unit_range(images: Tensor, known: Range | None, valid: Tensor | None) -> Tensor:
    """Map images to [0, 1].

    Args:
        images: (N, C, H, W).
        known: (black, white). None: in every channel of every image, [0, 1] spans three
            standard deviations to each side of its own mean.
        valid: (N, 1, H, W) bool, False on padding; None if there is none.

    Returns:
        The same shape; values outside the range are clamped.
    """
    if known is not None:
        low, high = known
        return ((images - low) / (high - low)).clamp(0, 1)
    images = images.float()
    weight = torch.ones_like(images[:, :1]) if valid is None else valid.float()
    num_pixels = weight.sum((2, 3), keepdim=True).clamp(min=1)
    mean = (images * weight).sum((2, 3), keepdim=True) / num_pixels
    variance = ((images - mean).square() * weight).sum((2, 3), keepdim=True)
    std = (variance / num_pixels).sqrt()
    # In a uniform image only the rounding of its mean is left.
    width = (_NUM_DEVIATIONS * std).maximum(_ROUNDING * mean.abs())
    tiny = torch.finfo(images.dtype).tiny
    return ((images - mean) / width.clamp(min=tiny) + 0.5).clamp(0, 1)


def check_range(images: Tensor, known: Range) -> None:
    """Check an assumed range against the images of a batch.

    Args:
        images: (N, C, H, W), see `recovered`.
        known: The assumed (black, white), see `known_range`.

    Raises:
        ValueError: if the range does not fit the images.
    """
    low, high = known
    slack = _SLACK * (high - low)
    outside = (images < low - slack) | (images > high + slack)
    darkest, brightest = images.min().item(), images.max().item()
    if outside.float().mean() <= _MAX_OUTSIDE and not _is_normalised_twice(
        images, darkest, brightest, high
    ):
        return
    raise ValueError(
        'the reconstruction loss compares with the image in [0, 1]. By mean and std of '
        f'the data preprocessor images are in {low:g}..{high:g}, but the values of the '
        f'first batch are in {darkest:.4g}..{brightest:.4g}. Set '
        'local=dict(image_range=(black, white)) to their real range before mean and '
        'std are applied, correct mean and std, or do without the loss by '
        'local=dict(head=dict(reconstruction=None)).'
    )


def _is_normalised_twice(
    images: Tensor, darkest: float, brightest: float, high: float
) -> bool:
    """Whether images assumed in 0..255 are already fractions, or standardised."""
    if high <= 1 or brightest > 10 or darkest < -10:
        return False
    fractions = (images - images.round()).abs() > 0.05
    return bool(fractions.any()) and (brightest <= 1.05 or darkest < -0.5)


def _normalises(data_preprocessor: nn.Module) -> TypeGuard[ImgDataPreprocessor]:
    """Whether mean and std are the hosts'; in other classes they may mean anything."""
    # The second is not derived from the first in mmsegmentation 1.2.2.
    known = (ImgDataPreprocessor, SegDataPreProcessor)
    return isinstance(data_preprocessor, known) and hasattr(data_preprocessor, 'mean')


def _checked(given: Sequence[float]) -> Range:
    is_pair = isinstance(given, Sequence) and not isinstance(given, str)
    if is_pair and len(given) == 2:
        low, high = given
        are_numbers = all(isinstance(end, int | float) for end in given)
        if are_numbers and math.isfinite(high - low) and low < high:
            return float(low), float(high)
    raise ValueError(
        f'image_range={given!r} must be two numbers, the values of black and white in '
        'the images before mean and std are applied, such as (0, 65535).'
    )

"""Where black and white are: from the network's input back to the image in [0, 1].

The reconstruction loss compares with the image. The model sees it only after the
pipeline and the data preprocessor, in any unit.
"""

import math
from collections.abc import Sequence
from typing import TypeGuard

import torch
from mmengine.model import ImgDataPreprocessor
from torch import Tensor, nn

Range = tuple[float, float]

# Share of values outside the assumed range, and how far outside in widths of it, that
# interpolation and noise may cause. Ours.
_MAX_OUTSIDE = 0.05
_SLACK = 0.1
# Width of the target in standard deviations, for images of unknown range. Ours.
_NUM_DEVIATIONS = 6
# Deviations of this share of the mean are rounding of float32, with a margin.
_ROUNDING = 1e-4


def known_range(
    data_preprocessor: nn.Module, given: Sequence[float] | None = None
) -> Range | None:
    """Black and white in the units of the images that the preprocessor is given.

    The rule is ours. Means and deviations of 0..255 images lie in 0..255 and at least
    one of the two is above 1; those of 0..1 images are at most 1. A preprocessor
    with other numbers (16 bits, reflectances, bands of different kinds), with
    mean 0 and deviation 1, or without any says nothing: the range is unknown, and
    `to_unit_range` takes it from each image.

    Args:
        data_preprocessor: Of the segmentor.
        given: (black, white), which goes before the rule.

    Returns:
        (black, white), or None if it is unknown.

    Raises:
        ValueError: if ``given`` is not two finite numbers, the smaller one first.
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
    """The images (N, C, H, W) as the data preprocessor was given them.

    Those of a class without mmengine's mean and std are as it gave them.
    """
    if _normalises(data_preprocessor):
        return inputs * data_preprocessor.std + data_preprocessor.mean
    return inputs


def to_unit_range(images: Tensor, known: Range | None, valid: Tensor | None) -> Tensor:
    """Images in [0, 1].

    Args:
        images: (N, C, H, W).
        known: (black, white). None: every channel of every image is laid out around
            its own mean, three standard deviations to each side.
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
    # Of an even image only the rounding of its mean is left.
    width = (_NUM_DEVIATIONS * std).maximum(_ROUNDING * mean.abs())
    tiny = torch.finfo(images.dtype).tiny
    return ((images - mean) / width.clamp(min=tiny) + 0.5).clamp(0, 1)


def check_range(images: Tensor, known: Range) -> None:
    """Check an assumed range with the images of a batch.

    Args:
        images: (N, C, H, W), see `recovered`.
        known: What was assumed, see `known_range`.

    Raises:
        ValueError: if the target would not show them.
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
    """Whether images of 0..255 are really fractions, or standardised, already."""
    if high <= 1 or brightest > 10 or darkest < -10:
        return False
    fractions = (images - images.round()).abs() > 0.05
    return bool(fractions.any()) and (brightest <= 1.05 or darkest < -0.5)


def _normalises(data_preprocessor: nn.Module) -> TypeGuard[ImgDataPreprocessor]:
    """Other classes may mean something else by mean and std."""
    return isinstance(data_preprocessor, ImgDataPreprocessor) and hasattr(
        data_preprocessor, 'mean'
    )


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

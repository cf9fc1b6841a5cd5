"""What crosses the unit boundaries, found by running a weightless copy."""

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..units import State, Unit

# A multiple of all strides, patch and window sizes in use, and large enough for
# stride 32 to leave a map to look at.
_PROBE_SIZE = (224, 224)
# Backbones with fixed positions (BEiT) run on images of this attribute's size only.
_SIZE_ATTRIBUTE = 'img_size'


@dataclasses.dataclass(frozen=True)
class Boundary:
    """What leaves a unit.

    Args:
        channels: C of the feature map that a local head would see.
        stride: Image pixels a map pixel, rounded to an integer.
        num_outputs: Stage outputs of the backbone that exist from here on.
    """

    channels: int
    stride: int
    num_outputs: int


@dataclasses.dataclass(frozen=True)
class Probe:
    """Shapes of a backbone.

    Args:
        boundaries: One a unit.
        outputs: The backbone's stage outputs, without storage (device meta).
        image_channels: Channels of the image that the backbone takes.
    """

    boundaries: tuple[Boundary, ...]
    outputs: tuple[Tensor, ...]
    image_channels: int = 3


def probe_backbone(
    backbone: nn.Module,
    units: Sequence[Unit],
    in_channels: int | None = None,
    size: tuple[int, int] | None = None,
) -> Probe:
    """Measure what leaves each unit, without data, weights or side effects.

    Args:
        backbone: Any supported backbone, on any device; it is not changed.
        units: Its units.
        in_channels: Channels of the input image.
        size: (height, width) of the probe image. Default: that of the backbone if
            it has a fixed one, else 224x224.
    """
    in_channels = in_channels or input_channels(backbone)
    height, width = size or getattr(backbone, _SIZE_ATTRIBUTE, None) or _PROBE_SIZE
    backbone = meta_copy(backbone)
    backbone.eval()  # mmseg backbones return None here
    state = State(torch.empty(1, in_channels, height, width, device='meta'))
    boundaries = []
    with torch.no_grad():
        for unit in units:
            state = unit(backbone, state)
            feature_map = state.feature_map()
            boundaries.append(
                Boundary(
                    channels=feature_map.shape[1],
                    stride=max(1, round(height / feature_map.shape[2])),
                    num_outputs=len(state.outputs),
                )
            )
    return Probe(tuple(boundaries), state.outputs, in_channels)


def input_channels(backbone: nn.Module) -> int:
    """Channels of the image that a backbone takes."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            return module.in_channels
    return 3


def meta_copy(module: nn.Module) -> nn.Module:
    """A copy of a module whose tensors have shapes but no storage.

    The tensors are replaced while copying, so no weight is ever duplicated.
    """
    memo = {}
    for tensor in (*module.parameters(), *module.buffers()):
        hollow = tensor.detach().to('meta')
        if isinstance(tensor, nn.Parameter):
            hollow = nn.Parameter(hollow, requires_grad=tensor.requires_grad)
        memo[id(tensor)] = hollow
    return copy.deepcopy(module, memo)

"""Models, local heads and losses; importing it registers them in mmseg."""

from ..settings.heads import PRESETS
from .cascade import InfoProCascadeEncoderDecoder
from .local_head import LocalHead
from .local_module import LocalModule
from .losses.contrast import PixelContrastHead
from .reconstruction_head import (
    InterpolatingReconstructionHead,
    SubpixelReconstructionHead,
)
from .segmentation_head import LocalSegmentationHead
from .segmentor import InfoProEncoderDecoder

__all__ = [
    'PRESETS',
    'InfoProCascadeEncoderDecoder',
    'InfoProEncoderDecoder',
    'InterpolatingReconstructionHead',
    'LocalHead',
    'LocalModule',
    'LocalSegmentationHead',
    'PixelContrastHead',
    'SubpixelReconstructionHead',
]

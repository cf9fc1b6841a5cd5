"""Models, local heads and losses; importing this registers them in mmseg."""

from ..settings.heads import PRESETS
from .cascade import InfoProCascadeEncoderDecoder
from .heads.contrast import PixelContrastHead
from .heads.local_head import LocalHead
from .heads.reconstruction import (
    InterpolatingReconstructionHead,
    SubpixelReconstructionHead,
)
from .heads.segmentation import LocalSegmentationHead
from .local_module import LocalModule
from .owners import owners_of, tensors_of
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
    'owners_of',
    'tensors_of',
]

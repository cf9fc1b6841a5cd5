"""The local form of mmseg's cascades: decode heads that refine one another."""

from mmseg.models.segmentors import CascadeEncoderDecoder
from mmseg.registry import MODELS

from ..scopes import register
from .segmentor import InfoProEncoderDecoder


@register(MODELS)
class InfoProCascadeEncoderDecoder(InfoProEncoderDecoder, CascadeEncoderDecoder):
    """A CascadeEncoderDecoder (OCRNet, PointRend) cut into local modules by walls.

    All stages of the decode head belong to the last module. What is looked up in the
    decode head (number of classes, norm layers) is taken from its last stage.

    Args:
        args: Positional arguments of CascadeEncoderDecoder.
        kwargs: Keyword arguments of CascadeEncoderDecoder, and ``local`` as in
            `InfoProEncoderDecoder`.

    Raises:
        TypeError: see `InfoProEncoderDecoder`.
        ValueError: see `InfoProEncoderDecoder`.
    """

    # In the method resolution order the stock cascade stands between
    # InfoProEncoderDecoder and EncoderDecoder: super() calls of the former reach it.

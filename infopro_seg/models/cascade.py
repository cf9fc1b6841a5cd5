"""The local form of mmseg's cascades: decode heads that refine one another."""

from mmseg.models.segmentors import CascadeEncoderDecoder
from mmseg.registry import MODELS

from .segmentor import InfoProEncoderDecoder


@MODELS.register_module()
class InfoProCascadeEncoderDecoder(InfoProEncoderDecoder, CascadeEncoderDecoder):
    """A CascadeEncoderDecoder (OCRNet, PointRend) cut into local modules by walls.

    All stages of the decode head belong to the last module. Whatever is looked up in
    the decode head (number of classes, norm layers) is that of its last stage.

    Args:
        args: Of CascadeEncoderDecoder.
        kwargs: Of CascadeEncoderDecoder, and ``local`` of `InfoProEncoderDecoder`.

    Raises:
        TypeError: see `InfoProEncoderDecoder`.
        ValueError: see `InfoProEncoderDecoder`.
    """

    # In the order of resolution the stock cascade stands between InfoProEncoderDecoder
    # and EncoderDecoder: whatever the former passes on with super() reaches it.

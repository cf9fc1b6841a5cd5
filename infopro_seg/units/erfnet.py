"""Units of ERFNet: one per block of the encoder and the decoder."""

from mmseg.models.backbones.erfnet import ERFNet

from .base import Unit, describes, submodule_unit


@describes(ERFNet)
def erfnet_units(backbone: ERFNet) -> tuple[Unit, ...]:
    """ERFNet; its only output is that of the last block."""
    paths = [f'encoder.{i}' for i in range(len(backbone.encoder))]
    paths += [f'decoder.{i}' for i in range(len(backbone.decoder))]
    return tuple(submodule_unit(path, emits=path == paths[-1]) for path in paths)

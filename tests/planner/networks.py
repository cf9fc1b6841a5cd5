"""Networks that are measured in about a second."""

from tests.backbones import BACKBONES
from tests.helpers import deeplabv3, localized

CROP = (256, 384)
BATCH = 4


def tiny(auxiliary=0, **local):
    """DeepLabV3 on a ResNet-18 of three narrow stages: seven units."""
    backbone = {**BACKBONES['resnet18-v1c-3-stages'], 'out_indices': (1, 2)}
    model = deeplabv3(backbone, widths=(16, 32), auxiliary=auxiliary)
    return localized(model, **{'splits': [], **local})

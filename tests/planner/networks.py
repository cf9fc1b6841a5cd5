"""Networks that are measured in about a second."""

from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from torch import nn

from tests.backbones import BACKBONES
from tests.helpers import deeplabv3, localized

CROP = (256, 384)
BATCH = 4


@MODELS.register_module()
class WindowHead(FCNHead):
    """Pools over a window, so that a map must not be smaller, as in LRASPP."""

    def __init__(self, window=6, **settings):
        super().__init__(**settings)
        self.pool = nn.AvgPool2d(window, stride=1)

    def forward(self, inputs):
        pooled = self.pool(self._transform_inputs(inputs)).mean((2, 3), keepdim=True)
        return super().forward(inputs) + self.cls_seg(self.convs(pooled))


def windowed():
    """The tiny network under a head that takes no crop of 32 rows."""
    model = tiny()
    model['decode_head'] = {**model['decode_head'], 'type': 'WindowHead'}
    del model['decode_head']['dilations']
    model['decode_head'].update(num_convs=1, kernel_size=1, concat_input=False)
    return model


def tiny(auxiliary=0, **local):
    """DeepLabV3 on a ResNet-18 of three narrow stages: seven units."""
    backbone = {**BACKBONES['resnet18-v1c-3-stages'], 'out_indices': (1, 2)}
    model = deeplabv3(backbone, widths=(16, 32), auxiliary=auxiliary)
    return localized(model, **{'splits': [], **local})

"""Networks whose mutual information is known, and images whose labels are known."""

import torch
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from infopro_seg.units import describes, submodule_unit
from tests.helpers import build, deeplabv3, localized

# Far from black and white, which no sigmoid reaches.
COLOURS = torch.tensor(
    [[200, 60, 60], [60, 200, 60], [60, 60, 200], [60, 60, 60]], dtype=torch.uint8
)
SIZE, BLOCK = 32, 16


class Constant(nn.Module):
    def forward(self, x):
        return torch.ones_like(x)


class Noise(nn.Module):
    def forward(self, x):
        return torch.randn_like(x)


@MODELS.register_module()
class ToyBackbone(BaseModule):
    """Two units that change nothing, then one of a kind."""

    def __init__(self, kind):
        super().__init__()
        last = {'identity': nn.Identity, 'constant': Constant, 'noise': Noise}[kind]
        self.unit = nn.ModuleList([nn.Identity(), nn.Identity(), last()])

    def forward(self, x):
        for unit in self.unit:
            x = unit(x)
        return (x,)


@describes(ToyBackbone)
def toy_units(backbone):
    return tuple(submodule_unit(f'unit.{i}', emits=i == 2) for i in range(3))


def toy_network(kind):
    """A segmentor on a toy backbone, in evaluation mode."""
    config = deeplabv3({'type': 'ToyBackbone', 'kind': kind}, (3,), auxiliary=None)
    config['data_preprocessor']['size'] = (SIZE, SIZE)
    config['decode_head']['num_classes'] = len(COLOURS)
    network = build(localized(config, splits=[]))
    network.eval()
    return network


def blocks(seed, num=4):
    """Images of blocks of four colours; the label of a pixel is its colour."""
    generator = torch.Generator().manual_seed(seed)
    side = SIZE // BLOCK
    inputs, samples = [], []
    for _ in range(num):
        label = torch.randint(0, 4, (side, side), generator=generator)
        label = label.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
        inputs.append(COLOURS[label].permute(2, 0, 1))
        shape = (SIZE, SIZE)
        sample = SegDataSample(metainfo={'ori_shape': shape, 'img_shape': shape})
        sample.gt_sem_seg = PixelData(data=label[None])
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


def batches(network, num, *, training, first=0):
    for i in range(num):
        yield network.data_preprocessor(blocks(first + i), training=training)

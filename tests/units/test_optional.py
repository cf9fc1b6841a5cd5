"""Backbones of packages that may be absent, tried on stand-ins of the same structure.

With the packages installed, tests/backbones.py adds the real ones to every test.
"""

import pytest
import torch
from mmseg.models.backbones.timm_backbone import TIMMBackbone
from torch import nn

from infopro_seg.units import fold, supported_backbones, units_of
from infopro_seg.units.base import describes_optional, submodule_unit


class ConvNeXt(nn.Module):
    """Runs like mmpretrain's."""

    def __init__(self, gap_before_final_norm=False):
        super().__init__()
        self.gap_before_final_norm = gap_before_final_norm
        self.out_indices = (0, 1)
        widths = (3, 4, 6)
        self.downsample_layers = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 2, stride=2) for i in range(2)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*[nn.Conv2d(w, w, 3, padding=1) for _ in range(2)])
            for w in widths[1:]
        )
        self.norm0, self.norm1 = nn.BatchNorm2d(4), nn.BatchNorm2d(6)

    def forward(self, x):
        outputs = []
        for i, stage in enumerate(self.stages):
            x = stage(self.downsample_layers[i](x))
            outputs.append(getattr(self, f'norm{i}')(x))
        return tuple(outputs)


ConvNeXt.__module__ = 'mmpretrain.models.backbones.convnext'


class FeatureListNet(nn.ModuleDict):
    """Runs like timm's."""

    output_fmt, concat = 'NCHW', False

    def __init__(self):
        super().__init__(
            {
                'conv1': nn.Conv2d(3, 4, 3, stride=2),
                'bn1': nn.BatchNorm2d(4),
                'act1': nn.ReLU(inplace=True),
                'layer1': nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 6, 1)),
                'layer2': nn.Conv2d(6, 8, 1),
            }
        )
        self.return_layers = {'act1': '0', 'layer1': '1', 'layer2': '2'}

    def forward(self, x):
        outputs = []
        for name, layer in self.items():
            x = layer(x)
            if name in self.return_layers:
                outputs.append(x)
        return outputs


def timm_backbone(net):
    backbone = TIMMBackbone.__new__(TIMMBackbone)
    nn.Module.__init__(backbone)
    backbone.timm_model = net
    return backbone


@pytest.mark.parametrize('make', [ConvNeXt, lambda: timm_backbone(FeatureListNet())])
def test_fold_is_the_forward_of_the_stand_in(make):
    backbone, image = make(), torch.randn(2, 3, 16, 16)
    backbone.eval()
    for left, right in zip(backbone(image), fold(backbone, image), strict=True):
        assert torch.equal(left, right)


def test_packages_that_are_absent_are_listed_too():
    assert 'ConvNeXt (package mmpretrain)' in supported_backbones()


def test_convnext_units_are_its_blocks_and_own_the_output_norms():
    units = units_of(ConvNeXt())
    assert [unit.name for unit in units] == [
        'downsample_layers.0',
        'stages.0.0',
        'stages.0.1',
        'downsample_layers.1',
        'stages.1.0',
        'stages.1.1',
    ]
    assert units[2].owns == ('stages.0.1', 'norm0')


def test_convnext_that_gives_vectors_is_refused():
    with pytest.raises(ValueError, match='gap_before_final_norm=False'):
        units_of(ConvNeXt(gap_before_final_norm=True))


def test_timm_layers_without_weights_join_the_unit_before():
    # An in-place activation behind a wall would change the map that the local head
    # in front of it reads.
    units = units_of(timm_backbone(FeatureListNet()))
    assert [unit.name for unit in units] == [
        'timm_model.conv1',
        'timm_model.bn1',
        'timm_model.layer1.0',
        'timm_model.layer1.1',
        'timm_model.layer2',
    ]


@pytest.mark.parametrize('change', [{'output_fmt': 'NHWC'}, {'concat': True}, None])
def test_timm_models_that_are_not_lists_of_maps_are_refused(change):
    net = FeatureListNet() if change else nn.Sequential(nn.Conv2d(3, 4, 1))
    for name, value in (change or {}).items():
        setattr(net, name, value)
    with pytest.raises(TypeError, match='Supported: .*To register your own'):
        units_of(timm_backbone(net))
    with pytest.raises(TypeError, match=type(net).__name__):
        units_of(timm_backbone(net))


def test_a_subclass_with_its_own_forward_is_refused():
    class Pooled(ConvNeXt):
        def forward(self, x):
            return super().forward(x)[-1].mean((2, 3))

    with pytest.raises(TypeError, match='Pooled inherits from ConvNeXt'):
        units_of(Pooled())


def test_one_can_describe_ones_own_optional_class():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return (self.conv(x),)

    Net.__module__, Net.__qualname__ = 'somewhere.nets', 'Net'
    with pytest.raises(TypeError, match='no units are known for backbone Net'):
        units_of(Net())
    describes_optional('somewhere.nets.Net')(
        lambda backbone: (submodule_unit('conv', emits=True),)
    )
    assert [unit.name for unit in units_of(Net())] == ['conv']

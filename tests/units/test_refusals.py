"""What has no units is refused with a message that says what to do."""

import pytest
from mmseg.registry import MODELS

from infopro_seg.units import describes, supported_backbones, units_of
from tests.backbones import BACKBONES
from tests.helpers import BN, resnet

RESNET = resnet(18)
NOT_CHAINS = {
    'BiSeNetV1': {
        'type': 'BiSeNetV1',
        'backbone_cfg': {**RESNET, 'type': 'ResNet'},
        'norm_cfg': BN,
    },
    'BiSeNetV2': {'type': 'BiSeNetV2', 'norm_cfg': BN},
    'DDRNet': {'type': 'DDRNet', 'channels': 8, 'ppm_channels': 8, 'norm_cfg': BN},
    'PIDNet': {'type': 'PIDNet', 'channels': 8, 'ppm_channels': 8, 'norm_cfg': BN},
    'ICNet': {
        'type': 'ICNet',
        'backbone_cfg': {**RESNET, 'out_indices': (0, 1, 2, 3)},
        'layer_channels': (128, 512),
        'norm_cfg': BN,
    },
    'CGNet': {'type': 'CGNet', 'norm_cfg': BN},
    'FastSCNN': {'type': 'FastSCNN', 'norm_cfg': BN},
}


@pytest.mark.parametrize('name', NOT_CHAINS)
def test_what_is_not_a_chain_is_refused_with_the_supported_ones(name):
    with pytest.raises(TypeError) as error:
        units_of(MODELS.build(NOT_CHAINS[name]))
    message = str(error.value)
    assert f'no units are known for backbone {name}' in message
    assert ', '.join(supported_backbones()) in message
    assert f'@describes({name})' in message


def test_a_subclass_with_another_forward_is_refused():
    # MAE adds absolute positions; the units of BEiT would leave them out.
    mae = MODELS.build({**BACKBONES['beit'], 'type': 'MAE'})
    with pytest.raises(TypeError, match='MAE inherits from BEiT but'):
        units_of(mae)


def test_a_subclass_with_the_same_forward_is_served():
    parent = MODELS.build(BACKBONES['hrnet'])
    names = [unit.name for unit in units_of(parent)]
    parent.__class__ = type('Mine', (type(parent),), {})
    assert [unit.name for unit in units_of(parent)] == names


def test_a_later_description_of_a_subclass_wins():
    backbone = MODELS.build(BACKBONES['resnet18'])
    mine = type('Mine', (type(backbone),), {'forward': lambda self, x: x})
    backbone.__class__ = mine
    with pytest.raises(TypeError, match='Mine'):
        units_of(backbone)
    describes(mine)(lambda net: ())
    assert units_of(backbone) == ()


def test_a_context_path_on_another_backbone_is_refused():
    config = {**BACKBONES['stdc-context']}
    net = MODELS.build(config)
    net.backbone = MODELS.build(BACKBONES['resnet18'])
    with pytest.raises(TypeError, match='no units are known for .*ResNet'):
        units_of(net)

"""Copies with other tensors, of modules that deepcopy refuses too."""

import threading

import pytest
import torch
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from torch import nn
from torch.nn.utils import parametrizations

from infopro_seg.models.hollow import hollow_copy, meta_copy
from tests.helpers import (
    WIDTHS,
    build,
    deeplabv3,
    gradients,
    localized,
    losses_of,
    resnet,
)

NORMS = {
    'weight_norm': nn.utils.weight_norm,
    'spectral_norm': nn.utils.spectral_norm,
    'parametrized weight norm': parametrizations.weight_norm,
    'parametrized spectral norm': parametrizations.spectral_norm,
}


class Odd(nn.Module):
    """Computed tensors in all corners, and what nobody can copy."""

    def __init__(self):
        super().__init__()
        self.conv = nn.utils.weight_norm(nn.Conv2d(3, 4, 3))
        self.register_buffer('scale', torch.ones(1))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.tied = self.frozen
        computed = self.conv.weight_g * 2
        self.table = {'anchors': [computed, (computed,)]}
        self.act = lambda x: x.relu()

    def forward(self, x):
        return self.act(self.conv(x)) * self.scale


def tensors_of(module):
    return [*module.parameters(), *module.buffers(), module.table['anchors'][0]]


@pytest.mark.parametrize('uncopyable', [None, threading.Lock(), torch.Generator()])
def test_every_tensor_is_replaced_once_and_nothing_is_shared(uncopyable):
    module = Odd()
    module.thing = uncopyable
    copied = meta_copy(module)
    assert {tensor.device.type for tensor in tensors_of(copied)} == {'meta'}
    assert {tensor.device.type for tensor in tensors_of(module)} == {'cpu'}
    assert copied.table['anchors'][0] is copied.table['anchors'][1][0]
    assert copied.tied is copied.frozen
    assert not copied.frozen.requires_grad
    assert copied.conv is not module.conv
    assert copied.thing is uncopyable
    assert list(copied.state_dict()) == list(module.state_dict())
    assert copied(torch.empty(1, 3, 8, 8, device='meta')).shape == (1, 4, 6, 6)


@pytest.mark.parametrize('kind', NORMS)
def test_a_full_copy_computes_the_same(kind):
    conv = NORMS[kind](nn.Conv2d(3, 4, 3))
    image = torch.randn(1, 3, 8, 8)
    conv(image)
    copied = hollow_copy(conv, lambda tensor: tensor.clone())
    assert torch.equal(copied.eval()(image), conv.eval()(image))


def test_lazy_modules_stay_lazy():
    copied = meta_copy(nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d()))
    assert copied(torch.empty(1, 3, 8, 8, device='meta')).shape == (1, 4, 6, 6)
    assert copied[0].weight.is_meta


@MODELS.register_module()
class NormedHead(FCNHead):
    """Its classifier has a computed weight."""

    def __init__(self, kind, **kwargs):
        super().__init__(**kwargs, init_cfg=None)
        self.conv_seg = NORMS[kind](self.conv_seg)


@pytest.mark.parametrize('kind', NORMS)
def test_a_network_with_computed_weights_is_cut_as_any_other(kind):
    config = deeplabv3(resnet(base_channels=8), WIDTHS, auxiliary=None)
    head = {**config['decode_head'], 'type': 'NormedHead', 'kind': kind}
    head.pop('dilations')
    config['decode_head'] = {**head, 'num_convs': 1, 'concat_input': False}
    config['decode_head']['dropout_ratio'] = 0.0
    model = build(localized(config, splits=['layer2.1'], lean_loss=False))
    assert model._read_later == (frozenset({3}),)
    stock = build(config)
    model.load_state_dict(stock.state_dict(), strict=False)
    model.parse_losses(losses_of(model))[0].backward()
    stock.parse_losses(losses_of(stock))[0].backward()
    theirs = gradients(stock)
    for name, gradient in gradients(model).items():
        if name.startswith(('decode_head', 'backbone.layer3', 'backbone.layer4')):
            assert torch.equal(gradient, theirs[name]), name


@pytest.mark.parametrize('kind', NORMS)
def test_a_backbone_with_computed_weights_is_probed(kind):
    @MODELS.register_module(name='NormedResNet', force=True)
    def make(**settings):
        backbone = MODELS.build({'type': 'ResNetV1c', **settings})
        for block in (backbone.layer1[0], backbone.layer3[0]):
            block.conv1 = NORMS[kind](block.conv1)
        return backbone

    settings = resnet(base_channels=8) | {'type': 'NormedResNet'}
    config = deeplabv3(settings, WIDTHS, auxiliary=None)
    model = build(
        localized(config, splits=['layer1.1', 'layer3.0'], recompute=['layer3.0'])
    )
    model.parse_losses(losses_of(model))[0].backward()
    assert all(
        p.grad is not None
        for module in model.local_modules
        for p in module.parameters(model.backbone)
    )

"""Images of any number of channels: the backbone tells how many."""

import copy

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

from infopro_seg.models.probe import input_channels, probe_backbone
from infopro_seg.units import units_of
from tests.backbones import BACKBONES
from tests.helpers import WIDTHS, assert_equal, build, deeplabv3, localized, resnet
from tests.samples import some_of

# Families whose constructor takes the number of channels.
WITH_CHANNELS = [
    'resnet18',
    'resnet18-v1c-3-stages',
    'swin',
    'swin-frozen',
    'mit',
    'mscan',
    'pcpvt',
    'vit',
    'beit',
    'hrnet',
    'unet',
    'stdc',
]


@pytest.mark.parametrize('name', some_of(BACKBONES, 'resnet50', 'mit', 'swin', 'unet'))
def test_every_backbone_tells_how_many_channels_it_takes(name):
    # MobileNetV2's own in_channels is 320; swin-frozen does not take 224x224.
    assert input_channels(MODELS.build(BACKBONES[name])) == 3


@pytest.mark.parametrize('channels', some_of([1, 4, 13], 4))
@pytest.mark.parametrize('name', WITH_CHANNELS)
def test_other_numbers_than_three_are_found(name, channels):
    backbone = MODELS.build({**BACKBONES[name], 'in_channels': channels})
    before = copy.deepcopy(backbone.state_dict())
    state = torch.get_rng_state()
    assert input_channels(backbone) == channels
    assert_equal(dict(backbone.state_dict()), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert backbone.training


class TwoBranches(nn.Module):
    """Colour and two more bands, each with a stem of its own."""

    def __init__(self):
        super().__init__()
        self.bands, self.colour = nn.Conv2d(2, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.colour(x[:, :3]) + self.bands(x[:, 3:])


class AnyChannels(nn.Module):
    """Takes images of any number of channels."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        return self.conv(x.mean(1, keepdim=True))


class ByValue(nn.Module):
    """Cannot run without values."""

    def __init__(self):
        super().__init__()
        self.decoder, self.stem = nn.Conv2d(9, 4, 3), nn.Conv2d(7, 9, 3)

    def forward(self, x):
        x = self.stem(x)
        return self.decoder(x if x.mean().item() > 0 else -x)


class Unshuffled(nn.Module):
    """Its first convolution sees four times as many channels as the image has."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(20, 4, 3)

    def forward(self, x):
        return self.conv(nn.functional.pixel_unshuffle(x, 2))


def test_backbones_that_begin_in_another_way():
    assert input_channels(TwoBranches()) == 5
    assert input_channels(ByValue()) == 7
    assert input_channels(Unshuffled()) == 5
    assert input_channels(AnyChannels(), expected=6) == 6
    assert input_channels(nn.Sequential(nn.LazyConv2d(4, 3)), expected=6) == 6


def test_a_backbone_that_takes_no_image_says_why():
    with pytest.raises(RuntimeError, match='mat1 and mat2|same reduction dim'):
        input_channels(nn.Sequential(nn.Linear(5, 5)))


def test_a_fixed_size_of_another_name_is_found_in_the_preprocessor():
    # Swin with absolute positions takes images of its pretraining only.
    backbone = MODELS.build(BACKBONES['swin-frozen'])
    with pytest.raises(RuntimeError, match='broadcast'):
        probe_backbone(backbone, units_of(backbone))
    probe = probe_backbone(backbone, units_of(backbone), sizes=[(64, 96)])
    assert [out.shape for out in probe.outputs] == [(1, 8, 16, 24), (1, 32, 4, 6)]


def any_batch(channels, dtype=torch.uint8, high=256):
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for _ in range(2):
        image = torch.randint(0, high, (channels, 64, 64), generator=generator)
        sample = SegDataSample()
        label = torch.randint(0, 5, (1, 64, 64), generator=generator)
        sample.gt_sem_seg = PixelData(data=label)
        inputs.append(image.to(dtype))
        samples.append(sample)
    return {'inputs': inputs, 'data_samples': samples}


@pytest.mark.parametrize('preset', ['lean', 'paper'])
@pytest.mark.parametrize('channels', some_of([1, 4, 6, 13], 1, 4))
@pytest.mark.parametrize('mean', [[127.5], None])
def test_images_of_any_number_of_channels_train_as_in_stock(channels, preset, mean):
    config = deeplabv3(resnet(base_channels=8, in_channels=channels), WIDTHS)
    std = None if mean is None else [60.0]
    config['data_preprocessor'].update(mean=mean, std=std, bgr_to_rgb=False)
    model = build(localized(config, splits=['layer2.1'], head={'preset': preset}))
    data = model.data_preprocessor(any_batch(channels), training=True)
    losses = model.loss(**data)
    assert losses['local_0.loss_recon'].isfinite()
    model.parse_losses(losses)[0].backward()
    images = model.reconstruct(data['inputs'])['local_0']
    assert images.shape == data['inputs'].shape
    # Without a wall the network is the stock one.
    ours, stock = build(localized(config, splits=[])), build(config)
    for network in (ours, stock):
        torch.manual_seed(1)
        data = network.data_preprocessor(any_batch(channels), training=True)
        network.parse_losses(network.loss(**data))[0].backward()
    for (name, parameter), other in zip(
        ours.named_parameters(), stock.parameters(), strict=True
    ):
        assert torch.equal(parameter.grad, other.grad), name


def test_a_grey_image_with_a_mean_for_each_of_three_channels():
    # The preprocessor makes three channels of it, as mean and std have three values.
    config = deeplabv3(resnet(base_channels=8), WIDTHS, auxiliary=None)
    config['data_preprocessor']['bgr_to_rgb'] = False
    model = build(localized(config))
    data = model.data_preprocessor(any_batch(1), training=True)
    target = model.reconstruction_target(data['inputs'])
    assert target.shape == (2, 3, 64, 64)
    raw = torch.stack(any_batch(1)['inputs']) / 255
    torch.testing.assert_close(target, raw.expand_as(target), atol=1e-6, rtol=0)
    assert model.loss(**data)['local_0.loss_recon'].isfinite()


def test_a_depthwise_stem_counts_all_its_groups():
    stem = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6))
    assert input_channels(stem) == 6

"""The reconstruction target shows the image, whatever unit it comes in."""

import logging

import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from mmseg.models import SegDataPreProcessor
from mmseg.registry import MODELS

from infopro_seg.models import image_range
from infopro_seg.models.image_range import known_range, to_unit_range
from tests.helpers import MEAN, STD, WIDTHS, batch, build, deeplabv3, localized, resnet


def preprocessor(mean=None, std=None):
    return SegDataPreProcessor(mean=mean, std=std)


@pytest.mark.parametrize(
    ('mean', 'std', 'expected'),
    [
        (MEAN, STD, (0, 255)),
        ([0.0] * 3, [255.0] * 3, (0, 255)),
        ([127.5], [127.5], (0, 255)),
        ([103.5, 116.3, 123.7], [1.0] * 3, (0, 255)),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], (0, 1)),
        ([0.5], [0.5], (0, 1)),
        ([6000.0] * 3, [3400.0] * 3, None),
        ([0.0] * 3, [10000.0] * 3, None),
        ([0.0] * 3, [1.0] * 3, None),
        ([-20.0] * 3, [50.0] * 3, None),
        # A height map in metres beside two bands of 0..255.
        ([120.0, 110.0, 0.4], [60.0, 55.0, 0.2], None),
        (None, None, None),
    ],
)
def test_mean_and_std_tell_the_range_or_nothing_does(mean, std, expected):
    assert known_range(preprocessor(mean, std)) == expected
    assert known_range(preprocessor(mean, std), (0, 65535)) == (0, 65535)


@pytest.mark.parametrize(
    'given', [(1, 0), (0, 0), 5, '01', (0, 1, 2), (0, float('inf')), ('0', '1')]
)
def test_a_wrong_range_is_refused(given):
    with pytest.raises(ValueError, match=r'image_range=.* must be two numbers'):
        known_range(preprocessor(), given)


def model_of(mean, std, **local):
    config = deeplabv3(resnet(base_channels=8), WIDTHS, auxiliary=None)
    config['data_preprocessor'].update(mean=mean, std=std, size=(64, 64))
    return build(localized(config, splits=['layer2.1'], **local))


def images_of(convert=lambda image: image, size=(64, 64)):
    data = batch(size=size)
    data['inputs'] = [convert(image.float()) for image in data['inputs']]
    return data


def raw_of(data):
    return torch.stack(data['inputs'])[:, [2, 1, 0]]


def target_of(model, data):
    inputs = model.data_preprocessor(data, training=True)
    return model.reconstruction_target(**inputs)


def test_the_target_of_usual_images_keeps_every_bit():
    model = model_of(MEAN, STD)
    inputs = torch.randn(2, 3, 64, 64)
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (MEAN, STD))
    expected = ((inputs * std + mean) / 255).clamp(0, 1)
    assert torch.equal(model.reconstruction_target(inputs), expected)


@pytest.mark.parametrize(
    ('mean', 'std', 'convert'),
    [
        pytest.param(
            None, None, lambda x: (x - 120) / 58, id='normalised in the pipeline'
        ),
        pytest.param(None, None, lambda x: x, id='raw'),
        pytest.param(None, None, lambda x: x / 255, id='fractions'),
        pytest.param([0.0], [1.0], lambda x: x, id='mean 0 and std 1'),
        pytest.param([0.5], [0.25], lambda x: x / 255, id='fractions with mean'),
        pytest.param([6000.0], [3400.0], lambda x: x * 47, id='16 bits'),
        pytest.param([0.0], [10000.0], lambda x: x * 47, id='scaled 16 bits'),
        pytest.param([-20.0], [9.0], lambda x: x / 8 - 40, id='decibel'),
    ],
)
def test_the_target_follows_images_of_any_range(mean, std, convert):
    data = images_of(convert)
    target = target_of(model_of(mean, std), data)
    pairs = zip(raw_of(data).flatten(0, 1), target.flatten(0, 1), strict=True)
    for image, shown in pairs:
        both = torch.stack([image.flatten(), shown.flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.99
    assert ((target == 0) | (target == 1)).float().mean() < 0.05
    assert 0.1 < target.std() < 0.4
    assert 0.4 < target.mean() < 0.6


def test_mean_and_std_of_mmseg_count_whatever_its_class_is_derived_from(monkeypatch):
    # In mmsegmentation 1.2.2 it is not derived from mmengine's ImgDataPreprocessor.
    monkeypatch.setattr(image_range, 'ImgDataPreprocessor', torch.nn.Identity)
    assert known_range(preprocessor(MEAN, STD)) == (0, 255)


def test_a_given_range_goes_before_the_rule():
    data = images_of(lambda x: x * 257)
    model = model_of([30000.0], [20000.0], image_range=(0, 65535))
    expected = raw_of(data) / 65535
    torch.testing.assert_close(target_of(model, data), expected, atol=1e-5, rtol=0)


def test_padding_and_outliers_do_not_dim_an_image_of_unknown_range():
    data = images_of(lambda x: x * 10 + 5000, size=(48, 40))
    model = model_of(None, None)
    padded = target_of(model, data)[..., :48, :40]
    alone = to_unit_range(raw_of(data), None, None)
    torch.testing.assert_close(padded, alone, atol=1e-5, rtol=0)
    data['inputs'][0][:, 0, 0] = 1e5
    assert target_of(model, data)[..., :48, :40].std() > 0.05


def test_an_even_image_of_unknown_range_is_grey():
    for value in (0.0, 7.0, -3.5, 60000.0):
        image = torch.full((1, 3, 8, 8), value)
        assert torch.equal(
            to_unit_range(image, None, None), torch.full_like(image, 0.5)
        )


WRONG = {
    '16 bits': lambda x: x * 47,
    '10 bits': lambda x: x * 4,
    'fractions': lambda x: x / 255,
    'normalised twice': lambda x: (x - 120) / 58,
}


@pytest.mark.parametrize('name', WRONG)
def test_images_of_another_range_than_mean_says_are_refused_before_a_step(name):
    model = model_of(MEAN, STD)
    data = images_of(WRONG[name])
    inputs = model.data_preprocessor(data, training=True)
    with pytest.raises(ValueError, match=r'in 0..255, but .*image_range=\(black, wh'):
        model.loss(**inputs)
    assert all(p.grad is None for p in model.parameters())
    # What the message says.
    for local in (
        {'image_range': (0, 47 * 255)},
        {'head': {'reconstruction': None}},
    ):
        model = model_of(MEAN, STD, **local)
        assert model.loss(**model.data_preprocessor(data, training=True))


RIGHT = {
    'dark': lambda x: x // 250,
    'black': lambda x: x * 0,
    'bright': lambda x: x * 0 + 255,
    'sharpened': lambda x: x * 1.1 - 12,
    'with an outlier': lambda x: x.index_fill(1, torch.tensor([0]), 1e4),
    'blurred and dark': lambda x: x / 64,
}


@pytest.mark.parametrize('name', RIGHT)
def test_unusual_images_of_the_usual_range_train(name):
    model = model_of(MEAN, STD)
    inputs = model.data_preprocessor(images_of(RIGHT[name]), training=True)
    assert model.loss(**inputs)['local_0.loss_recon'].isfinite()


def test_only_the_first_batch_is_looked_at_and_never_in_evaluation():
    model = model_of(MEAN, STD)
    bad = images_of(WRONG['16 bits'])
    with torch.no_grad():
        model.loss(**model.data_preprocessor(bad, training=True))
    model.loss(**model.data_preprocessor(images_of(), training=True))
    model.loss(**model.data_preprocessor(bad, training=True))


@MODELS.register_module()
class PlainStack(BaseDataPreprocessor):
    """A preprocessor of the user's own, which says nothing of mean and std."""

    def forward(self, data, training=False):
        data = self.cast_data(data)
        return {**data, 'inputs': torch.stack(data['inputs']).float()}


def test_a_preprocessor_of_another_class_trains():
    config = deeplabv3(resnet(base_channels=8), WIDTHS, auxiliary=None)
    config['data_preprocessor'] = {'type': 'PlainStack'}
    model = build(localized(config, splits=['layer2.1']))
    data = images_of(lambda x: x * 47)
    target = target_of(model, data)
    assert torch.equal(target, to_unit_range(torch.stack(data['inputs']), None, None))


def test_a_wall_without_the_hook_is_said_once_and_loudly(monkeypatch):
    warnings = []
    logger = logging.getLogger('fake')
    monkeypatch.setattr(logger, 'warning', warnings.append)
    monkeypatch.setattr(
        'infopro_seg.models.segmentor.MMLogger.get_current_instance', lambda: logger
    )

    def train(model):
        model.loss(**model.data_preprocessor(images_of(), training=True))

    model = model_of(MEAN, STD)
    model.local_backward = lambda module, losses: losses
    train(model)
    assert not warnings
    model = model_of(MEAN, STD)
    train(model)
    train(model)
    assert len(warnings) == 1
    assert 'LocalBackwardHook' in warnings[0]

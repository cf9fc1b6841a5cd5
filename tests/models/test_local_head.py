"""Local heads: any map, any crop, any data set."""

import math

import pytest
import torch
from mmengine.config import ConfigDict
from mmseg.registry import MODELS
from torch.nn import functional

from infopro_seg.models.heads.reconstruction import reconstruction_loss, valid_mask
from infopro_seg.models.heads.segmentation import subsample_labels
from infopro_seg.settings.heads import complete_head
from tests.helpers import batch, build, deeplabv3, localized, losses_of

RECONSTRUCTION = ['InterpolatingReconstructionHead', 'SubpixelReconstructionHead']


@pytest.mark.parametrize('kind', RECONSTRUCTION)
@pytest.mark.parametrize('stride', [1, 2, 4, 8, 12, 16, 32])
@pytest.mark.parametrize('size', [(64, 128), (97, 65), (33, 70)])
def test_reconstruction_has_the_size_of_the_image_at_any_stride(kind, stride, size):
    head = MODELS.build({'type': kind, 'in_channels': 6, 'stride': stride})
    feature_map = torch.randn(2, 6, *(math.ceil(s / stride) for s in size))
    assert head(feature_map, size).shape == (2, 3, *size)


@pytest.mark.parametrize('kind', RECONSTRUCTION)
def test_maps_that_were_rounded_down_are_reconstructed_too(kind):
    head = MODELS.build({'type': kind, 'in_channels': 6, 'stride': 8})
    assert head(torch.randn(2, 6, 8, 8), (70, 66)).shape == (2, 3, 70, 66)


def test_interpolating_decoder_upsamples_by_two_where_the_size_divides():
    # The reference upsamples by a scale factor of 2; sizes must come to the same.
    x = torch.randn(1, 4, 8, 16)
    by_factor = functional.interpolate(x, scale_factor=2, mode='bilinear')
    by_size = functional.interpolate(x, size=(16, 32), mode='bilinear')
    assert torch.equal(by_factor, by_size)


def test_subpixel_decoder_starts_even_and_learns_as_fast_as_full_resolution():
    torch.manual_seed(0)
    config = {'type': 'SubpixelReconstructionHead', 'in_channels': 8, 'stride': 8}
    head = MODELS.build(config)
    head.init_weights()
    feature_map, image = torch.randn(2, 8, 4, 4), torch.full((2, 3, 32, 32), 0.9)
    logits = head(feature_map, (32, 32))
    assert not logits.any()
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        reconstruction_loss(head(feature_map, (32, 32)), image, None).backward()
        optimizer.step()
    # Without the gain, a weight moves stride ** 2 times less.
    assert head(feature_map, (32, 32)).sigmoid().mean() > 0.7


def test_padding_does_not_count_in_the_reconstruction():
    paddings = [(0, 0, 0, 0), (0, 10, 0, 4)]
    valid = valid_mask(paddings, (32, 48), torch.device('cpu'))
    assert valid.sum() == 32 * 48 + 28 * 38
    logits, image = torch.randn(2, 3, 32, 48), torch.rand(2, 3, 32, 48)
    loss = reconstruction_loss(logits, image, valid)
    kept = [
        functional.binary_cross_entropy_with_logits(
            logits[i, :, :h, :w], image[i, :, :h, :w], reduction='sum'
        )
        for i, (h, w) in enumerate([(32, 48), (28, 38)])
    ]
    expected = sum(kept) / (3 * (32 * 48 + 28 * 38))
    torch.testing.assert_close(loss, expected)
    image[1, :, 28:] = 0.3
    assert torch.equal(loss, reconstruction_loss(logits, image, valid))


def test_no_padding_makes_no_mask():
    assert valid_mask([(0, 0, 0, 0)] * 2, (8, 8), torch.device('cpu')) is None


def test_padding_of_the_preprocessor_reaches_the_loss():
    model = build(localized(deeplabv3()))
    data = batch(size=(48, 40))
    changed = losses_of(model, data)['local_0.loss_recon'].item()
    model.data_preprocessor.pad_val = 3.0
    target = model.reconstruction_target
    seen = []
    model.reconstruction_target = lambda *args: seen.append(target(*args)) or seen[-1]
    losses_of(model, data)
    assert seen[0].shape == (2, 3, 64, 64)
    # The target is the raw image in RGB order; only the 48x40 part is compared.
    raw = torch.stack(data['inputs'])[:, [2, 1, 0]] / 255
    torch.testing.assert_close(seen[0][..., :48, :40], raw, atol=1e-5, rtol=0)
    assert 0.5 < changed < 2


@pytest.mark.parametrize('stride', [1, 2, 3, 4, 8])
@pytest.mark.parametrize('size', [(16, 24), (17, 21), (1, 2)])
def test_labels_are_taken_from_the_middle_of_each_patch(stride, size):
    rows = torch.arange(size[0])[:, None].expand(size)
    columns = torch.arange(size[1])[None].expand(size)
    labels = torch.stack([rows, columns])
    taken = subsample_labels(labels, stride)
    expected_size = tuple(math.ceil(s / stride) for s in size)
    assert taken.shape == (2, *expected_size)
    for axis in (0, 1):
        for k in range(expected_size[axis]):
            middle = min(k * stride + stride // 2, size[axis] - 1)
            assert (taken[axis].select(axis, k) == middle).all()


@pytest.mark.parametrize('preset', ['paper', 'lean'])
@pytest.mark.parametrize('size', [(65, 97), (64, 64)])
def test_one_odd_image_of_a_two_class_data_set_trains(preset, size):
    config = deeplabv3()
    for head in ('decode_head', 'auxiliary_head'):
        config[head].update(num_classes=2, ignore_index=7, out_channels=2)
    config['data_preprocessor']['size'] = size
    model = build(localized(config, num_modules=3, head={'preset': preset}))
    # One image gives BatchNorm of the pooled map a single value: eval for that only.
    model.decode_head.image_pool.eval()
    data = batch(num=1, size=size, num_classes=2)
    label = data['data_samples'][0].gt_sem_seg.data
    label[label == 255] = 7
    losses = losses_of(model, data)
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert model.local_heads[0].segmentation.num_classes == 2
    assert model.local_heads[0].segmentation.ignore_index == 7
    model.parse_losses(losses)[0].backward()


def test_ignored_labels_do_not_reach_the_segmentation_loss():
    model = build(localized(deeplabv3()))
    data = batch()
    for sample in data['data_samples']:
        sample.gt_sem_seg.data.fill_(255)
    assert losses_of(model, data)['local_0.loss_seg'].item() == 0


def test_losses_are_weighted_linearly_and_logged_under_their_module():
    plain = {'reconstruction': 1.0, 'segmentation': 1.0}
    weighted = {'reconstruction': (3.0, 1.0), 'segmentation': (0.5, 0.1)}
    config = {'num_modules': 4, 'head': {'preset': 'lean'}}
    ones = losses_of(build(localized(deeplabv3(), **config, weights=plain)))
    ours = losses_of(build(localized(deeplabv3(), **config, weights=weighted)))
    for k, (recon, seg) in enumerate([(3.0, 0.5), (2.0, 0.3), (1.0, 0.1)]):
        for name, factor in (('loss_recon', recon), ('loss_seg', seg), ('acc_seg', 1)):
            key = f'local_{k}.{name}'
            torch.testing.assert_close(ours[key], factor * ones[key])


def test_a_loss_of_weight_zero_is_not_built():
    model = build(
        localized(deeplabv3(), num_modules=3, weights={'reconstruction': (1.0, 0.0)})
    )
    assert model.local_heads[0].reconstruction is not None
    assert model.local_heads[1].reconstruction is None
    assert 'local_1.loss_recon' not in losses_of(model)


def test_any_mmseg_head_and_loss_can_be_the_local_segmentation():
    model = build(
        localized(
            deeplabv3(),
            splits=['layer2.1'],
            head=ConfigDict(
                reconstruction=None,
                segmentation={
                    'type': 'DepthwiseSeparableFCNHead',
                    'channels': 8,
                    'concat_input': False,
                    'loss_decode': [
                        {'type': 'DiceLoss', 'loss_name': 'loss_dice'},
                        {'type': 'TverskyLoss', 'loss_name': 'loss_tversky'},
                    ],
                },
            ),
        )
    )
    names = {name for name in losses_of(model) if name.startswith('local')}
    assert names == {'local_0.loss_dice', 'local_0.loss_tversky', 'local_0.acc_seg'}


def test_the_preset_is_completed_not_replaced():
    head = complete_head({'preset': 'paper', 'segmentation': {'channels': 64}})
    assert head['segmentation']['type'] == 'mmseg.FCNHead'
    assert head['segmentation']['channels'] == 64
    assert complete_head('paper') == complete_head({'preset': 'paper'})
    assert complete_head(None) == complete_head('lean')


@pytest.mark.parametrize(
    ('head', 'error', 'text'),
    [
        ('thin', ValueError, "preset='thin'.*'lean', 'paper'"),
        (
            {'decoder': {}},
            ValueError,
            r"unknown settings \['decoder'\]; allowed: preset",
        ),
        (3, TypeError, 'local head 3 must be a dict'),
    ],
)
def test_wrong_head_settings_are_refused(head, error, text):
    with pytest.raises(error, match=text):
        complete_head(head)


def test_loss_stride_must_be_a_positive_integer():
    with pytest.raises(ValueError, match='loss_stride=0 must be a positive integer'):
        build(localized(deeplabv3(), head={'segmentation': {'loss_stride': 0}}))


@pytest.mark.parametrize(('stride', 'dilation'), [(4, 12), (8, 6), (64, 1)])
def test_a_head_with_context_adds_near_far_and_the_mean_of_the_map(stride, dilation):
    torch.manual_seed(0)
    head = MODELS.build(
        {
            'type': 'LocalSegmentationHead',
            'in_channels': 12,
            'stride': stride,
            'num_classes': 3,
            'norm_cfg': {'type': 'BN'},
            'dropout_ratio': 0.0,
            'context': True,
        }
    ).eval()
    reduce, context = head.convs
    x = torch.randn(2, 12, 16, 18)
    reduced = reduce(x)
    near = context.near.conv(reduced) / math.sqrt(1 + context.near.bn.eps)
    far = functional.conv2d(
        reduced, context.far.conv.weight, padding=dilation, dilation=dilation
    )
    far = far / math.sqrt(1 + context.far.bn.eps)
    mean = context.everywhere(reduced.flatten(2).mean(-1))[:, :, None, None]
    expected = head.conv_seg(near.relu() + far.relu() + mean)
    torch.testing.assert_close(head((x,)), expected, rtol=1e-4, atol=1e-5)

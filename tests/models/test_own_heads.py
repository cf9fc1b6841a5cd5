"""Heads of users: what they read, what they return, how many outputs they have."""

import copy

import pytest
import torch
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from infopro_seg.planner.profile.fake_step import track_step
from tests.helpers import (
    NARROW,
    WIDTHS,
    assert_equal,
    batch,
    build,
    deeplabv3,
    early_backward,
    gradients,
    localized,
    losses_of,
)

SPLITS = ['layer2.1', 'layer3.0']


def network(type='FCNHead', num_classes=5, **head):
    """A narrow ResNet-18 under a head on its last map, without dropout."""
    config = deeplabv3(NARROW, WIDTHS, auxiliary=None)
    plain = {**config['decode_head'], 'type': type, 'num_convs': 1}
    del plain['dilations']
    plain.update(concat_input=False, dropout_ratio=0.0, num_classes=num_classes)
    config['decode_head'] = {**plain, **head}
    return config


def losses_like_stock(config, **local):
    """The losses of a cut network, once those of its decode head equal stock's."""
    local = {'splits': SPLITS, 'lean_loss': False, **local}
    model, stock = build(localized(config, **local)), build(config)
    model.load_state_dict(stock.state_dict(), strict=False)
    ours, theirs = losses_of(model), losses_of(stock)
    assert_equal(
        {key: _summed(ours[key]) for key in theirs},
        {key: _summed(value) for key, value in theirs.items()},
    )
    return model, ours


def _summed(value):
    return sum(value) if isinstance(value, list) else value


class _Reads(FCNHead):
    """Adds the first stage output, some of the time."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.first = nn.Conv2d(WIDTHS[0], self.num_classes, 1)

    def _adds(self):
        raise NotImplementedError

    def forward(self, inputs):
        logits = super().forward(inputs)
        if self._adds():
            first = nn.functional.adaptive_avg_pool2d(inputs[0], logits.shape[-2:])
            logits = logits + self.first(first)
        return logits


@MODELS.register_module()
class ReadsInTraining(_Reads):
    def _adds(self):
        return self.training


@MODELS.register_module()
class ReadsInEvaluation(_Reads):
    def _adds(self):
        return not self.training


@MODELS.register_module()
class ReadsForItsLoss(FCNHead):
    """Its forward pass does not tell: a loss of its own reads one more map."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.first = nn.Conv2d(WIDTHS[0], 1, 1)

    def loss(self, inputs, batch_data_samples, train_cfg):
        losses = super().loss(inputs, batch_data_samples, train_cfg)
        return {**losses, 'loss_first': self.first(inputs[0]).square().mean()}


@MODELS.register_module()
class ReadsEveryOtherTime(_Reads):
    """What it reads in a step depends on the step before."""

    turn = 0

    def _adds(self):
        self.turn += 1
        return self.turn % 2 == 0


@pytest.mark.parametrize(
    'kind',
    ['ReadsInTraining', 'ReadsInEvaluation', 'ReadsForItsLoss', 'ReadsEveryOtherTime'],
)
def test_a_map_that_is_read_some_of_the_time_is_kept(kind):
    model, _ = losses_like_stock(network(kind))
    assert model._read_later == (frozenset({0, 3}),) * 2
    model.eval()
    data = model.data_preprocessor(copy.deepcopy(batch()))
    assert model.encode_decode(
        torch.stack(list(data['inputs'])), [{'img_shape': (64, 64)}] * 2
    ).shape == (2, 5, 64, 64)


@MODELS.register_module()
class ReturnsLists(FCNHead):
    """Entries as mmengine's parse_losses takes them."""

    def loss_by_feat(self, seg_logits, batch_data_samples):
        losses = super().loss_by_feat(seg_logits, batch_data_samples)
        return {
            'loss_parts': [losses['loss_ce'], 0.5 * losses['loss_ce']],
            'loss_none': [],
            'loss_map': losses['loss_ce'].expand(3),
            'accuracies': [losses['acc_seg'], losses['acc_seg']],
        }


ENTROPY = {
    'type': 'CrossEntropyLoss',
    'loss_name': 'loss_ce',
    'class_weight': [1.0] * 5,
}
DICE = {'type': 'DiceLoss', 'loss_name': 'loss_dice', 'loss_weight': 3.0}


@pytest.mark.parametrize('where', ['decode_head', 'local head', 'both'])
@pytest.mark.parametrize(
    'head', [{'loss_decode': [ENTROPY, DICE]}, {'type': 'ReturnsLists'}]
)
def test_several_losses_and_lists_of_them_are_all_trained(where, head):
    config = network() if where == 'local head' else network(**head)
    local = {}
    if where != 'decode_head':
        local = {'head': {'segmentation': {'type': 'FCNHead', 'channels': 8, **head}}}
    model = build(localized(config, splits=SPLITS, **local))
    early = copy.deepcopy(model)
    early.local_backward = early_backward
    for part in (model, early):
        part.parse_losses(losses_of(part))[0].backward()
    assert_equal(gradients(early), gradients(model))
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for name, p in model.named_parameters()
        if name.endswith('segmentation.conv_seg.weight')
    )


SIGMOID = {'type': 'CrossEntropyLoss', 'use_sigmoid': True, 'loss_weight': 1.0}
BINARY_DICE = {'type': 'DiceLoss', 'use_sigmoid': True, 'loss_name': 'loss_dice'}


@pytest.mark.parametrize(
    ('head', 'num_outputs'),
    [
        ({'num_classes': 2, 'out_channels': 1, 'loss_decode': SIGMOID}, 1),
        ({'num_classes': 1, 'loss_decode': SIGMOID}, 1),
        (
            {
                'num_classes': 2,
                'out_channels': 1,
                'threshold': 0.3,
                'loss_decode': [SIGMOID, BINARY_DICE],
            },
            1,
        ),
        ({'num_classes': 2, 'out_channels': 2}, 2),
        ({'num_classes': 5, 'loss_decode': SIGMOID}, 5),
    ],
)
@pytest.mark.parametrize('preset', ['lean', 'paper'])
def test_a_local_head_has_the_outputs_of_the_decode_head_and_learns(
    head, num_outputs, preset
):
    model = build(localized(network(**head), splits=SPLITS, head=preset))
    classes = max(2, head['num_classes'])
    per_label = []
    for label in (0, 1):
        data = batch(num_classes=classes)
        for sample in data['data_samples']:
            sample.gt_sem_seg.data[:] = label
        model.zero_grad()
        losses = losses_of(model, data)
        losses['local_0.loss_seg'].backward()
        classifier = model.local_heads[0].segmentation.conv_seg
        assert classifier.out_channels == num_outputs
        per_label.append(classifier.bias.grad.clone())
    # It pulls towards the label: apart for the two.
    assert (per_label[0] * per_label[1]).min() < 0


@pytest.mark.slow
@pytest.mark.parametrize('lean_loss', [False, True])
def test_one_output_is_planned_too(lean_loss):
    config = network(num_classes=2, out_channels=1, loss_decode=SIGMOID)
    config = localized(config, splits=SPLITS, lean_loss=lean_loss)
    assert track_step(config, batch_size=2, crop_size=(64, 64)).flops > 0


@pytest.mark.parametrize(
    ('norm', 'expected'),
    [
        ('BN', nn.BatchNorm2d),
        ('BN2d', nn.BatchNorm2d),
        (nn.BatchNorm2d, nn.BatchNorm2d),
        ('SyncBN', nn.SyncBatchNorm),
        (nn.SyncBatchNorm, nn.SyncBatchNorm),
        (nn.InstanceNorm2d, nn.InstanceNorm2d),
        ('GN', nn.BatchNorm2d),
    ],
)
def test_local_heads_have_the_norm_of_the_decode_head_however_it_is_written(
    norm, expected
):
    settings = {'num_groups': 2} if norm == 'GN' else {}
    config = network(norm_cfg={'type': norm, **settings})
    model = build(localized(config, splits=SPLITS))
    kinds = {type(m) for m in model.local_heads.modules() if isinstance(m, _NormBase)}
    # mmengine has a SyncBatchNorm of its own.
    assert kinds
    assert all(issubclass(kind, expected) for kind in kinds)


class _Closed(FCNHead):
    """Takes few of its base's arguments, and passes none of the others on."""

    def __init__(self, in_channels, num_classes, in_index):
        super().__init__(
            in_channels=in_channels,
            channels=4,
            num_classes=num_classes,
            in_index=in_index,
        )


def test_a_local_head_is_told_what_it_takes_and_no_more():
    head = {'segmentation': {'type': _Closed}}
    model = build(localized(network(), splits=SPLITS, head=head))
    assert all(type(each.segmentation) is _Closed for each in model.local_heads)
    assert losses_of(model)

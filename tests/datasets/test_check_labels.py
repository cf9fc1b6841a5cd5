"""CheckLabelsHook: which values it refuses, what it says, where it looks."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.structures import PixelData
from mmseg.evaluation import IoUMetric
from mmseg.models import EncoderDecoder
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import DATASETS, HOOKS, MODELS
from mmseg.structures import SegDataSample

from infopro_seg.datasets import CheckLabelsHook
from infopro_seg.datasets.check.label_rules import LabelRule, head_rules

from .. import helpers  # registers mmseg's modules

CROSS_ENTROPY = {'type': 'CrossEntropyLoss'}
SIGMOID = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}


def head(num_classes=19, loss=CROSS_ENTROPY, kind='FCNHead', **settings):
    """A small head of the host."""
    return {
        'type': kind,
        'in_channels': 8,
        'in_index': 0,
        'channels': 4,
        'num_convs': 1,
        'num_classes': num_classes,
        'loss_decode': loss,
        **settings,
    }


def segmentor(
    *args, auxiliary=None, kind='EncoderDecoder', head_kind='FCNHead', **settings
):
    """A segmentor of the host with a small head."""
    config = helpers.deeplabv3(helpers.NARROW, helpers.WIDTHS)
    decode_head = head(*args, kind=head_kind, **settings)
    config.update(type=kind, decode_head=decode_head, auxiliary_head=auxiliary)
    return MODELS.build(config)


def loop(num_classes=19, **settings):
    """A validation loop as far as the hook looks at it."""
    metric = IoUMetric(**settings)
    metric.dataset_meta = {'classes': [str(i) for i in range(num_classes)]}
    return SimpleNamespace(evaluator=SimpleNamespace(metrics=[metric]))


def runner(**settings):
    return SimpleNamespace(val_loop=loop(**settings), test_loop=loop(**settings))


class Wrapper(torch.nn.Module):
    """Holds a model as DistributedDataParallel does."""

    def __init__(self, module):
        super().__init__()
        self.module = module


def ready_hook(model=None):
    hook = HOOKS.build({'type': 'CheckLabelsHook'})
    hook.before_run(SimpleNamespace(model=model or segmentor()))
    return hook


def sample(*values, **meta):
    data = torch.tensor(values).reshape(1, 1, -1)
    meta = meta or {'img_path': 'a/b.png', 'seg_map_path': 'a/b_labels.png'}
    return SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=data))


STAGES = ('before_train_iter', 'before_val_iter', 'before_test_iter')


@pytest.mark.parametrize('stage', STAGES)
def test_classes_and_the_ignore_index_pass(stage):
    batch = {'data_samples': [sample(0, 18, 255), sample(255, 255)]}
    getattr(ready_hook(), stage)(runner(), 0, batch)


@pytest.mark.parametrize('stage', STAGES)
def test_wrong_value_names_file_values_range_and_remedy(stage):
    batch = {'data_samples': [sample(0, 1), sample(3, 33, 19, 255, -1)]}
    with pytest.raises(ValueError, match='a/b_labels.png') as error:
        getattr(ready_hook(), stage)(runner(), 0, batch)
    text = str(error.value)
    assert 'of image a/b.png holds the values -1, 19, 33.' in text
    assert 'has 19 classes: allowed are 0..18, and 255 (ignore_index)' in text
    assert 'tools/prepare_cityscapes.py' in text
    assert 'num_classes' in text


def test_long_lists_of_values_are_cut():
    batch = {'data_samples': [sample(*range(40))]}
    with pytest.raises(ValueError, match='values 19, 20, .*, 28, \\.\\.\\.\\. '):
        ready_hook().before_train_iter(None, 0, batch)


def test_sample_without_names_is_reported_too():
    batch = {'data_samples': [sample(99, ori_shape=(1, 1))]}
    with pytest.raises(
        ValueError, match=r'label file \(unnamed\) of image \(unnamed\)'
    ):
        ready_hook().before_train_iter(None, 0, batch)


def test_test_time_augmentation_is_looked_through():
    batch = {'data_samples': [[sample(0)], [sample(77)]]}
    with pytest.raises(ValueError, match='values 77'):
        ready_hook().before_test_iter(runner(), 0, batch)


@pytest.mark.parametrize(
    'batch', [None, {}, {'data_samples': None}, {'data_samples': [SegDataSample()]}]
)
def test_batches_without_labels_pass(batch):
    ready_hook().before_test_iter(runner(), 0, batch)


def test_labels_are_not_changed():
    item = sample(0, 5, 255)
    before = item.gt_sem_seg.data.clone()
    ready_hook().before_train_iter(None, 0, {'data_samples': [item]})
    assert torch.equal(item.gt_sem_seg.data, before)


@pytest.mark.parametrize('dtype', [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize('ignore', [255, 2, 0, -100])
def test_wrong_values_equal_the_plain_definition(dtype, ignore):
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        labels = torch.randint(0, 7, (1, 4, 5), generator=generator).to(dtype)
        labels[0, 0, :2] = ignore
        expected = {
            value
            for value in labels.unique().tolist()
            if not 0 <= value < 5 and value != ignore
        }
        # A -100 does not fit in uint8 and wraps round to a wrong value.
        rule = LabelRule('head', 5, frozenset({ignore}))
        assert rule.wrong_values(labels) == sorted(expected)


def test_labels_in_strided_memory_are_read_right():
    labels = torch.arange(20).reshape(4, 5).t()
    assert LabelRule('head', 18).wrong_values(labels) == [18, 19]


@pytest.mark.parametrize('wrap', [lambda model: model, Wrapper])
def test_rule_comes_from_the_model_through_wrappers(wrap):
    (rule,) = head_rules(wrap(wrap(segmentor(7, ignore_index=254))))
    assert (rule.num_classes, rule.ignored) == (7, {254})


def test_every_head_has_its_say():
    auxiliary = [head(7), head(5), head(9)]
    rules = head_rules(segmentor(9, auxiliary=auxiliary))
    assert [(rule.owner, rule.num_classes) for rule in rules] == [
        ('decode_head', 9),
        ('auxiliary_head[0]', 7),
        ('auxiliary_head[1]', 5),
    ]


@pytest.mark.parametrize(
    'settings',
    [
        {},
        {'loss': SIGMOID},
        {'num_classes': 2, 'out_channels': 1, 'threshold': 0.5, 'loss': SIGMOID},
        {'num_classes': 1, 'out_channels': 1, 'threshold': 0.5, 'loss': SIGMOID},
        {'num_classes': 1, 'threshold': 0.5, 'loss': SIGMOID},
        {'loss': [CROSS_ENTROPY, {'type': 'DiceLoss'}], 'ignore_index': 3},
    ],
    ids=lambda settings: str(settings)[:60],
)
@pytest.mark.parametrize('value', [-1, 0, 1, 2, 3, 4, 5, 254, 255])
def test_refused_is_what_the_hosts_losses_cannot_take(settings, value):
    """The host as the judge: it fails on every value that is refused, on no other."""
    model = segmentor(**{'num_classes': 4, **settings})
    values = torch.full((1, 8, 8), value)
    values[0, 0, 0] = 0
    refused = any(rule.wrong_values(values) for rule in head_rules(model))
    data = SegDataSample(gt_sem_seg=PixelData(data=values))
    features = [torch.ones(1, 8, 4, 4)]
    try:
        model.decode_head.loss(features, [data], {})
    except (AssertionError, IndexError, RuntimeError):
        assert refused
    else:
        assert not refused


def test_a_value_that_a_loss_would_take_for_another_class_is_refused():
    for name in ('DiceLoss', 'TverskyLoss'):
        (rule,) = head_rules(segmentor(4, {'type': name}))
        assert rule.wrong_values(torch.tensor([[3, 4, 255]])) == [4]


def test_focal_loss_has_one_more_value_for_no_class():
    (rule,) = head_rules(segmentor(4, {'type': 'FocalLoss'}))
    assert rule.wrong_values(torch.tensor([[3, 4, 5, 255]])) == [5]


class Coarse(FCNHead):
    """Has labels of its own: of every three classes one."""

    def loss_by_feat(self, seg_logits, batch_data_samples):
        return {}


class Ordinal(torch.nn.Module):
    loss_name = 'loss_ordinal'


class Mapped(EncoderDecoder):
    def loss(self, inputs, data_samples):
        return {}


@pytest.mark.parametrize(
    'model',
    [
        lambda: torch.nn.Identity(),
        lambda: Wrapper(torch.nn.Identity()),
        lambda: segmentor(4, kind=Mapped),
        lambda: segmentor(4, kind=Mapped),
        lambda: segmentor(4, {'type': Ordinal}),
        lambda: segmentor(4, head_kind=Coarse),
        lambda: segmentor(2, head_kind='STDCHead', boundary_threshold=0.1),
    ],
)
def test_what_is_not_the_hosts_is_left_alone(model, capsys):
    hook = ready_hook(model())
    hook.before_train_iter(None, 0, {'data_samples': [sample(0, 77)]})
    assert not hook._rules


def test_validation_refuses_what_the_metric_would_leave_out():
    hook = ready_hook(segmentor(19))
    batch = {'data_samples': [sample(0, 19, 30)]}
    hook.before_val_iter(runner(num_classes=31), 0, batch)
    with pytest.raises(ValueError, match='values 19, 30. the evaluation has 19'):
        hook.before_val_iter(runner(), 0, batch)
    hook.before_val_iter(runner(num_classes=20, ignore_index=30), 0, batch)


def test_labels_that_no_metric_reads_pass(tmp_path):
    batch = {'data_samples': [sample(77)]}
    hook = ready_hook()
    stage = SimpleNamespace(evaluator=SimpleNamespace(metrics=[object()]))
    hook.before_val_iter(SimpleNamespace(val_loop=stage), 0, batch)
    written = runner(format_only=True, output_dir=str(tmp_path))
    hook.before_test_iter(written, 0, batch)


def test_colours_are_called_so():
    item = sample(0)
    item.gt_sem_seg = PixelData(data=torch.zeros(6, 8, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match='holds colours, 3 channels of 6x8 pixels'):
        ready_hook().before_train_iter(None, 0, {'data_samples': [item]})


def test_raw_cityscapes_ids_are_found_in_a_stock_pipeline(tmp_path):
    for folder, shape in (('img', (8, 8, 3)), ('ann', (8, 8))):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / '0.png'), np.full(shape, 26, np.uint8))
    pipeline = [{'type': f'Load{kind}'} for kind in ('ImageFromFile', 'Annotations')]
    dataset = DATASETS.build(
        {
            'type': 'BaseSegDataset',
            'img_suffix': '.png',
            'data_root': str(tmp_path),
            'data_prefix': {'img_path': 'img', 'seg_map_path': 'ann'},
            'pipeline': [*pipeline, {'type': 'PackSegInputs'}],
        }
    )
    batch = pseudo_collate([dataset[0]])
    with pytest.raises(ValueError, match=f'{tmp_path}/ann/0.png .* the values 26'):
        ready_hook().before_train_iter(None, 0, batch)


def test_hook_is_registered():
    assert HOOKS.get('CheckLabelsHook') is CheckLabelsHook

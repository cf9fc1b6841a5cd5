"""One config in every form that the Runner takes, and all that looks into configs."""

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.evaluator import Evaluator
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmseg.evaluation import IoUMetric
from mmseg.models import EncoderDecoder, ResNetV1c

from infopro_seg.benchmark.methods import takes_with_cp
from infopro_seg.checkpoints.export import stock_run_config
from infopro_seg.cli.check_model import build_weightless
from infopro_seg.cli.config import (
    complete_test,
    complete_training,
    enable_amp,
    enable_tta,
    save_predictions,
)
from infopro_seg.engine import LocalTrainingHook
from infopro_seg.models import InfoProEncoderDecoder
from infopro_seg.planner.from_config import setting_of
from infopro_seg.planner.profile.fake_step import fake_tensors, optimizer_factors
from infopro_seg.settings.config import (
    amp_dtype_of,
    crop_size_of,
    leaf_datasets,
    read_config,
    type_name,
)
from infopro_seg.settings.localize import is_local, localize, write_localized
from tests.helpers import deeplabv3

MMSEG = {'default_scope': 'mmseg'}
# Imports of classes, and a base that is read by an import: mmengine's pure-Python form.
PURE_BASE = """
from mmengine.optim import OptimWrapper
from mmseg.models import ASPPHead, EncoderDecoder
from torch.optim import SGD

default_scope = 'mmseg'
model = {model!r}
model.update(type=EncoderDecoder)
model['decode_head'].update(type=ASPPHead)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))
train_dataloader = dict(batch_size=3)
"""
PURE_CHILD = """
from mmengine.config import read_base

with read_base():
    from .base import *

train_dataloader.update(batch_size=2)
"""
PURE_LOCAL = (
    PURE_CHILD
    + """
from infopro_seg.engine import LocalTrainingHook
from infopro_seg.models import InfoProEncoderDecoder

model.update(type=InfoProEncoderDecoder, local=dict(num_modules=2))
custom_hooks = [dict(type=LocalTrainingHook)]
"""
)


@pytest.fixture
def pure(tmp_path):
    """A folder with a pure-Python config, one that inherits from it, a local one."""
    (tmp_path / 'base.py').write_text(PURE_BASE.format(model=deeplabv3()))
    (tmp_path / 'child.py').write_text(PURE_CHILD)
    (tmp_path / 'local.py').write_text(PURE_LOCAL)
    return tmp_path


@pytest.mark.parametrize('name', ['base.py', 'child.py'])
def test_a_pure_python_config_becomes_local(pure, name):
    cfg = read_config(pure / name)
    localize(cfg, {'num_modules': 2})
    assert len(build_weightless(cfg).local_modules) == 2


@pytest.mark.parametrize('name', ['base.py', 'child.py'])
def test_a_pure_python_config_is_written_in_a_form_that_can_be_read(pure, name):
    # A text config cannot inherit from it.
    base = str(pure / name)
    cfg = read_config(base)
    settings = localize(cfg, {'num_modules': 2})
    write_localized(cfg, base, settings, pure / 'mine.py', force=False)
    written = read_config(pure / 'mine.py')
    assert type_name(written.model) == 'InfoProEncoderDecoder'
    assert written.train_dataloader.batch_size == (2 if 'child' in name else 3)
    assert len(build_weightless(written).local_modules) == 2


def test_a_pure_python_config_is_planned_with_its_own_batch_and_optimizer(pure):
    setting = setting_of(str(pure / 'child.py'), local={'num_modules': 2})
    assert (setting.batch_size, setting.crop_size) == (2, (64, 64))
    assert type_name(setting.optim_wrapper['optimizer']) == 'SGD'
    # Looked up by name once, which a class is not.
    with fake_tensors():
        assert optimizer_factors(setting.optim_wrapper).state == 0
    assert takes_with_cp(ResNetV1c)


def test_a_local_pure_python_config_is_completed_tested_and_exported(pure):
    cfg = read_config(pure / 'local.py')
    complete_training(cfg)
    assert [type_name(hook) for hook in cfg.custom_hooks] == ['LocalTrainingHook']
    stock = stock_run_config(cfg)
    assert (type_name(stock.model), 'local' in stock.model) == ('EncoderDecoder', False)
    assert 'custom_hooks' not in stock
    complete_test(cfg)
    assert type_name(cfg.model) == 'EncoderDecoder'


@pytest.mark.parametrize(
    'kind',
    [
        'EncoderDecoder',
        'mmseg.EncoderDecoder',
        'mmseg.models.segmentors.encoder_decoder.EncoderDecoder',
        EncoderDecoder,
    ],
)
def test_a_segmentor_is_known_by_any_name(kind):
    cfg = Config({**MMSEG, 'model': {**deeplabv3(), 'type': kind}})
    assert not is_local(cfg.model)
    localize(cfg, {'num_modules': 2})
    assert is_local(cfg.model)
    assert len(build_weightless(cfg).local_modules) == 2


@pytest.mark.parametrize(
    ('scope', 'stock'), [(MMSEG, 'EncoderDecoder'), ({}, 'mmseg.EncoderDecoder')]
)
def test_classes_of_ours_count_as_their_names(scope, stock):
    hooks = ({'type': LocalTrainingHook},)
    model = {
        **deeplabv3(),
        'type': InfoProEncoderDecoder,
        'local': {'num_modules': 2},
    }
    cfg = Config({**scope, 'model': model, 'custom_hooks': hooks})
    complete_training(cfg)
    assert len(cfg.custom_hooks) == 1
    assert stock_run_config(cfg).model.type == stock


@pytest.mark.parametrize(
    ('kind', 'dtype'),
    [
        ({}, None),
        ({'type': OptimWrapper}, None),
        ({'type': 'AmpOptimWrapper'}, 'float16'),
        ({'type': AmpOptimWrapper}, 'float16'),
    ],
)
def test_an_optimizer_wrapper_is_known_with_and_without_its_type(
    monkeypatch, kind, dtype
):
    cfg = Config({'optim_wrapper': {**kind, 'optimizer': {'type': 'SGD', 'lr': 0.1}}})
    assert amp_dtype_of(cfg) == dtype
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    enable_amp(cfg)
    assert amp_dtype_of(cfg) == 'float16'


PREPROCESSOR = {'type': 'SegDataPreProcessor', 'size': (48, 80)}
CROP = {'type': 'RandomCrop', 'crop_size': (32, 96)}
LEAF = {'type': 'BaseSegDataset', 'pipeline': [{'type': 'LoadImageFromFile'}, CROP]}
CUTS_LAST = {
    'type': 'MultiImageMixDataset',
    'dataset': {'type': 'BaseSegDataset', 'pipeline': [CROP]},
    'pipeline': [{'type': 'RandomMosaic', 'img_scale': (640, 640)}, CROP],
}


@pytest.mark.parametrize(
    ('dataset', 'preprocessor', 'expected'),
    [
        (LEAF, PREPROCESSOR, (48, 80)),
        (LEAF, {'type': 'SegDataPreProcessor', 'size_divisor': 32}, (32, 96)),
        (LEAF, None, (32, 96)),
        ({'type': 'RepeatDataset', 'times': 2, 'dataset': LEAF}, None, (32, 96)),
        ({'type': 'ConcatDataset', 'datasets': [LEAF, LEAF]}, None, (32, 96)),
        (CUTS_LAST, None, (32, 96)),
        ([LEAF, LEAF], None, (32, 96)),
        # mmcv's resizing steps say (width, height).
        (
            {'pipeline': [{'type': 'Resize', 'scale': (96, 32), 'keep_ratio': False}]},
            None,
            (32, 96),
        ),
        ({'pipeline': [{'type': 'LoadImageFromFile'}]}, None, None),
        ({'type': 'OwnDataset'}, None, None),
    ],
)
@pytest.mark.parametrize('where', ['model', 'top level'])
def test_the_crop_is_that_of_the_preprocessor_or_of_the_last_cut(
    dataset, preprocessor, expected, where
):
    cfg = Config({'model': deeplabv3(), 'train_dataloader': {'dataset': dataset}})
    cfg.model.pop('data_preprocessor')
    if preprocessor:
        holder = cfg.model if where == 'model' else cfg
        holder['data_preprocessor'] = ConfigDict(preprocessor)
    assert crop_size_of(cfg) == expected


METRIC = {'type': 'IoUMetric', 'iou_metrics': ['mIoU']}


@pytest.mark.parametrize(
    'evaluators',
    [
        METRIC,
        [METRIC],
        ({'type': 'DumpResults', 'out_file_path': 'r.pkl'}, METRIC),
        {'metrics': [METRIC]},
        {'type': Evaluator, 'metrics': METRIC},
        [{**METRIC, 'type': IoUMetric}, {**METRIC, 'prefix': 'again'}],
    ],
)
def test_one_metric_writes_the_predictions_whatever_evaluators_there_are(evaluators):
    cfg = Config({**MMSEG, 'test_evaluator': evaluators})
    save_predictions(cfg, 'out')
    assert str(cfg.test_evaluator).count("'output_dir': 'out'") == 1


def test_evaluators_that_write_nothing_are_refused_with_one_that_does():
    cfg = Config({'test_evaluator': [{'type': 'DumpResults', 'out_file_path': 'r'}]})
    with pytest.raises(ValueError, match=r"--out: no metric .*type='IoUMetric'"):
        save_predictions(cfg, 'out')


@pytest.mark.parametrize(
    ('dataset', 'count'),
    [
        (LEAF, 1),
        ([LEAF, LEAF], 2),
        ({'type': 'ConcatDataset', 'datasets': [LEAF, {'dataset': LEAF}]}, 2),
    ],
)
def test_every_data_set_of_a_test_gets_the_augmentations(dataset, count):
    augmentations = [{'type': 'TestTimeAug', 'transforms': [[CROP]]}]
    cfg = Config(
        {
            'model': deeplabv3(),
            'tta_pipeline': augmentations,
            'test_dataloader': {'dataset': dataset},
        }
    )
    enable_tta(cfg, flip=True)
    leaves = list(leaf_datasets(cfg.test_dataloader.dataset))
    assert [leaf['pipeline'] for leaf in leaves] == [augmentations] * count

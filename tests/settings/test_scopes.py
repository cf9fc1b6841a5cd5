"""What the host trains in any scope becomes local in it, with the same weights."""

import ast
import re
import sys

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, HOOKS, DefaultScope, Registry
from mmengine.registry import MODELS as ROOT
from mmengine.runner import Runner
from mmseg.models import ResNetV1c
from mmseg.registry import MODELS

from infopro_seg.cli import localize as localize_tool
from infopro_seg.cli import train
from infopro_seg.cli.check_model import check_model
from infopro_seg.scopes import class_of
from infopro_seg.settings.heads import PRESETS
from tests.helpers import NARROW, WIDTHS, build, deeplabv3, localized

LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations'}]
CLASSES = {'classes': tuple('abcde'), 'palette': [[i] * 3 for i in range(5)]}
DATA = {
    'type': 'BaseSegDataset',
    'metainfo': CLASSES,
    'img_suffix': '.png',
    'data_prefix': {'img_path': 'img', 'seg_map_path': 'ann'},
}
#: Where classes of a pure-Python config are imported from.
PARTS = {
    'mmseg.datasets': ('BaseSegDataset',),
    'mmseg.datasets.transforms': ('LoadAnnotations', 'PackSegInputs', 'RandomCrop'),
    'mmseg.evaluation': ('IoUMetric',),
    'mmseg.models': (
        *('EncoderDecoder', 'SegDataPreProcessor', 'ResNetV1c'),
        *('ASPPHead', 'FCNHead', 'CrossEntropyLoss'),
    ),
    'mmcv.transforms': ('LoadImageFromFile',),
    'mmengine.dataset': ('DefaultSampler', 'InfiniteSampler'),
    'mmengine.hooks': ('CheckpointHook',),
    'mmengine.runner': ('IterBasedTrainLoop', 'ValLoop'),
    'torch.optim': ('SGD',),
}
OURS = """
from infopro_seg.engine import LocalTrainingHook
from infopro_seg.models import InfoProEncoderDecoder
model.update(type=InfoProEncoderDecoder, local=dict(num_modules=2))
custom_hooks = [dict(type=LocalTrainingHook)]
"""
LOCAL = ('--local', 'num_modules=2')
TOYS = Registry('model', parent=ROOT, scope='toys')


@TOYS.register_module()
class ToyNet(ResNetV1c):
    """A backbone that only its own scope knows."""


def settings(root):
    """A whole config under the names that mmseg's scope knows."""
    data = {**DATA, 'data_root': str(root)}
    crop = {'type': 'RandomCrop', 'crop_size': (64, 64)}
    pack = {'type': 'PackSegInputs'}
    return {
        'model': deeplabv3(NARROW, WIDTHS),
        'train_dataloader': {
            'batch_size': 2,
            'num_workers': 0,
            'sampler': {'type': 'InfiniteSampler', 'shuffle': True},
            'dataset': {**data, 'pipeline': [*LOAD, crop, pack]},
        },
        'val_dataloader': {
            'batch_size': 1,
            'num_workers': 0,
            'sampler': {'type': 'DefaultSampler', 'shuffle': False},
            'dataset': {**data, 'pipeline': [*LOAD, pack]},
        },
        'val_evaluator': {'type': 'IoUMetric', 'iou_metrics': ['mIoU']},
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.05, 'momentum': 0.9}},
        'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 2, 'val_interval': 2},
        'val_cfg': {'type': 'ValLoop'},
        'default_hooks': {
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 2}
        },
        'randomness': {'seed': 0},
        'log_level': 'ERROR',
    }


def with_types(text, spelled):
    return re.sub(r"'type': '(\w+)'", lambda m: f"'type': {spelled(m[1])}", text)


def prefixed(name):
    """The name with the scope of what mmseg registers."""
    in_host = [n for home, names in PARTS.items() if 'mmseg' in home for n in names]
    return repr(f'mmseg.{name}' if name in in_host else name)


def as_class(name):
    known = [part for names in PARTS.values() for part in names]
    return name if name in known else repr(name)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    """A folder with images, labels, and a config in each form."""
    root = tmp_path_factory.mktemp('forms')
    generator = np.random.default_rng(0)
    for folder, shape, top in (('img', (64, 64, 3), 256), ('ann', (64, 64), 5)):
        (root / folder).mkdir()
        for i in range(4):
            pixels = generator.integers(0, top, shape, dtype=np.uint8)
            cv2.imwrite(str(root / folder / f'{i}.png'), pixels)
    text = ''.join(f'{key} = {value!r}\n' for key, value in settings(root).items())
    imports = ''.join(
        f'from {home} import {", ".join(names)}\n' for home, names in PARTS.items()
    )
    scoped = with_types(text, prefixed)
    toys = scoped.replace("'mmseg.ResNetV1c'", "'ToyNet'")
    forms = {
        'mmseg': f"default_scope = 'mmseg'\n{text}",
        'scoped': scoped,
        'none': f'default_scope = None\n{scoped}',
        'missing': f"default_scope = 'mmdet'\n{scoped}",
        'own': f"default_scope = 'toys'\n{toys}",
        'classes': imports + with_types(text, as_class),
    }
    forms['ours'] = forms['classes'] + OURS
    for name, content in forms.items():
        (root / f'{name}.py').write_text(content)
    return root


def run(monkeypatch, module, *arguments):
    monkeypatch.setattr(sys, 'argv', ['tool', *map(str, arguments)])
    module.main()


def weights_of(monkeypatch, config, work_dir, *local):
    run(monkeypatch, train, config, '--work-dir', work_dir, *local)
    return torch.load(work_dir / 'iter_2.pth', weights_only=False)['state_dict']


def assert_same(left, right):
    assert left.keys() == right.keys()
    assert any(key.startswith('local_heads.') for key in left)
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


@pytest.fixture(scope='module')
def reference(root):
    """Weights of a local run in mmseg's scope."""
    with pytest.MonkeyPatch.context() as patch:
        return weights_of(patch, root / 'mmseg.py', root / 'reference', *LOCAL)


@pytest.mark.slow
@pytest.mark.parametrize(
    'form', ['scoped', 'none', 'missing', 'own', 'classes', 'ours']
)
def test_a_config_trains_whatever_its_scope(
    root, reference, tmp_path, monkeypatch, form
):
    path = root / f'{form}.py'
    host = Config.fromfile(path)
    host.work_dir = str(tmp_path / 'host')
    if form != 'ours':
        Runner.from_cfg(host)  # the host takes it
    local = () if form == 'ours' else LOCAL
    weights = weights_of(monkeypatch, path, tmp_path / 'run', *local)
    assert_same(weights, reference)


@pytest.mark.slow
@pytest.mark.parametrize('form', ['scoped', 'classes', 'own'])
def test_what_localize_writes_trains(root, reference, tmp_path, monkeypatch, form):
    path = tmp_path / 'mine.py'
    run(monkeypatch, localize_tool, root / f'{form}.py', path, *LOCAL)
    assert_same(weights_of(monkeypatch, path, tmp_path / 'run'), reference)


def test_lines_of_the_readme_hold_below_any_config(root, tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        f"_base_ = '{root}/scoped.py'\n"
        "custom_imports = dict(imports=['infopro_seg'])\n"
        "model = dict(type='InfoProEncoderDecoder', local=dict(num_modules=2))\n"
        "custom_hooks = [dict(type='LocalTrainingHook')]\n"
        "train_dataloader = dict(sampler=dict(type='SeededSampler'))\n"
    )
    cfg = Config.fromfile(path)
    cfg.work_dir = str(tmp_path / 'run')
    runner = Runner.from_cfg(cfg)
    assert len(runner.model.local_modules) == 2


def test_what_the_runner_does_not_find_is_not_found_before_either():
    # Bare names, and a scope that does not know them.
    cfg = Config({'model': localized(deeplabv3(NARROW, WIDTHS), num_modules=0)})
    check_model(cfg)  # left to the Runner, whose message says what is missing
    cfg.default_scope = 'mmseg'
    with pytest.raises(ValueError, match='num_modules=0'):
        check_model(cfg)


@pytest.mark.parametrize('scope', [None, 'mmengine', 'mmseg', 'toys', 'mmdet'])
def test_every_scope_knows_our_parts_by_their_bare_and_by_mmsegs_name(scope):
    for registry, name in (
        (MODELS, 'InfoProEncoderDecoder'),
        (ROOT, 'InfoProCascadeEncoderDecoder'),
        (HOOKS, 'SafeCheckpointHook'),
        (HOOKS, 'CheckLabelsHook'),
        (DATASETS, 'DrawnStreetDataset'),
    ):
        kinds = {
            class_of(registry, f'{prefix}{name}', scope) for prefix in ('', 'mmseg.')
        }
        assert [kind.__name__ for kind in kinds] == [name]


@pytest.mark.parametrize('preset', PRESETS)
@pytest.mark.parametrize('scope', ['mmengine', 'toys'])
def test_presets_and_our_own_heads_build_in_every_scope(preset, scope):
    text = with_types(repr(deeplabv3(NARROW, WIDTHS)), prefixed)
    plain = ast.literal_eval(text)
    whole = {'preset': preset, 'segmentation': {'type': 'LocalSegmentationHead'}}
    with DefaultScope.overwrite_default_scope(scope):
        for head in (preset, whole):
            model = build(localized(plain, num_modules=2, head=head))
            assert len(model.local_heads) == 1

"""docs/settings.md says what the code does."""

import dataclasses
import inspect
import re

import pytest
from mmseg.registry import HOOKS, MODELS

from infopro_seg.cli.run import KeyValues, make_parser
from infopro_seg.settings import LocalSettings
from infopro_seg.settings.config import read_config, type_name
from infopro_seg.settings.heads import PRESETS, complete_head
from infopro_seg.settings.local import CUTS
from tests.docs.pages import ROOT, blocks_of
from tests.helpers import (
    BN,
    NARROW,
    WIDTHS,
    batch,
    build,
    deeplabv3,
    localized,
    losses_of,
)

PAGE = (ROOT / 'docs/settings.md').read_text(encoding='utf-8')
BLOCKS = blocks_of('docs/settings.md')


def network(**head):
    """Three classes; the decode head is an FCNHead with these settings."""
    config = deeplabv3(NARROW, WIDTHS, auxiliary=None)
    plain = {**config['decode_head'], 'type': 'FCNHead', 'num_convs': 1}
    del plain['dilations']
    config['decode_head'] = {**plain, 'num_classes': 3, **head}
    return config


def local_half(**head):
    """The segmentation half of a local head behind such a decode head."""
    model = build(localized(network(**head), splits=['layer2.1']))
    return model.local_heads[0].segmentation


def test_every_key_has_a_section():
    fields = [field.name for field in dataclasses.fields(LocalSettings)]
    fields.remove('look_ahead')  # a part of `head`
    sections = re.findall(r'^### `(\w+)`$', PAGE, flags=re.MULTILINE)
    assert sections[: len(fields)] == [
        *CUTS,
        *(name for name in fields if name not in CUTS),
    ]


def test_the_example_trains():
    values = {}
    exec(BLOCKS[0].text, values)  # noqa: S102  our own page
    model = build(network() | values['model'])
    assert len(model.local_modules) == 4
    model.parse_losses(losses_of(model, batch(num_classes=3)))[0].backward()


@pytest.mark.parametrize('block', BLOCKS[1:], ids=str)
def test_every_head_of_the_page_trains(block):
    statements = re.split(r'^(?=head = )', block.text, flags=re.MULTILINE)[1:]
    assert statements
    for statement in statements:
        values = {}
        exec(statement, values)  # noqa: S102  our own page
        head = values['head']
        model = build(localized(network(), splits=['layer2.1'], head=head))
        losses = losses_of(model, batch(num_classes=3))
        model.parse_losses(losses)[0].backward()


@pytest.mark.parametrize(
    ('cls', 'setting', 'default'),
    [
        ('SubpixelReconstructionHead', 'channels', 32),
        ('InterpolatingReconstructionHead', 'channels', (128, 32, 12)),
        ('LocalSegmentationHead', 'loss_stride', 4),
        ('PixelContrastHead', 'channels', 128),
        ('PixelContrastHead', 'embedding_channels', 128),
        ('PixelContrastHead', 'temperature', 0.07),
        ('PixelContrastHead', 'max_pixels', 2048),
        ('PixelContrastHead', 'loss_weight', 1.0),
    ],
)
def test_defaults_are_those_of_the_classes(cls, setting, default):
    arguments = inspect.signature(MODELS.get(cls).__init__).parameters
    assert arguments[setting].default == default
    rows = re.findall(rf'^\| `{setting}` \|.*$', PAGE, flags=re.MULTILINE)
    assert any(str(default) in row for row in rows)


def test_presets_are_described():
    for preset, halves in PRESETS.items():
        (row,) = re.findall(rf'^\| `{preset}` \|.*$', PAGE, flags=re.MULTILINE)
        for half in halves.values():
            assert type_name(half) in row
    paper = complete_head('paper')['segmentation']
    assert (paper['channels'], paper['num_convs'], paper['dropout_ratio']) == (
        512,
        1,
        0.1,
    )
    assert 'of 512 channels, dropout 0.1' in PAGE


def test_what_a_local_head_takes_from_the_decode_head():
    half = local_half(
        num_classes=3,
        ignore_index=7,
        align_corners=True,
        norm_cfg={'type': 'IN'},
    )
    assert (half.num_classes, half.ignore_index, half.align_corners) == (3, 7, True)
    assert half.norm_cfg['type'] == 'IN'
    groups = {'type': 'GN', 'num_groups': 2}
    assert local_half(norm_cfg=groups).norm_cfg['type'] == 'BN'
    sigmoid = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}
    assert local_half(loss_decode=sigmoid).loss_decode.use_sigmoid
    one = local_half(num_classes=2, out_channels=1, threshold=0.2, loss_decode=sigmoid)
    assert (one.out_channels, one.threshold, one.loss_stride) == (1, 0.2, 1)


def test_class_weights_samplers_and_other_losses_of_the_decode_head_are_its_own():
    half = local_half(
        loss_decode=[
            {
                'type': 'CrossEntropyLoss',
                'class_weight': [1.0, 2.0, 3.0],
                'loss_weight': 0.3,
            },
            {'type': 'DiceLoss', 'loss_name': 'loss_dice'},
        ],
        sampler={'type': 'OHEMPixelSampler', 'thresh': 0.7, 'min_kept': 10},
        norm_cfg=BN,
    )
    assert half.sampler is None
    assert type(half.loss_decode).__name__ == 'CrossEntropyLoss'
    assert half.loss_decode.class_weight is None
    assert half.loss_decode.loss_weight == 1.0
    ohem = local_half(loss_decode={'type': 'OhemCrossEntropy'})
    assert type(ohem.loss_decode).__name__ == 'CrossEntropyLoss'


@pytest.mark.parametrize(
    ('written', 'meant'),
    [
        ('head.preset=lean', {'head.preset': 'lean'}),
        ('splits=layer3.12,', {'splits': ['layer3.12']}),
        (
            'recompute=[layer3.0,decode_head]',
            {'recompute': ['layer3.0', 'decode_head']},
        ),
        ('lean_loss=True', {'lean_loss': True}),
    ],
)
def test_settings_are_written_like_this_on_the_command_line(written, meant):
    assert written in PAGE
    parser = make_parser('', '')
    parser.add_argument('--local', nargs='+', action=KeyValues)
    assert parser.parse_args(['--local', written]).local == meant


def test_hooks_and_their_settings():
    for hook, settings in (
        ('LocalTrainingHook', ('on_divergence', 'monitor_interval')),
        ('CheckWeightsHook', ('drop',)),
        ('ClipModuleGradHook', ('max_norm', 'norm_type')),
        ('TimelineHook', ('begin', 'end')),
    ):
        arguments = inspect.signature(HOOKS.get(hook).__init__).parameters
        assert [name for name in arguments if name != 'self'] == list(settings)
        assert all(f'`{name}`' in PAGE for name in settings)


def test_a_child_config_removes_an_inherited_cut_with_none(tmp_path):
    (tmp_path / 'base.py').write_text(
        f'model = {localized(network(), num_modules=2)!r}\n'
    )
    (tmp_path / 'child.py').write_text(
        "_base_ = './base.py'\n"
        "model = dict(local=dict(num_modules=None, splits=['layer2.1', 'layer3.0']))\n"
    )
    assert len(build(read_config(tmp_path / 'child.py').model).local_modules) == 3

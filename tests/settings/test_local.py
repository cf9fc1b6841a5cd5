"""The `local` setting: one error that says what to do."""

import json

import pytest

from infopro_seg.settings import merged_local, with_cuts, without_cuts
from infopro_seg.settings.recompute_mode import RecomputeMode
from infopro_seg.units import units_of
from tests.backbones import BACKBONES
from tests.helpers import build, deeplabv3, localized, losses_of, resnet


def with_local(local):
    return {**deeplabv3(), 'type': 'InfoProEncoderDecoder', 'local': local}


@pytest.mark.parametrize(
    ('local', 'error', 'text'),
    [
        ({}, ValueError, 'exactly one of splits, num_modules, plan, gpu.*given: none'),
        (
            {'splits': ['layer1.0'], 'num_modules': 2},
            ValueError,
            'given: splits and num_modules',
        ),
        ({'num_module': 2}, ValueError, r"unknown settings \['num_module'\]"),
        ({'num_modules': 2.0}, TypeError, 'num_modules=2.0 must be an integer'),
        ({'num_modules': 0}, ValueError, 'num_modules=0 must be 1 .* or more'),
        ({'num_modules': 'three'}, TypeError, "num_modules='three' must be an integer"),
        ({'num_modules': True}, TypeError, 'num_modules=True must be an integer'),
        ({'num_modules': 11}, ValueError, 'num_modules=11 .* 9 units .* 1 .* to 10'),
        ({'splits': 'layer2.1'}, TypeError, r"must be a list: splits=\['layer2.1'\]"),
        ({'splits': [2]}, TypeError, "list of units' names, such as"),
        ({'splits': [], 'recompute': 3}, TypeError, 'recompute=3 must be a list'),
        ({'num_modules': 2, 'lean_loss': 'no'}, TypeError, "lean_loss='no' must be"),
        (
            {'num_modules': 2, 'head': {'segmentation': 16}},
            TypeError,
            'segmentation=16',
        ),
        (
            {'splits': [], 'head.segmetation.channels': 16},
            ValueError,
            'segmetation',
        ),
        ({'plan': 3}, TypeError, 'local.plan=3 must be the path'),
        ({'splts': ['layer2.1']}, ValueError, r"\['splts'\]; .*Nearest: splits"),
        ({'splits': ['layer3.12']}, ValueError, "'layer3.12' is not a unit"),
        (4, TypeError, 'local=4 must be a dict'),
        (
            {'num_modules': 2, 'weights': {'recon': 1}},
            ValueError,
            r"local.weights has unknown settings \['recon'\]",
        ),
        (
            {'num_modules': 2, 'weights': {'segmentation': (1, -1)}},
            ValueError,
            r'weights=\(1, -1\) must be finite and not negative',
        ),
        (
            {'num_modules': 2, 'head': {'segmentation': {'type': 'NoSuchHead'}}},
            KeyError,
            'NoSuchHead is not in the registry',
        ),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_before_anything_runs(local, error, text):
    with pytest.raises(error, match=text):
        build(with_local(local))


def test_an_inherited_way_to_cut_is_removed_by_none():
    model = build(with_local({'splits': None, 'num_modules': 3}))
    assert len(model.local_modules) == 3


def test_every_number_of_modules_up_to_the_number_of_units_trains():
    units = units_of(build(resnet()))
    model = build(localized(deeplabv3(), num_modules=len(units) + 1))
    assert [len(m.units) for m in model.local_modules] == [1] * len(units) + [0]


def test_the_decode_head_can_be_a_module_of_its_own():
    model = build(localized(deeplabv3(), splits=['layer4.1']))
    assert str(model.local_modules[-1]) == 'local_1 (decode head)'
    assert len(model.local_heads) == 1


def test_an_unsupported_backbone_is_refused_with_the_supported_ones():
    model = deeplabv3(
        {'type': 'FastSCNN', 'downsample_dw_channels': (8, 8)}, widths=(128,) * 3
    )
    with pytest.raises(TypeError, match='FastSCNN. Supported: .*ResNet.*register'):
        build(localized(model))


NO_HEAD = {'reconstruction': None, 'segmentation': None}


@pytest.mark.parametrize(
    ('local', 'name'),
    [
        ({'splits': ['layer2.0'], 'head': NO_HEAD}, r'local_0 \(stem ... layer2.0\)'),
        (
            {
                'splits': ['layer1.0', 'layer3.1'],
                'weights': {'reconstruction': (0, 1), 'segmentation': (0, 1)},
            },
            r'local_0 \(stem ... layer1.0\)',
        ),
        (
            {
                'splits': ['layer3.1', 'layer4.0'],
                'weights': {'reconstruction': (1, 0), 'segmentation': 0},
            },
            r'local_1 \(layer4.0 ... layer4.0\)',
        ),
        (
            {
                'splits': ['layer3.1'],
                'weights': {'reconstruction': (0, 1), 'segmentation': (0, 1)},
                'head': {'segmentation': None},
            },
            None,
        ),
    ],
    ids=str,
)
def test_a_module_without_any_loss_is_refused_unless_an_auxiliary_head_trains_it(
    local, name
):
    # The auxiliary head reads layer3.
    if name is None:
        losses = losses_of(build(localized(deeplabv3(), **local)))
        assert not any(key.startswith('local_0') for key in losses)
        assert losses['aux.loss_ce'].requires_grad
        return
    with pytest.raises(ValueError, match=f'nothing trains {name}.*local.weights'):
        build(localized(deeplabv3(), **local))


@pytest.mark.parametrize(
    ('backbone', 'split'),
    [
        (resnet(frozen_stages=1), 'layer1.1'),
        # Frozen by train(), not when it is built.
        ({**BACKBONES['mobilenet_v2'], 'frozen_stages': 0}, 'conv1'),
    ],
    ids=['resnet', 'mobilenet_v2'],
)
def test_a_frozen_module_needs_no_loss(backbone, split):
    widths = (64, 128, 256, 512) if split == 'layer1.1' else (8, 8, 24, 80)
    config = deeplabv3(backbone, widths, auxiliary=None)
    model = build(localized(config, splits=[split], head=NO_HEAD))
    assert set(losses_of(model)) == {'decode.loss_ce', 'decode.acc_seg'}


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / 'plan.json'
    plan = {
        'splits': ['layer2.0', 'layer3.1'],
        'recompute': ['layer3.0'],
        'predicted_peak_bytes': 1,
    }
    path.write_text(json.dumps(plan))
    return path


def test_a_plan_gives_splits_and_recompute(plan_file):
    model = build(with_local({'plan': str(plan_file)}))
    ends = [module.units[-1].name for module in model.local_modules[:-1]]
    assert ends == ['layer2.0', 'layer3.1']
    assert model.local_modules[1].recompute == {'layer3.0': RecomputeMode.WHOLE}


def test_a_missing_plan_is_named_with_the_way_to_make_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none.json does not exist.*plan.py'):
        build(with_local({'plan': str(tmp_path / 'none.json')}))


def test_a_gpu_memory_needs_the_batch_that_only_the_tools_know():
    with pytest.raises(ValueError, match='local.gpu_memory is .* tools/train.py'):
        build(with_local({'gpu_memory': '11GiB'}))


def test_a_dotted_key_changes_one_entry_of_a_preset():
    model = build(
        with_local(
            merged_local(
                {'splits': ['layer2.1'], 'head': 'paper'},
                {'num_modules': 2, 'head.segmentation.channels': 16},
            )
        )
    )
    (head,) = model.local_heads
    assert type(head.segmentation).__name__ == 'FCNHead'
    assert head.segmentation.channels == 16


def test_a_half_of_another_type_replaces_that_of_before():
    earlier = {'head': {'segmentation': {'type': 'A', 'x': 1}}}
    later = {'splits': [], 'head': {'segmentation': {'type': 'B'}}}
    assert merged_local(earlier, later)['head'] == {'segmentation': {'type': 'B'}}


def test_a_later_way_to_cut_replaces_all_earlier_ones():
    merged = merged_local(
        {'splits': ['layer1.0'], 'recompute': 'all', 'plan': None}, {'num_modules': 2}
    )
    assert merged == {'num_modules': 2, 'recompute': 'all'}
    assert merged_local(merged, {'plan': 'plan.json'}) == {'plan': 'plan.json'}
    assert without_cuts(merged) == {}
    assert with_cuts(merged, ['layer2.0']) == {
        'num_modules': None,
        'splits': ['layer2.0'],
        'recompute': [],
    }

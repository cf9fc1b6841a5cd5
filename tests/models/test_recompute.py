import pytest

from infopro_seg.models.recompute.run import resolve_recompute
from infopro_seg.settings.recompute_mode import RecomputeMode, parsed
from tests.helpers import build, deeplabv3, localized

NAMES = ('stem', 'layer1.0', 'layer1.1', 'layer2.0')


@pytest.mark.parametrize(
    ('recompute', 'expected'),
    [
        (None, ()),
        ([], ()),
        ('all', NAMES),
        (['all', 'decode_head'], (*NAMES, 'decode_head')),
        (['layer1.1'], ('layer1.1',)),
        (('layer1.1', 'decode_head', 'layer1.1'), ('layer1.1', 'decode_head')),
    ],
    ids=str,
)
def test_names(recompute, expected):
    whole = dict.fromkeys(expected, RecomputeMode.WHOLE)
    assert resolve_recompute(recompute, NAMES) == whole


def test_modes():
    names = ['layer1.1', 'decode_head:stepwise', 'all:stepwise']
    stepwise = dict.fromkeys((*NAMES, 'decode_head'), RecomputeMode.STEPWISE)
    stepwise['layer1.1'] = RecomputeMode.WHOLE
    assert resolve_recompute(names, NAMES) == stepwise
    everything = dict.fromkeys(NAMES, RecomputeMode.STEPWISE)
    assert resolve_recompute('all:stepwise', NAMES) == everything


def test_a_name_in_both_modes_is_refused():
    with pytest.raises(ValueError, match="'layer1.1' with and without"):
        resolve_recompute(['layer1.1', 'layer1.1:stepwise'], NAMES)


@pytest.mark.parametrize('mode', RecomputeMode)
def test_a_mode_is_spelled_as_it_is_read(mode):
    if mode:
        assert parsed(mode.spelled('layer1.1')) == ('layer1.1', mode)


def test_a_single_name_is_not_a_list():
    with pytest.raises(TypeError, match=r"recompute=\['layer1.0'\], or 'all'"):
        resolve_recompute('layer1.0', NAMES)


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('layer1.7', 'Nearest: layer1.1, layer1.0'),
        ('decode_heads', 'Nearest: decode_head'),
        ('layer1.7:stepwise', 'Nearest: layer1.1, layer1.0'),
        ('stem:twice', 'Nearest: stem'),
        (3, 'Allowed: all, decode_head, stem, layer1.0, layer1.1, layer2.0'),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(name, hint):
    with pytest.raises(ValueError, match=f'{name}.*{hint}'):
        resolve_recompute([name], NAMES)


def test_a_wrong_name_in_a_config_is_refused():
    with pytest.raises(ValueError, match='layer5.0'):
        build(localized(deeplabv3(), num_modules=2, recompute=['layer5.0']))

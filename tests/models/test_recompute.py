import pytest
from mmseg.models.decode_heads import FCNHead
from torch import nn

from infopro_seg.models.recompute import check_recompute, resolve_recompute
from tests.helpers import build, deeplabv3, localized, resnet

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
    assert resolve_recompute(recompute, NAMES) == frozenset(expected)


def test_a_single_name_is_not_a_list():
    with pytest.raises(TypeError, match=r"recompute=\['layer1.0'\], or 'all'"):
        resolve_recompute('layer1.0', NAMES)


@pytest.mark.parametrize(
    ('name', 'hint'),
    [
        ('layer1.7', 'Nearest: layer1.1, layer1.0'),
        ('decode_heads', 'Nearest: decode_head'),
        (3, 'Allowed: all, decode_head, stem, layer1.0, layer1.1, layer2.0'),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(name, hint):
    with pytest.raises(ValueError, match=f'{name}.*{hint}'):
        resolve_recompute([name], NAMES)


def test_a_wrong_name_in_a_config_is_refused():
    with pytest.raises(ValueError, match='layer5.0'):
        build(localized(deeplabv3(), num_modules=2, recompute=['layer5.0']))


def test_blocks_that_checkpoint_themselves_are_refused():
    model = deeplabv3(resnet(with_cp=True))
    with pytest.raises(ValueError, match='with_cp=True .* Set with_cp=False'):
        build(localized(model, num_modules=2, recompute='all'))
    build(localized(model, num_modules=2))


def test_a_decode_head_with_nothing_to_recompute_is_refused():
    settings = {'in_channels': 8, 'channels': 8, 'num_classes': 5}
    # Without a norm its convolution is followed by an in-place activation only.
    head = FCNHead(num_convs=1, concat_input=False, norm_cfg=None, **settings)
    check_recompute(frozenset({'stem'}), nn.Module(), head)
    with pytest.raises(ValueError, match='FCNHead has no ConvModule with norm'):
        check_recompute(frozenset({'decode_head'}), nn.Module(), head)
    head = FCNHead(num_convs=1, norm_cfg={'type': 'BN'}, **settings)
    check_recompute(frozenset({'decode_head'}), nn.Module(), head)

"""Contract: without a split the local segmentor is the stock one."""

import pytest

from tests.backbones import BACKBONES
from tests.helpers import (
    assert_equal,
    batch,
    build,
    deeplabv3,
    gradients,
    localized,
    losses_of,
)

MOBILENET = deeplabv3(
    {**BACKBONES['mobilenet_v2'], 'widen_factor': 1.0}, widths=(24, 32, 96, 320)
)


def step(model, data=None):
    losses = losses_of(model, data)
    model.parse_losses(losses)[0].backward()
    return losses, gradients(model), dict(model.named_buffers())


@pytest.mark.parametrize('local', [{'splits': []}, {'num_modules': 1}])
@pytest.mark.parametrize(
    'model',
    [deeplabv3(), deeplabv3(auxiliary=None), MOBILENET],
    ids=['resnet', 'no auxiliary head', 'mobilenet'],
)
def test_one_module_is_the_stock_segmentor_bit_for_bit(model, local):
    stock = step(build(model))
    ours = step(build(localized(model, **local)))
    for left, right in zip(stock, ours, strict=True):
        assert_equal(left, right)
    assert list(ours[0]) == list(stock[0])


def test_one_module_has_the_keys_of_the_stock_segmentor():
    stock = build(deeplabv3()).state_dict()
    assert list(build(localized(deeplabv3(), splits=[])).state_dict()) == list(stock)


def test_several_auxiliary_heads_and_a_neck_are_the_stock_ones():
    model = deeplabv3()
    auxiliary = model['auxiliary_head']
    model['auxiliary_head'] = [
        auxiliary,
        {**auxiliary, 'in_channels': 128, 'in_index': 1},
    ]
    assert_equal(step(build(model))[1], step(build(localized(model, splits=[])))[1])
    model = deeplabv3(widths=(16,) * 4)
    model['neck'] = {
        'type': 'FPN',
        'in_channels': [64, 128, 256, 512],
        'out_channels': 16,
        'num_outs': 4,
    }
    assert_equal(step(build(model))[1], step(build(localized(model, splits=[])))[1])


@pytest.mark.parametrize('size', [(65, 97), (64, 64)])
def test_walls_do_not_change_what_the_network_computes(size):
    # A wall cuts gradients, not values: the network's own losses stay the same.
    data = batch(size=size)
    # Dropout of the decode head is the only random draw in both.
    stock_model = build(deeplabv3(auxiliary=None))
    local_model = build(localized(deeplabv3(auxiliary=None), num_modules=4))
    local_model.load_state_dict(stock_model.state_dict(), strict=False)
    stock, local = losses_of(stock_model, data), losses_of(local_model, data)
    for name in stock:
        assert stock[name].equal(local[name]), name

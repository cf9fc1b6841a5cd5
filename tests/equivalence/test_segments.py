"""Contract: with end_to_end_every=1 the local segmentor is the stock one, bit for bit."""

import contextlib
import copy

import pytest
import torch

from infopro_seg.units import units_of
from tests.backbones import SIZE
from tests.helpers import (
    assert_equal,
    batch,
    build,
    deeplabv3,
    gradients,
    localized,
    losses_of,
)
from tests.units.networks import TRAINED, segmentor

RECOMPUTE = {
    'nothing': None,
    'whole': ['all', 'decode_head'],
    'stepwise': ['all:stepwise', 'decode_head:stepwise'],
}


def exact(model, splits, **local):
    local = {'splits': splits, 'end_to_end_every': 1, **local}
    return {**localized(model, splits=[]), 'local': local}


def cuts_of(model, every=1):
    """Splits behind every so many units, and so at least three segments."""
    names = [unit.name for unit in units_of(build(model).backbone)]
    return names[:-1:every] if len(names) > 3 else names


def step(model, data=None, dtype=None):
    """Everything that a step leaves behind."""
    precision = contextlib.nullcontext()
    if dtype is not None:
        precision = torch.autocast('cpu', dtype=dtype)
    with precision:
        losses = losses_of(model, data)
    drawn = torch.get_rng_state()
    total, _ = model.parse_losses(losses)
    total.backward()
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    return losses, gradients(model), buffers, {'drawn': drawn}


def assert_same_step(ours, stock):
    assert list(ours[0]) == list(stock[0])
    for left, right in zip(ours, stock, strict=True):
        assert_equal(left, right)


@pytest.mark.parametrize('name', TRAINED)
def test_every_family_trains_like_stock(name):
    model = segmentor(name)
    stock = {**copy.deepcopy(model), 'type': 'EncoderDecoder'}
    stock.pop('local', None)
    data = batch(size=SIZE)
    expected = step(build(stock), data)
    for every in (1, 2):
        ours = build(exact(stock, cuts_of(stock, every)))
        assert len(ours.local_modules) >= 3
        assert_same_step(step(ours, data), expected)

"""Stock heads of every kind work behind walls, with early backward, and exported."""

import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.models.decode_heads import point_head

from infopro_seg.checkpoints.export import export
from infopro_seg.settings.localize import local_type
from tests.equivalence.test_end_to_end import step
from tests.helpers import (
    assert_equal,
    build,
    early_backward,
)
from tests.models.cascades import point_sample
from tests.models.heads import HEADS
from tests.samples import some_of

#: Tried by `make test`.
SAMPLE = ('ASPP', 'UPer', 'four auxiliary heads')


@pytest.fixture(autouse=True)
def _operators(monkeypatch):
    if point_head.point_sample is None:
        monkeypatch.setattr(point_head, 'point_sample', point_sample)


def local_form(name, **local):
    model = copy.deepcopy(HEADS[name])
    return {**model, 'type': local_type(model['type']), 'local': local}


@pytest.mark.parametrize('name', some_of(HEADS, *SAMPLE))
def test_one_module_is_the_stock_segmentor_bit_for_bit(name):
    stock = step(build(HEADS[name]))
    ours = step(build(local_form(name, splits=[])))
    for left, right in zip(stock, ours, strict=True):
        assert_equal(left, right)
    assert list(ours[0]) == list(stock[0])


@pytest.mark.parametrize('name', some_of(HEADS, *SAMPLE))
def test_early_backward_gives_the_gradients_of_the_summed_losses(name):
    late = build(local_form(name, num_modules=3))
    early = copy.deepcopy(late)
    early.local_backward = early_backward
    late_losses, *late_step = step(late)
    early_losses, *early_step = step(early)
    for left, right in zip(late_step, early_step, strict=True):
        assert_equal(left, right)
    assert list(late_losses) == list(early_losses)
    assert not any(
        early_losses[key].requires_grad for key in early_losses if 'local' in key
    )


# The others draw random points or bases, after the draws of local heads.
@pytest.mark.parametrize(
    'name', some_of(sorted(HEADS.keys() - {'pointrend', 'LightHam'}), *SAMPLE)
)
def test_walls_change_gradients_and_not_the_losses_of_the_network(name):
    local = {'num_modules': 2, 'lean_loss': False}
    cut, stock = build(local_form(name, **local)), build(HEADS[name])
    cut.load_state_dict(stock.state_dict(), strict=False)
    for model in (cut, stock):
        # The draws of dropout would pair up differently.
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout2d):
                module.p = 0.0
    ours, theirs = step(cut)[0], step(stock)[0]
    assert_equal({key: ours[key] for key in theirs}, theirs)


@pytest.mark.parametrize('name', some_of(HEADS, *SAMPLE))
def test_the_exported_model_is_a_stock_one(name, tmp_path):
    config = ConfigDict(local_form(name, num_modules=3))
    weights = build(config).state_dict()
    torch.save({'state_dict': weights, 'meta': {}}, tmp_path / 'local.pth')
    report = export(
        Config({'default_scope': 'mmseg', 'model': config}),
        tmp_path / 'local.pth',
        tmp_path / 'stock.pth',
    )
    assert f'a stock {HEADS[name]["type"]} loads it strictly' in report


def test_auxiliary_heads_train_the_first_module_that_has_all_their_maps():
    splits = ['layer1.1', 'layer2.1', 'layer3.0']
    model = build(local_form('four auxiliary heads', splits=splits))
    assert model.auxiliary_module == {'aux_0': 0, 'aux_1': 1, 'aux_2': 3, 'aux_3': 3}
    model = build(local_form('an auxiliary head on two outputs', splits=splits))
    assert model.auxiliary_module == {'aux': 3}
    assert model._read_later == ({0, 2, 3},) * 3

"""num_modules=K: the same modules wherever the model is built, and even ones."""

import numpy as np
import pytest
import torch
from mmseg.models.decode_heads import FCNHead
from mmseg.registry import MODELS
from torch import nn

from infopro_seg.models import even_modules
from infopro_seg.models.weightless import WithoutStorage
from infopro_seg.units import units_of
from tests.helpers import NARROW, WIDTHS, build, deeplabv3, localized, resnet
from tests.models.cascades import CASCADES
from tests.models.test_cascade import local_cascade
from tests.samples import some_of

SMALL = deeplabv3(NARROW, WIDTHS)


def splits_of(model, **settings):
    return build({**localized(model, num_modules=4), **settings}).local['splits']


def test_neither_crop_nor_precision_nor_weights_nor_sync_bn_matter():
    expected = splits_of(SMALL)
    other = localized(SMALL, num_modules=4)
    other['data_preprocessor'] = {**other['data_preprocessor'], 'size': (32, 96)}
    assert build(other, seed=5).local['splits'] == expected
    with torch.autocast('cpu', dtype=torch.bfloat16):
        assert splits_of(SMALL) == expected
    synced = resnet(base_channels=8, stem_channels=8, norm_cfg={'type': 'SyncBN'})
    assert splits_of(deeplabv3(synced, WIDTHS)) == expected
    with WithoutStorage():
        model = localized(SMALL, num_modules=4)
        assert MODELS.build(model).local['splits'] == expected


@pytest.mark.parametrize(
    'name', some_of((n for n in CASCADES if n != 'pointrend'), 'ocrnet-resnet')
)
def test_every_build_cuts_at_the_same_places(name):
    found = []
    for i in range(6):
        # Addresses of freed memory come back in another order.
        junk = [torch.empty(64 * i + j) for j in range(5)]
        found.append(tuple(build(local_cascade(name, num_modules=3)).local['splits']))
        del junk
    assert len(set(found)) == 1


def test_measuring_draws_no_random_number():
    def draws(**local):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002  the host's generator
        MODELS.build(localized(SMALL, **local))
        return torch.rand(4), np.random.random(4)  # noqa: NPY002

    measured = draws(num_modules=3)
    splits = build(localized(SMALL, num_modules=3)).local['splits']
    named = draws(splits=splits)
    assert torch.equal(measured[0], named[0])
    assert (measured[1] == named[1]).all()


def test_a_network_that_cannot_be_measured_is_cut_evenly_and_that_is_said(monkeypatch):
    def fail(*_):
        raise RuntimeError('no forward without data')

    monkeypatch.setattr(even_modules._Measurement, 'module_bytes', fail)
    with pytest.warns(UserWarning, match='equal numbers of units.*no forward without'):
        model = build(localized(SMALL, num_modules=3))
    sizes = [len(module.units) for module in model.local_modules]
    assert max(sizes) - min(sizes) <= 1


@MODELS.register_module()
class PositionedHead(FCNHead):
    """Adds a table of positions, so that it takes images of 64x64 alone."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.positions = nn.Parameter(torch.zeros(1, self.in_channels, 8, 8))

    def _forward_feature(self, inputs):
        return self.convs(self._transform_inputs(inputs) + self.positions)


def positioned(size=(64, 64), crop=None):
    head = {**SMALL['decode_head'], 'type': 'PositionedHead', 'num_convs': 1}
    head = {**head, 'concat_input': False}
    del head['dilations']
    model = {**SMALL, 'decode_head': head}
    preprocessor = {**SMALL['data_preprocessor'], 'size': size}
    test_cfg = {'mode': 'slide', 'crop_size': crop, 'stride': crop}
    return {**model, 'data_preprocessor': preprocessor, 'test_cfg': test_cfg}


@pytest.mark.parametrize(
    'sizes', [((64, 64), None), ([64, 64], None), (None, (64, 64)), (None, 64)]
)
def test_a_network_of_one_size_is_measured_at_that(sizes, recwarn):
    model = positioned(*sizes)
    if sizes[0] is None:
        model['data_preprocessor'] = {**model['data_preprocessor'], 'size_divisor': 32}
    splits = splits_of(model)
    assert not [w for w in recwarn if 'equal numbers of units' in str(w.message)]
    assert len(splits) == 3


def test_a_network_of_an_unknown_size_is_cut_evenly():
    with pytest.warns(UserWarning, match='equal numbers of units.*RuntimeError'):
        splits_of(positioned((32, 32)))


@pytest.mark.exhaustive
def test_a_heavier_head_moves_the_cuts_but_stays_in_range():
    units = units_of(build(SMALL['backbone']))
    for count in range(1, len(units) + 2):
        model = build(localized(SMALL, num_modules=count))
        assert len(model.local_modules) == count


def test_the_measured_bytes_count_a_shared_map_once():
    saved = [{1: 10, 2: 5}, {2: 5, 3: 7}, {1: 10}]
    kept = even_modules._kept_between(saved)
    assert kept[0, 1] == 15
    assert kept[0, 2] == 22
    assert kept[0, 3] == 22
    assert kept[1, 3] == 22
    assert kept[2, 3] == 10


@pytest.mark.exhaustive
def test_the_table_of_bytes_is_the_same_in_every_build(monkeypatch):
    tables = []
    original = even_modules._Measurement.module_bytes

    def noted(self):
        tables.append(original(self))
        return tables[-1]

    monkeypatch.setattr(even_modules._Measurement, 'module_bytes', noted)
    for i in range(5):
        junk = [bytearray(997 * (i + j)) for j in range(40)]
        build(local_cascade('ocrnet-hrnet', num_modules=3))
        del junk
    assert all((table == tables[0]).all() for table in tables)

"""Contract: with end_to_end_every=1 training is that of stock, bit for bit."""

import contextlib
import copy
import gc
import weakref

import pytest
import torch

from infopro_seg.units import units_of
from tests.backbones import SIZE
from tests.engine.runs import runner_of
from tests.helpers import (
    assert_equal,
    batch,
    build,
    deeplabv3,
    gradients,
    localized,
    losses_of,
)
from tests.models.cascades import ocrnet_resnet
from tests.samples import some_of
from tests.units.networks import SAMPLE, TRAINED, segmentor

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


@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
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


def resnet_config(**changes):
    model = deeplabv3()
    auxiliary = {**model['auxiliary_head'], 'in_channels': 128, 'in_index': 1}
    model['auxiliary_head'] = [model['auxiliary_head'], auxiliary]
    return {**model, **changes}


CUTS = ['stem', 'layer2.0', 'layer2.1', 'layer4.0']


def with_neck():
    model = deeplabv3(widths=(16,) * 4)
    model['neck'] = {
        'type': 'FPN',
        'in_channels': [64, 128, 256, 512],
        'out_channels': 16,
        'num_outs': 4,
    }
    return model


def with_frozen_stages():
    model = resnet_config()
    model['backbone'] = {**model['backbone'], 'frozen_stages': 2}
    return model


SETTINGS = {
    'auxiliary heads': resnet_config(),
    'neck': with_neck(),
    'frozen stages': with_frozen_stages(),
}


@pytest.mark.parametrize('dtype', some_of([None, torch.bfloat16], None))
@pytest.mark.parametrize('recompute', some_of(RECOMPUTE, list(RECOMPUTE)[-1]))
@pytest.mark.parametrize('name', SETTINGS)
def test_heads_necks_and_frozen_stages_train_like_stock(name, recompute, dtype):
    stock = SETTINGS[name]
    ours = build(exact(stock, CUTS, recompute=RECOMPUTE[recompute]))
    assert_same_step(step(ours, dtype=dtype), step(build(stock), dtype=dtype))


def test_nothing_in_the_checkpoint_is_not_stock():
    ours = build(exact(resnet_config(), CUTS)).state_dict()
    assert list(ours) == list(build(resnet_config()).state_dict())


def test_losses_without_gradients_are_the_stock_ones():
    with torch.no_grad():
        ours = losses_of(build(exact(resnet_config(), CUTS)))
        stock = losses_of(build(resnet_config()))
    assert list(ours) == list(stock)
    assert_equal(ours, stock)


def test_a_cascade_trains_like_stock():
    stock = ocrnet_resnet()
    ours = {**copy.deepcopy(stock), 'type': 'InfoProCascadeEncoderDecoder'}
    ours['local'] = {'splits': ['layer1.0', 'layer3.0'], 'end_to_end_every': 1}
    assert_same_step(step(build(ours)), step(build(stock)))


def storages_after(model, kept):
    """Storages of unit outputs that are alive after the losses are known."""
    alive = []

    def note(module, args, result):
        if not torch.is_grad_enabled() or kept:
            alive.append(weakref.ref(result.untyped_storage()))

    for block in (*model.backbone.layer1, *model.backbone.layer3):
        for conv in (block.conv1, block.conv2):
            conv.register_forward_hook(note)
    losses = losses_of(model)
    gc.collect()
    return losses, [ref for ref in alive if ref() is not None]


@pytest.mark.parametrize('recompute', RECOMPUTE)
def test_what_runs_inside_a_segment_is_freed_at_once(recompute):
    cuts = ['layer1.1', 'layer2.1', 'layer3.1']
    model = build(exact(resnet_config(), cuts, recompute=RECOMPUTE[recompute]))
    losses, alive = storages_after(model, kept=False)
    assert not alive
    model.parse_losses(losses)[0].backward()
    # As a check of the check: without segments they are there.
    _, alive = storages_after(build(localized(resnet_config(), splits=[])), kept=True)
    assert len(alive) == 8


def test_a_segment_runs_once_more_and_changes_no_statistics_again():
    model = build(exact(resnet_config(), CUTS))
    runs, watched = [], []
    model.backbone.layer1[0].register_forward_pre_hook(lambda *_: runs.append(1))

    @contextlib.contextmanager
    def watch(module):
        watched.append(module.index)
        yield

    model.watchers = (watch,)
    losses = losses_of(model)
    statistics = {n: b.clone() for n, b in model.named_buffers()}
    assert (len(runs), watched) == (1, [0, 1, 2, 3, 4])
    model.parse_losses(losses)[0].backward()
    assert (len(runs), watched) == (2, [0, 1, 2, 3, 4])
    assert_equal(dict(model.named_buffers()), statistics)


def test_a_module_that_changes_its_input_is_refused():
    model = build(exact(resnet_config(), CUTS))
    block = model.backbone.layer2[1]

    def double(module, args):
        args[0].mul_(2)

    block.register_forward_pre_hook(double)
    with pytest.raises(RuntimeError, match=r'local_2 .* changes in place the map'):
        losses_of(model)


def test_memory_that_runs_out_in_backward_names_the_segment(tmp_path):
    model = exact(resnet_config(), CUTS)
    runner = runner_of(tmp_path, model=model)
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 1 GiB')

    runner.model.backbone.layer2[0].register_forward_hook(fail)
    with pytest.raises(torch.OutOfMemoryError, match=r'backward.*after local_1 '):
        runner.train()

"""What a user does with a family: train, copy, export; K=1 is the stock segmentor."""

import copy
import pickle

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.registry import MODELS

from infopro_seg.checkpoints.export import export
from infopro_seg.settings.splits import even_splits
from infopro_seg.units import units_of
from tests.backbones import BACKBONES, SIZE
from tests.equivalence.test_end_to_end import step
from tests.helpers import (
    assert_equal,
    batch,
    build,
    early_backward,
    gradients,
    localized,
    losses_of,
)
from tests.samples import some_of
from tests.units.networks import SAMPLE, TRAINED, segmentor


@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_one_module_is_the_stock_segmentor_bit_for_bit(name):
    data = batch(size=SIZE)
    stock = step(build(segmentor(name)), data)
    ours = step(build(localized(segmentor(name), splits=[])), data)
    for left, right in zip(stock, ours, strict=True):
        assert_equal(left, right)
    assert list(ours[0]) == list(stock[0])


@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_a_few_steps_with_early_backward_lower_the_loss_of_every_module(name):
    config = segmentor(name)
    names = [unit.name for unit in units_of(build(config).backbone)]
    model = build(localized(config, splits=list(even_splits(names, 3))))
    # Noise of dropout and dropped paths would hide small steps.
    for module in model.modules():
        for attribute in ('p', 'drop_prob'):
            if isinstance(getattr(module, attribute, None), float):
                setattr(module, attribute, 0.0)
    data = batch(size=SIZE)
    before = losses_of(model, data)
    model.local_backward = early_backward
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for _ in range(4):
        model.parse_losses(losses_of(model, data))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    after = losses_of(model, data)
    for k in range(3):
        prefix = f'local_{k}.' if k < 2 else 'decode.'
        keys = [key for key in before if key.startswith(prefix) and 'loss' in key]
        # The image is noise: not every part of a loss must sink. Frozen modules have
        # none.
        sums = [sum(losses[key].item() for key in keys) for losses in (before, after)]
        assert sums[1] < sums[0] or not keys, k


@pytest.mark.parametrize(
    'copied', [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_a_copy_trains_itself(name, copied):
    model = build(localized(segmentor(name), num_modules=3))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    data = batch(size=SIZE)
    clone = copied(model)
    theirs = step(clone, data)
    # Had the original run in its place, it would have gradients and other buffers.
    assert_equal(before, dict(model.state_dict()))
    assert not any(grad is not None for grad in gradients(model).values())
    for left, right in zip(step(model, data), theirs, strict=True):
        assert_equal(left, right)


@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_the_exported_segmentor_is_a_stock_one(name, tmp_path):
    config = ConfigDict(localized(segmentor(name), num_modules=3))
    weights = build(config).state_dict()
    torch.save({'state_dict': weights, 'meta': {}}, tmp_path / 'local.pth')
    out = tmp_path / 'stock.pth'
    cfg = Config({'default_scope': 'mmseg', 'model': config})
    report = export(cfg, tmp_path / 'local.pth', out)
    assert 'of local heads left out' in report
    stock = build(Config.fromfile(out.with_suffix('.py')).model, seed=1)
    stock.load_state_dict(torch.load(out, weights_only=True)['state_dict'])
    for key, value in stock.state_dict().items():
        assert torch.equal(value, weights[key]), key


@pytest.mark.parametrize('size', [(65, 97), (72, 100)])
@pytest.mark.parametrize('name', some_of(TRAINED, *SAMPLE))
def test_local_heads_fit_whatever_image_the_network_takes(name, size):
    model = segmentor(name)
    model['data_preprocessor']['size'] = size
    data = batch(size=size)
    try:
        expected = losses_of(build(model), data)
    except (AssertionError, RuntimeError, ValueError) as error:
        pytest.skip(f'mmseg itself refuses {size}: {str(error)[:60]}')
    units = [unit.name for unit in units_of(MODELS.build(BACKBONES[name]))]
    losses = losses_of(build(localized(model, splits=units)), data)
    assert expected.keys() <= losses.keys()
    assert all(loss.isfinite().all() for loss in losses.values())
    sum(loss for key, loss in losses.items() if 'loss' in key).backward()

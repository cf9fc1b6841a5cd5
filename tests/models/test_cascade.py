"""Cascades (OCRNet, PointRend) are local modules like any other segmentor."""

import copy

import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmseg.models.decode_heads import point_head
from mmseg.registry import MODELS

from infopro_seg.checkpoints.export import export
from infopro_seg.models import InfoProCascadeEncoderDecoder
from infopro_seg.models.probe import probe_backbone
from infopro_seg.models.readers import outputs_read
from infopro_seg.planner.make import Setting, make_plan
from infopro_seg.planner.profile.fake_step import track_step
from infopro_seg.planner.search.costs import Partition
from infopro_seg.planner.search.totals import predicted_peak, total_flops
from infopro_seg.settings.localize import localize, stock_model_config
from infopro_seg.units import units_of
from tests.equivalence.test_end_to_end import step
from tests.helpers import (
    assert_equal,
    batch,
    build,
    early_backward,
    gradients,
    losses_of,
)
from tests.models.cascades import CASCADES, point_sample
from tests.runs import run_training
from tests.samples import some_of


@pytest.fixture(autouse=True)
def _operators(monkeypatch):
    if point_head.point_sample is None:
        monkeypatch.setattr(point_head, 'point_sample', point_sample)


def local_cascade(name, **local):
    return {
        **CASCADES[name](),
        'type': 'InfoProCascadeEncoderDecoder',
        'local': local or {'num_modules': 3},
    }


@pytest.mark.parametrize('name', CASCADES)
def test_one_module_is_the_stock_cascade_bit_for_bit(name):
    stock = step(build(CASCADES[name]()))
    ours = step(build(local_cascade(name, splits=[])))
    for left, right in zip(stock, ours, strict=True):
        assert_equal(left, right)
    assert list(ours[0]) == list(stock[0])
    assert any(key.startswith('decode_1.') for key in ours[0])


@pytest.mark.parametrize(
    'recompute',
    [None, ['all', 'decode_head'], ['all:stepwise', 'decode_head:stepwise']],
)
@pytest.mark.parametrize('name', some_of(CASCADES, 'ocrnet-resnet'))
def test_early_backward_gives_the_gradients_of_the_summed_losses(name, recompute):
    late = build(local_cascade(name, num_modules=3, recompute=recompute))
    early = copy.deepcopy(late)
    early.local_backward = early_backward
    assert_equal(
        *({**step(model)[1], **dict(model.named_buffers())} for model in (late, early))
    )
    assert len(late.local_heads) == 2
    if recompute:
        plain = build(local_cascade(name))
        assert_equal(step(plain)[1], gradients(late))
        assert_equal(dict(plain.named_buffers()), dict(late.named_buffers()))


def test_a_loss_reaches_its_own_module_only():
    model = build(local_cascade('ocrnet-resnet'))
    losses = losses_of(model)
    sum(v for k, v in losses.items() if 'loss' in k and 'decode' in k).backward()
    last = {id(p) for p in model.local_modules[-1].parameters(model.backbone)}
    for key, parameter in model.backbone.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in last), key


def test_what_any_stage_reads_crosses_the_wall():
    model = build(local_cascade('ocrnet-resnet', splits=['layer3.1', 'layer4.0']))
    assert model._read_later == (frozenset({2, 3}),) * 2
    probe = probe_backbone(model.backbone, units_of(model.backbone))
    assert outputs_read(model.decode_head, probe.outputs) == {2, 3}
    assert outputs_read(model.decode_head[0], probe.outputs) == {2}


def test_the_local_heads_follow_the_last_stage():
    config = local_cascade('ocrnet-resnet')
    config['decode_head'][0]['align_corners'] = True
    config['decode_head'][1]['ignore_index'] = 7
    head = build(config).local_heads[0].segmentation
    assert (head.num_classes, head.ignore_index, head.align_corners) == (5, 7, False)
    assert head.norm_cfg == config['decode_head'][1]['norm_cfg']


def test_norm_layers_are_those_of_the_last_stage_that_has_some():
    # The points of PointRend are not normalised.
    config = local_cascade('pointrend')
    norm = {'type': 'SyncBN', 'requires_grad': True}
    config['decode_head'][0]['norm_cfg'] = norm
    model = MODELS.build(ConfigDict(config))
    assert model.local_heads[0].segmentation.norm_cfg == norm


def test_lean_loss_reaches_all_stages():
    plain = losses_of(build(local_cascade('ocrnet-resnet')))
    lean_model = build(local_cascade('ocrnet-resnet', num_modules=3, lean_loss=True))
    assert all('loss_by_feat' in vars(stage) for stage in lean_model.decode_head)
    lean = losses_of(lean_model)
    assert list(lean) == list(plain)
    for key in (key for key in plain if 'loss' in key):
        torch.testing.assert_close(lean[key], plain[key], msg=key)


def test_lean_loss_names_the_stage_that_it_does_not_fit():
    with pytest.warns(UserWarning, match=r'no effect on decode_head\.1: PointHead'):
        build(local_cascade('pointrend', num_modules=2, lean_loss=True))


@pytest.mark.parametrize('name', ['ocrnet-resnet', 'pointrend'])
def test_an_exported_cascade_is_a_stock_one(name, tmp_path):
    config = ConfigDict(local_cascade(name))
    runner = run_training(config, tmp_path / 'run', iterations=2)
    runner.save_checkpoint(str(tmp_path), 'trained.pth')
    out = tmp_path / 'stock.pth'
    cfg = Config({'default_scope': 'mmseg', 'model': config})
    report = export(cfg, tmp_path / 'trained.pth', out)
    assert 'a stock CascadeEncoderDecoder loads it strictly' in report
    written = Config.fromfile(out.with_suffix('.py')).model
    assert written.type == 'CascadeEncoderDecoder'
    stock = build(written, seed=2)
    stock.load_state_dict(torch.load(out, weights_only=True)['state_dict'])
    image = torch.randn(1, 3, 64, 64)
    stock.eval()
    runner.model.eval()
    with torch.no_grad():
        left, right = (net.predict(image)[0] for net in (stock, runner.model))
    assert torch.equal(left.seg_logits.data, right.seg_logits.data)


@pytest.mark.exhaustive
def test_the_stock_config_is_found_again():
    config = Config({'model': CASCADES['ocrnet-hrnet']()})
    settings = localize(config, {'num_modules': 2})
    assert settings['model']['type'] == 'InfoProCascadeEncoderDecoder'
    assert isinstance(build(config.model), InfoProCascadeEncoderDecoder)
    stock = {**CASCADES['ocrnet-hrnet'](), 'type': 'mmseg.CascadeEncoderDecoder'}
    assert stock_model_config(config.model) == stock


def test_training_lowers_the_losses(tmp_path):
    runner = run_training(local_cascade('ocrnet-resnet'), tmp_path, iterations=1)
    model, data = runner.model, batch()
    before = losses_of(model, data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(8):
        optimizer.zero_grad()
        model.parse_losses(losses_of(model, data))[0].backward()
        optimizer.step()
    after = losses_of(model, data)
    for key in before:
        if 'loss' in key:
            assert after[key] < before[key], key


@pytest.mark.exhaustive
@pytest.mark.parametrize('name', CASCADES)
def test_the_planner_predicts_a_cascade(name):
    config = local_cascade(name)
    setting = Setting(config, batch_size=4, crop_size=(128, 192))
    chain = setting.measured()
    names = [unit.name for unit in chain.units]
    for splits in ([], [names[len(names) // 2]], [names[1], names[-2]]):
        config['local'] = {'splits': splits}
        tracked = track_step(config, batch_size=4, crop_size=(128, 192))
        ends = (*(names.index(split) + 1 for split in splits), len(names))
        partition = Partition(ends)
        # As for the backbones of these cascades without a cascade.
        rtol = 0.03 if name == 'ocrnet-hrnet' else 0.003
        assert predicted_peak(chain, partition) == pytest.approx(
            tracked.peak_bytes, rel=rtol
        )
        # Maps behind a wall need no gradient; only that of the last one is deducted.
        rtol = 0.005 if splits else 1e-6
        assert total_flops(chain, partition) == pytest.approx(tracked.flops, rel=rtol)
    plan = make_plan(setting, num_modules=3, recompute='always')
    assert plan.recompute[-1] == 'decode_head'
    assert plan.predicted_peak_bytes < plan.end_to_end_peak_bytes

"""What a pipeline cannot do is refused in a sentence, before anything trains."""

import re

import pytest
from mmengine.config import Config
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from infopro_seg.engine.data_share import DataShare
from infopro_seg.models import owners_of
from infopro_seg.pipeline import Layout, num_stages_of
from infopro_seg.pipeline.checks import (
    check_backend,
    check_config,
    check_stages,
    let_share,
)
from infopro_seg.settings import LocalSettings
from infopro_seg.settings.splits import stage_ranges
from tests.helpers import NARROW, WIDTHS, build, deeplabv3, localized, resnet


@pytest.mark.parametrize(
    ('settings', 'told'),
    [
        ({'optim_wrapper': {'clip_grad': {'max_norm': 1}}}, 'ClipModuleGradHook'),
        ({'optim_wrapper': {'type': 'AmpOptimWrapper'}}, "dtype='bfloat16'"),
        (
            {'optim_wrapper': {'type': 'AmpOptimWrapper', 'loss_scale': 'dynamic'}},
            'loss_scale=dict(enabled=False)',
        ),
        (
            {'custom_hooks': [{'type': 'LossGuardHook', 'on_divergence': 'skip'}]},
            "on_divergence='skip' of LossGuardHook",
        ),
        ({'randomness': {'diff_rank_seed': True}}, 'set it to False'),
        ({'compile': True}, 'remove compile'),
    ],
)
def test_settings_that_need_all_stages_at_once(settings, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        check_config(Config(settings))


def test_settings_that_do_not_are_taken():
    check_config(Config({}))
    wrapper = {'type': 'AmpOptimWrapper', 'loss_scale': {'enabled': False}}
    hooks = [{'type': 'LocalTrainingHook', 'on_divergence': 'stop'}]
    check_config(Config({'optim_wrapper': wrapper, 'custom_hooks': hooks}))


@pytest.mark.parametrize(
    ('backends', 'device', 'told'),
    [
        ('cpu:gloo,cuda:gloo', 'cuda', "set env_cfg.dist_cfg.backend='nccl'"),
        ('cuda:nccl', 'cpu', "set env_cfg.dist_cfg.backend='gloo'"),
        ('cpu:mpi,cuda:mpi', 'cpu', 'it has cpu:mpi,cuda:mpi'),
    ],
)
def test_wrong_backends(backends, device, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        check_backend(backends, device)


def test_right_backends():
    check_backend('cpu:gloo,cuda:nccl', 'cpu')
    check_backend('cpu:gloo,cuda:nccl', 'cuda')
    check_backend('cuda:nccl', 'cuda')


@pytest.mark.parametrize(
    ('local', 'told'),
    [
        ({'pipeline': 0}, 'local.pipeline=0 must be the number of stages'),
        ({'pipeline': True}, 'local.pipeline=True must be'),
        ({'pipeline': []}, 'local.pipeline=[] must be'),
        ({'pipeline': '2'}, "local.pipeline='2' must be"),
        ({'pipeline': [1, 0]}, 'local.pipeline=[1, 0] must be'),
        ({'pipeline': 2, 'end_to_end_every': 4}, 'remove one of the two'),
        ({'pipeline': 2, 'deep_supervision': True}, 'remove one of the two'),
        ({'pipeline': 2, 'random_streams': 'process'}, "set 'module', or remove it"),
        ({'random_streams': 'modul'}, "random_streams='modul' is unknown"),
    ],
)
def test_local_settings(local, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        LocalSettings.parse({'num_modules': 3, **local})


def test_a_pipeline_has_random_numbers_by_module():
    parsed = LocalSettings.parse({'num_modules': 3, 'pipeline': [2, 1]})
    assert (parsed.pipeline, parsed.random_streams) == ((2, 1), 'module')
    assert LocalSettings.parse({'num_modules': 3}).random_streams == 'process'


def test_modules_of_stages():
    assert stage_ranges(2, 5) == (range(2), range(2, 5))
    assert stage_ranges([1, 3, 1], 5) == (range(1), range(1, 4), range(4, 5))
    with pytest.raises(ValueError, match='needs as many local modules, and'):
        stage_ranges(3, 2)
    with pytest.raises(ValueError, match='is for 3 local modules, and .* 4'):
        stage_ranges([1, 2], 4)


@pytest.mark.parametrize(('stages', 'replicas'), [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_every_process_has_one_place(stages, replicas):
    layout = Layout.of(stages, stages * replicas)
    places = [(layout.stage(r), layout.replica(r)) for r in range(stages * replicas)]
    assert len(set(places)) == stages * replicas
    assert [layout.rank(*place) for place in places] == list(range(stages * replicas))
    # Process 0 logs and saves.
    assert layout.stage(0) == stages - 1
    for replica in range(replicas):
        ranks = layout.ranks_of_replica(replica)
        assert [layout.stage(rank) for rank in ranks] == list(range(stages))
    for stage in range(stages):
        ranks = layout.ranks_of_stage(stage)
        assert [layout.replica(rank) for rank in ranks] == list(range(replicas))


def test_stages_must_divide_the_processes():
    with pytest.raises(ValueError, match='pipeline=2 does not divide 3 pro.* 4'):
        Layout.of(2, 3)


def test_a_stage_without_anything_to_train():
    backbone = resnet(stem_channels=8, base_channels=8, frozen_stages=1)
    config = deeplabv3(backbone, widths=WIDTHS, auxiliary=None)
    model = build(localized(config, splits=['layer1.1', 'layer3.0']))
    with pytest.raises(ValueError, match=r'ends in local_0 .* frozen.*pipeline=\[1, 1'):
        check_stages(model, stage_ranges(3, 3))
    check_stages(model, stage_ranges([2, 1], 3))


def test_a_head_that_looks_into_the_next_stage():
    config = deeplabv3(NARROW, WIDTHS)
    local = {'splits': ['layer1.0', 'layer2.1'], 'head': {'look_ahead': 2}}
    model = build(localized(config, **local))
    check_stages(model, stage_ranges(1, 3))
    for index, sizes in enumerate(([1, 2], [2, 1])):
        told = f'head of local_{index} look into the next stage'
        with pytest.raises(ValueError, match=told):
            check_stages(model, stage_ranges(sizes, 3))


def test_shared_weights_belong_to_one_module():
    config = deeplabv3(NARROW, WIDTHS)
    model = build(localized(config, splits=['layer1.0']))
    model.backbone.layer1[1].conv1 = model.backbone.layer1[0].conv1
    with pytest.raises(ValueError, match=r'layer1\.\d\.conv1.* local_0 and to local_1'):
        owners_of(model)


class Stream(IterableDataset):
    """Images without numbers."""

    def __iter__(self):
        return iter(range(4))


def test_loaders_draw_the_share_of_their_replica():
    data = list(range(10))
    for sampler in (DefaultSampler(data, shuffle=False), InfiniteSampler(data, False)):
        loader = DataLoader(data, 2, sampler=sampler)
        let_share(loader, DataShare(1, 2))
        assert next(iter(loader)).tolist() == [1, 3]
    assert len(DefaultSampler(data)) == 10
    uneven = DefaultSampler(data[:5], shuffle=False)
    let_share(DataLoader(data[:5], 1, sampler=uneven), DataShare(1, 2))
    assert list(uneven) == [1, 3, 0]
    down = DefaultSampler(data[:5], shuffle=False, round_up=False)
    let_share(DataLoader(data[:5], 1, sampler=down), DataShare(1, 2))
    assert (list(down), len(down)) == ([1, 3], 2)


def test_loaders_of_unknown_order_are_refused():
    unknown = DataLoader([1], sampler=SequentialSampler([1]))
    for loader in (DataLoader(Stream(), 2), unknown):
        with pytest.raises(ValueError, match='must draw the same images'):
            let_share(loader, DataShare(0, 1))


def test_one_process_has_no_stages():
    local = {'num_modules': 4, 'pipeline': [1, 3]}
    cfg = Config({'model': {'type': 'InfoProEncoderDecoder', 'local': local}})
    assert num_stages_of(cfg, 'none') == 1
    assert num_stages_of(cfg, 'pytorch') == 2
    assert num_stages_of(Config({'model': {'type': 'EncoderDecoder'}}), 'pytorch') == 1
    assert num_stages_of(Config({}), 'pytorch') == 1

"""What the command line makes of a config."""

import argparse
import os

import pytest
import torch
from mmengine.config import Config
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from infopro_seg.cli.config import (
    add_config_arguments,
    connected_processes,
    enable_amp,
    enable_tta,
    load_config,
    save_predictions,
)
from infopro_seg.evaluation.class_iou_metric import ClassIoUMetric
from infopro_seg.planner.from_config import settle_cuts
from infopro_seg.settings.config import divide_batch
from tests.helpers import build, deeplabv3, localized


def parse(*args):
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return parser.parse_args([str(arg) for arg in args])


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / 'model.py'
    path.write_text(
        "optim_wrapper = dict(type='OptimWrapper',\n"
        "    optimizer=dict(type='SGD', lr=0.1))\n"
        'total_batch_size = 8\n'
        "train_dataloader = dict(batch_size=1, dataset=dict(type='CamVidDataset',\n"
        "    data_root='data/camvid'))\n"
    )
    return path


def test_arguments_reach_the_config(config_file):
    cfg = load_config(
        parse(
            config_file,
            '--work-dir',
            'runs/a',
            '--data-root',
            '/data/other',
            '--cfg-options',
            'optim_wrapper.optimizer.lr=0.5',
        )
    )
    assert cfg.work_dir == 'runs/a'
    assert cfg.train_dataloader.dataset.data_root == '/data/other'
    assert cfg.optim_wrapper.optimizer.lr == 0.5
    assert cfg.train_dataloader.batch_size == 8
    assert cfg.launcher == 'none'


def test_the_work_dir_is_named_after_the_config(config_file):
    assert load_config(parse(config_file)).work_dir == 'work_dirs/model'


def test_a_missing_config_is_named_with_the_folder_of_ours(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none.py does not exist.*configs'):
        load_config(parse(tmp_path / 'none.py'))


@pytest.mark.parametrize(('processes', 'each'), [(1, 8), (2, 4), (8, 1)])
def test_the_total_batch_is_divided_over_the_processes(processes, each):
    cfg = Config({'total_batch_size': 8, 'train_dataloader': {}})
    divide_batch(cfg, processes)
    assert cfg.train_dataloader.batch_size == each


def test_a_total_batch_that_does_not_divide_is_refused():
    cfg = Config({'total_batch_size': 8, 'train_dataloader': {}})
    with pytest.raises(ValueError, match=r'=8 is not divisible by 3 .*\[1, 2, 4, 8\]'):
        divide_batch(cfg, 3)


def test_the_hosts_batch_size_stays_without_a_total():
    cfg = Config({'train_dataloader': {'batch_size': 3}})
    divide_batch(cfg, 2)
    assert cfg.train_dataloader.batch_size == 3


def test_several_cpu_processes_get_a_wrapper_that_torch_accepts(
    config_file, monkeypatch
):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    monkeypatch.setenv('WORLD_SIZE', '2')
    cfg = load_config(parse(config_file, '--launcher', 'pytorch'))
    assert cfg.model_wrapper_cfg.device_ids is None
    assert cfg.env_cfg.dist_cfg.backend == 'gloo'
    assert cfg.train_dataloader.batch_size == 4


def test_several_processes_exchange_scores_without_files(tmp_path, monkeypatch):
    # Machines without a common disk have no common folder for them.
    path = tmp_path / 'model.py'
    path.write_text(
        "default_scope = 'mmseg'\n"
        "val_evaluator = [dict(type='IoUMetric'), dict(type='CityscapesMetric')]\n"
        "test_evaluator = dict(type='IoUMetric', collect_device='cpu')\n"
    )
    assert 'collect_device' not in load_config(parse(path)).val_evaluator[0]
    monkeypatch.setenv('WORLD_SIZE', '2')
    cfg = load_config(parse(path, '--launcher', 'pytorch'))
    assert cfg.val_evaluator[0].collect_device == 'gpu'
    # Its results may be large; and what a config says stays.
    assert 'collect_device' not in cfg.val_evaluator[1]
    assert cfg.test_evaluator.collect_device == 'cpu'


class RoadMetric(IoUMetric):
    def __init__(self, ignore_index=255, prefix=None):
        super().__init__(ignore_index=ignore_index, prefix=prefix)


class Forwards(IoUMetric):
    def __init__(self, *args, extra=None, **kwargs):
        super().__init__(*args, **kwargs)


class ForwardsToRoad(RoadMetric):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)


class SetsItself(IoUMetric):
    def __init__(self, **kwargs):
        super().__init__(collect_device='cpu', **kwargs)


class SetsADefault(IoUMetric):
    def __init__(self, **kwargs):
        kwargs.setdefault('collect_device', 'cpu')
        super().__init__(**kwargs)


class Inherits(SetsItself):
    pass


class Plain(IoUMetric):
    pass


class NamesIt(IoUMetric):
    def __init__(self, collect_device='cpu', output_dir=None):
        super().__init__(collect_device=collect_device, output_dir=output_dir)


@pytest.mark.parametrize(
    ('cls', 'device', 'writes'),
    [
        (IoUMetric, 'gpu', True),
        (ClassIoUMetric, 'gpu', True),
        (Plain, 'gpu', True),
        (Forwards, 'gpu', True),
        (NamesIt, 'gpu', True),
        (RoadMetric, 'cpu', False),
        (ForwardsToRoad, 'cpu', False),
        (SetsItself, 'cpu', True),
        (SetsADefault, 'cpu', True),
        (Inherits, 'cpu', True),
    ],
)
def test_what_is_added_for_the_user_never_stops_a_metric(
    tmp_path, monkeypatch, cls, device, writes
):
    # What the stock Runner builds must be built with our changes, too.
    METRICS.build({'type': cls})
    monkeypatch.setenv('WORLD_SIZE', '2')
    read = Config({'val_evaluator': {'type': cls}, 'test_evaluator': [{'type': cls}]})
    monkeypatch.setattr('infopro_seg.cli.config.read_config', lambda _: read)
    cfg = load_config(parse('any.py', '--launcher', 'pytorch'))
    assert METRICS.build(cfg.val_evaluator).collect_device == device
    if not writes:
        with pytest.raises(ValueError, match='no metric of test_evaluator writes'):
            save_predictions(cfg, 'out')
        return
    save_predictions(cfg, str(tmp_path / 'out'))
    built = METRICS.build(cfg.test_evaluator[0])
    assert (built.output_dir, built.collect_device) == (str(tmp_path / 'out'), device)


@pytest.mark.parametrize(
    ('launcher', 'rank', 'world_size'),
    [
        ('slurm', 'SLURM_PROCID', 'SLURM_NTASKS'),
        ('mpi', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
    ],
)
def test_a_cluster_divides_the_total_batch_too(
    config_file, monkeypatch, launcher, rank, world_size
):
    # The host reads these variables only when it connects the processes.
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'):
        monkeypatch.setenv(name, '0')
    with pytest.raises(RuntimeError, match=f'--launcher {launcher} needs {rank} and'):
        load_config(parse(config_file, '--launcher', launcher))
    monkeypatch.setenv(rank, '3')
    monkeypatch.setenv(world_size, '4')
    cfg = load_config(parse(config_file, '--launcher', launcher))
    assert cfg.train_dataloader.batch_size == 2
    assert os.environ['RANK'] == '3'


def test_sync_bn_becomes_bn_in_cpu_processes_and_that_is_said(tmp_path, monkeypatch):
    path = tmp_path / 'model.py'
    path.write_text(
        'model = dict(\n'
        "    backbone=dict(norm_cfg=dict(type='SyncBN', requires_grad=True)),\n"
        "    auxiliary_head=[dict(norm_cfg=dict(type='SyncBN'), channels=(1, 2))])\n"
    )
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.warns(UserWarning, match='no SyncBN for CPUs'):
        cfg = load_config(parse(path, '--launcher', 'pytorch'))
    assert 'SyncBN' not in cfg.pretty_text
    assert cfg.model.backbone.norm_cfg == {'type': 'BN', 'requires_grad': True}
    assert 'SyncBN' in load_config(parse(path)).pretty_text


def test_amp_is_refused_without_a_gpu(config_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(RuntimeError, match='--amp needs a CUDA device'):
        enable_amp(Config.fromfile(config_file))


def test_amp_sets_the_wrapper(config_file, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    cfg = Config.fromfile(config_file)
    enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'


def test_amp_is_refused_with_a_foreign_wrapper(config_file):
    cfg = Config.fromfile(config_file)
    cfg.optim_wrapper.type = 'ApexOptimWrapper'
    with pytest.raises(ValueError, match="'OptimWrapper' .* got 'ApexOptimWrapper'"):
        enable_amp(cfg)


def tta_config():
    return Config(
        {
            'model': {'type': 'EncoderDecoder'},
            'tta_pipeline': [
                {'type': 'LoadImageFromFile'},
                {
                    'type': 'TestTimeAug',
                    'transforms': [
                        [{'type': 'Resize', 'scale_factor': r} for r in (0.5, 1.0)],
                        [{'type': 'RandomFlip', 'prob': p} for p in (0.0, 1.0)],
                    ],
                },
            ],
            'test_dataloader': {'dataset': {'type': 'A', 'pipeline': []}},
        }
    )


@pytest.mark.parametrize(
    ('flip', 'probabilities'), [(True, [0.0, 1.0]), (False, [0.0])]
)
def test_tta_averages_scales_with_or_without_mirror_images(flip, probabilities):
    cfg = tta_config()
    enable_tta(cfg, flip=flip)
    transforms = cfg.test_dataloader.dataset.pipeline[1].transforms
    assert [t.scale_factor for t in transforms[0]] == [0.5, 1.0]
    assert [t.prob for t in transforms[1]] == probabilities
    assert cfg.model.type == 'mmseg.SegTTAModel'
    assert cfg.model.module.type == 'EncoderDecoder'


def test_tta_without_a_pipeline_is_refused():
    cfg = tta_config()
    cfg.pop('tta_pipeline')
    with pytest.raises(ValueError, match='--tta needs a tta_pipeline'):
        enable_tta(cfg, flip=True)


@pytest.mark.exhaustive
def test_gpu_memory_is_planned_for_the_batch_of_the_config(monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    cfg = Config(
        {
            'default_scope': 'mmseg',
            'model': localized(deeplabv3(), num_modules=2),
            'optim_wrapper': {'type': 'OptimWrapper', 'optimizer': {'type': 'SGD'}},
            'train_dataloader': {'batch_size': 2},
        }
    )
    cfg.model.local = {'gpu_memory': '24GiB'}
    settle_cuts(cfg)
    assert cfg.model.local.splits == []
    build(cfg.model)
    cfg.model.local = {'gpu_memory': '3GiB'}
    with pytest.raises(
        ValueError, match='a GPU of 3.00 GiB has nothing left.*--reserve'
    ):
        settle_cuts(cfg)


@pytest.mark.parametrize('local', [{'splits': ['layer2.1']}, {'num_modules': 3}])
def test_what_does_not_depend_on_the_run_is_left_to_the_model(local):
    cfg = Config({'model': localized(deeplabv3(), **local)})
    settle_cuts(cfg)
    assert cfg.model.local == local


def test_processes_part_when_the_work_is_done(monkeypatch):
    for name, value in {
        'RANK': '0',
        'WORLD_SIZE': '1',
        'MASTER_ADDR': '127.0.0.1',
        'MASTER_PORT': '0',
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with connected_processes(Config({'launcher': 'pytorch'})):
        assert torch.distributed.get_backend() == 'gloo'
    assert not torch.distributed.is_initialized()
    with connected_processes(Config({'launcher': 'none'})):
        assert not torch.distributed.is_initialized()

"""Makes a config for the Runner from a config file and command-line settings."""

import argparse
import copy
import gc
import inspect
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_distributed
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from ..arguments import leaves_open, takes
from ..pipeline import Layout, num_stages_of
from ..planner.from_config import settle_cuts
from ..scopes import class_of, in_mmseg, scope_of
from ..settings.config import (
    as_list,
    divide_batch,
    leaf_datasets,
    read_config,
    type_name,
)
from ..settings.localize import RUN_HOOK, is_local, localize, stock_model_config
from .run import CONFIG_HELP, KeyValues


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of a run, under mmseg's names."""
    add_data_arguments(parser)
    parser.add_argument(
        '--work-dir',
        help='folder of logs and checkpoints; default: work_dirs/<name of the config>',
    )
    parser.add_argument(
        '--local',
        nargs='+',
        action=KeyValues,
        metavar='KEY=VALUE',
        help='cut the model into local modules, e.g. num_modules=4; works on any '
        'config of a supported model',
    )
    parser.add_argument(
        '--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none'
    )
    # Launchers of torch before 2.0 pass this argument instead of the variable.
    parser.add_argument(
        '--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS
    )


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the config, its data and changes to it."""
    parser.add_argument('config', help=CONFIG_HELP)
    parser.add_argument(
        '--data-root', help='sets the root folder of every data set in the config'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=KeyValues,
        metavar='KEY=VALUE',
        help='override settings, e.g. train_cfg.max_iters=100',
    )


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option to trust pickled objects in checkpoints."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load pickled objects; they can run any code: trusted sources only',
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read a config, apply the shared arguments to it and complete it for a run.

    Args:
        args: From a parser with `add_config_arguments`.

    Raises:
        FileNotFoundError: if the config file does not exist.
        ValueError: if the total batch is not divisible by the number of processes, or
            if the ``local`` setting is wrong.
        RuntimeError: if the processes were not started by the launcher.
    """
    from ..datasets import set_data_root

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    _name_processes(args.launcher)
    cfg = read_config(args.config)
    if args.local:
        localize(cfg, args.local)
    cfg.launcher = args.launcher
    if args.cfg_options:
        cfg.merge_from_dict(args.cfg_options)
    if args.data_root:
        set_data_root(cfg, args.data_root)
    if args.work_dir:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(
            Path('work_dirs') / Path(args.config.rpartition('::')[-1]).stem
        )
    distributed = args.launcher != 'none'
    num_processes = int(os.environ.get('WORLD_SIZE', 1)) if distributed else 1
    num_stages = num_stages_of(cfg, args.launcher)
    divide_batch(cfg, Layout.of(num_stages, num_processes).num_replicas)
    if distributed:
        _collect_scores_without_files(cfg)
    if distributed and not torch.cuda.is_available():
        _use_cpu_processes(cfg)
    return cfg


def complete_training(cfg: Config) -> None:
    """Add what every run of local modules needs, in place.

    Splits that depend on this run are chosen, and `LocalTrainingHook` is added if a
    config that inherits has replaced the list of hooks.

    Raises:
        ValueError: see `settle_cuts`.
    """
    if not is_local(cfg.get('model')):
        return
    settle_cuts(cfg)
    cfg.setdefault('find_unused_parameters', True)
    names = [type_name(hook) for hook in as_list(cfg.get('custom_hooks'))]
    if RUN_HOOK not in names and 'LocalBackwardHook' not in names:
        warnings.warn(
            f'custom_hooks of the config has no {RUN_HOOK}, without which local '
            'modules save no memory; it was added.',
            stacklevel=2,
        )
    _add_run_hook(cfg)


def warn_of_idle_pipeline(cfg: Config) -> None:
    """Warn if a pipeline was asked for, and there is one process to run it."""
    stages = num_stages_of(cfg, 'any')
    if cfg.get('launcher', 'none') == 'none' and stages > 1:
        warnings.warn(
            'local.pipeline has no effect in one process: its modules train one after '
            f'the other. Start {stages} with tools/dist_train.sh CONFIG {stages}.',
            stacklevel=2,
        )


def complete_test(cfg: Config) -> None:
    """Make a test run the stock network with the checks of a local run, in place.

    Predictions need no local modules.
    """
    if is_local(cfg.get('model')):
        cfg.model = ConfigDict(stock_model_config(cfg.model))
        _add_run_hook(cfg)


def _add_run_hook(cfg: Config) -> None:
    hooks = as_list(cfg.get('custom_hooks'))
    if RUN_HOOK not in map(type_name, hooks):
        cfg.custom_hooks = [*hooks, ConfigDict(type=RUN_HOOK)]


def enable_amp(cfg: Config) -> None:
    """Switch the optimizer wrapper to automatic mixed precision.

    Raises:
        ValueError: if the config's wrapper is neither OptimWrapper nor
            AmpOptimWrapper.
        RuntimeError: without a GPU.
    """
    kind = type_name(cfg.optim_wrapper) or 'OptimWrapper'  # the host's default
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            "--amp needs optim_wrapper.type='OptimWrapper' in the config, got "
            f'{kind!r}.'
        )
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    check_amp(cfg)


def check_amp(cfg: Config) -> None:
    """Check that mixed precision is not requested without a GPU.

    Raises:
        RuntimeError: if the config sets AmpOptimWrapper and there is no GPU.
    """
    kind = type_name(cfg.get('optim_wrapper') or {})
    if kind == 'AmpOptimWrapper' and not torch.cuda.is_available():
        raise RuntimeError(
            '--amp needs a CUDA device and none is available: mixed precision is not '
            'supported in CPU training. Train without --amp (optim_wrapper.type='
            "'OptimWrapper')."
        )


def _collect_scores_without_files(cfg: Config) -> None:
    """Let processes send each other the scores of their images, a few numbers each.

    By default the host exchanges them through files, in a folder that machines without
    a common disk do not have.
    """
    for name in ('val_evaluator', 'test_evaluator'):
        for metric in as_list(cfg.get(name)):
            kind = metric.get('type') if isinstance(metric, dict) else None
            cls = class_of(METRICS, kind, scope_of(cfg))
            is_iou = inspect.isclass(cls) and issubclass(cls, IoUMetric)
            if is_iou and leaves_open(cls, 'collect_device'):
                metric.setdefault('collect_device', 'gpu')


def _use_cpu_processes(cfg: Config) -> None:
    """Prepare for several CPU processes: gloo, a wrapper without devices, no SyncBN."""
    if 'model' in cfg and _replace_sync_bn(cfg.model):
        warnings.warn(
            'torch has no SyncBN for CPUs: each process normalises by the statistics '
            'of its own images (BN).',
            stacklevel=3,
        )
    cfg.merge_from_dict({'env_cfg.dist_cfg.backend': 'gloo'})
    cfg.model_wrapper_cfg = {
        'type': 'MMDistributedDataParallel',
        'device_ids': None,
        'broadcast_buffers': False,
        'find_unused_parameters': cfg.get('find_unused_parameters', False),
    }


# Variables by which launchers tell a process its rank and the number of processes.
_PROCESS_VARIABLES = {
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'srun'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'mpirun'),
}


def _name_processes(launcher: str) -> None:
    """Set RANK and WORLD_SIZE as the host will, for what runs before the host does."""
    if launcher not in _PROCESS_VARIABLES:
        return
    rank, world_size, starter = _PROCESS_VARIABLES[launcher]
    if rank not in os.environ or world_size not in os.environ:
        raise RuntimeError(
            f'--launcher {launcher} needs {rank} and {world_size}, which are not set: '
            f'start the command by {starter}.'
        )
    os.environ['RANK'] = os.environ[rank]
    os.environ['WORLD_SIZE'] = os.environ[world_size]


_SYNC_NORMS = ('SyncBN', 'SyncBatchNorm', 'NaiveSyncBatchNorm')


def _replace_sync_bn(config: Any) -> bool:
    """Turn every SyncBN of a model config into BN; returns whether there was one."""
    parts = list(config.values()) if isinstance(config, dict) else config
    found = [_replace_sync_bn(x) for x in parts if isinstance(x, dict | list | tuple)]
    if isinstance(config, dict) and type_name(config) in _SYNC_NORMS:
        config['type'] = 'BN'
        return True
    return any(found)


@contextmanager
def connected_processes(cfg: Config) -> Iterator[None]:
    """Connect the processes of a launcher, and disconnect them in order.

    On GPUs the runner connects them; it always sets a CUDA device, so without GPUs it
    is done here. A process that exits while still connected may abort another, or
    itself; after an error they are left to the launcher, which stops them all.

    A process group, and its threads, also live as long as a model wrapped for it: what
    runs inside should keep none. A thread of gloo that lets go of a tensor while the
    interpreter ends aborts the process (pytorch/pytorch#179291).
    """
    is_cpu = not torch.cuda.is_available()
    if cfg.launcher != 'none' and is_cpu and not is_distributed():
        if os.environ.get('SLURM_NNODES') == '1':
            os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
        os.environ.setdefault('MASTER_PORT', '29500')
        torch.distributed.init_process_group('gloo')
    yield
    if is_distributed():
        # A runner and its model are parts of cycles.
        gc.collect()
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def enable_tta(cfg: Config, *, flip: bool) -> None:
    """Average predictions over the scales of the config's ``tta_pipeline``.

    Args:
        cfg: Changed in place; needs ``tta_pipeline`` and ``tta_model``.
        flip: Also average over mirror images.

    Raises:
        ValueError: if the config has no ``tta_pipeline``.
    """
    if 'tta_pipeline' not in cfg:
        raise ValueError(
            '--tta needs a tta_pipeline in the config; see '
            'configs/_base_/datasets/cityscapes.py.'
        )
    pipeline = copy.deepcopy(cfg.tta_pipeline)
    if not flip:
        for step in pipeline:
            if type_name(step) == 'TestTimeAug':
                step.transforms = [_without_flip(group) for group in step.transforms]
    for dataset in leaf_datasets(cfg.test_dataloader.get('dataset')):
        dataset['pipeline'] = pipeline
    model = cfg.get('tta_model') or {'type': in_mmseg('SegTTAModel')}
    cfg.model = ConfigDict(module=cfg.model, **model)


def save_predictions(cfg: Config, folder: str) -> None:
    """Make a test write its predictions once, whatever evaluators there are.

    Args:
        cfg: Changed in place: the first metric that can write predictions gets the
            folder.
        folder: Folder to write to.

    Raises:
        ValueError: if no metric of the config can write predictions.
    """
    evaluators = cfg.get('test_evaluator')
    if isinstance(evaluators, dict) and 'metrics' in evaluators:
        evaluators = evaluators['metrics']
    for metric in as_list(evaluators):
        kind = metric.get('type') if isinstance(metric, dict) else None
        cls = class_of(METRICS, kind, scope_of(cfg))
        if cls is not None and takes(cls, 'output_dir'):
            metric['output_dir'] = folder
            return
    raise ValueError(
        '--out: no metric of test_evaluator writes predictions; add '
        "dict(type='IoUMetric', iou_metrics=['mIoU']) to it."
    )


def _without_flip(group: list[dict]) -> list[dict]:
    """A list of alternatives of TestTimeAug without the mirrored ones."""
    kept = [
        transform
        for transform in group
        if type_name(transform) != 'RandomFlip' or transform.get('prob', 1.0) == 0
    ]
    return kept or group

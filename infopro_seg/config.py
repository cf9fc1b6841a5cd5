"""From a config file and command-line settings to a config that a Runner can take."""

import argparse
import copy
import os
import warnings
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.dist import is_distributed

from .localize import localize
from .planner import settle_cuts


def add_config_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that all tools share, under mmseg's names."""
    parser.add_argument('config', help='config file (.py), or mmseg::NAME')
    parser.add_argument(
        '--work-dir',
        help='folder of logs and checkpoints; default: work_dirs/<name of the config>',
    )
    parser.add_argument(
        '--data-root', help='sets the root folder of every data set in the config'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override settings, e.g. train_cfg.max_iters=100',
    )
    parser.add_argument(
        '--local',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='cut the model into local modules, e.g. num_modules=4; works on any '
        'config of a supported model',
    )
    parser.add_argument(
        '--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none'
    )
    # torch's launchers of before 2.0 pass this argument instead of the variable.
    parser.add_argument(
        '--local-rank', '--local_rank', type=int, default=0, help=argparse.SUPPRESS
    )


def read_config(path: str) -> Config:
    """Read a config.

    Args:
        path: A file, or the name of one in an installed package, such as
            ``mmseg::pspnet/pspnet_r50-d8_4xb2-40k_cityscapes-512x1024.py``.

    Raises:
        FileNotFoundError: if the file does not exist.
    """
    if '::' in path:
        return Config.fromstring(f'_base_ = {path!r}\n', '.py')
    if not Path(path).is_file():
        raise FileNotFoundError(
            f'config file {path} does not exist; the ones that come with the package '
            f'are in {Path(__file__).resolve().parents[1] / "configs"}.'
        )
    return Config.fromfile(path)


def add_trust_argument(parser: argparse.ArgumentParser) -> None:
    """The opt-in of tools that load checkpoints."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='load pickled objects; they can run any code: trusted sources only',
    )


def load_config(args: argparse.Namespace) -> Config:
    """Read a config and apply the shared arguments to it.

    Args:
        args: From a parser with `add_config_arguments`.

    Raises:
        FileNotFoundError: if the config file does not exist.
        ValueError: if the total batch does not divide over the processes.
    """
    from .datasets import set_data_root

    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
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
        cfg.work_dir = str(Path('work_dirs') / Path(args.config).stem)
    distributed = args.launcher != 'none'
    divide_batch(cfg, int(os.environ.get('WORLD_SIZE', 1)) if distributed else 1)
    settle_cuts(cfg)
    if distributed and not torch.cuda.is_available():
        _use_cpu_processes(cfg)
    return cfg


def divide_batch(cfg: Config, num_processes: int) -> None:
    """Divide ``total_batch_size`` over the processes.

    A recipe's learning rate belongs to its total batch, while the host's
    ``train_dataloader.batch_size`` counts images per GPU. A config that sets
    ``total_batch_size`` trains the same on any number of GPUs.

    Args:
        cfg: Changed in place; untouched without ``total_batch_size``.
        num_processes: World size.

    Raises:
        ValueError: if it does not divide.
    """
    total = cfg.get('total_batch_size')
    if total is None:
        return
    if total % num_processes:
        near = [n for n in range(1, total + 1) if total % n == 0]
        raise ValueError(
            f'total_batch_size={total} does not divide over {num_processes} processes. '
            f'Use one of {near} processes, or change total_batch_size and the learning '
            'rate with it.'
        )
    cfg.train_dataloader.batch_size = total // num_processes


def enable_amp(cfg: Config) -> None:
    """Switch the optimizer wrapper to automatic mixed precision.

    Raises:
        ValueError: if the config's wrapper is neither OptimWrapper nor
            AmpOptimWrapper.
        RuntimeError: without a GPU.
    """
    wrapper = cfg.optim_wrapper
    if wrapper.type not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise ValueError(
            "--amp needs optim_wrapper.type='OptimWrapper' in the config, got "
            f'{wrapper.type!r}.'
        )
    wrapper.type = 'AmpOptimWrapper'
    wrapper.setdefault('loss_scale', 'dynamic')
    check_amp(cfg)


def check_amp(cfg: Config) -> None:
    """Check that mixed precision is not asked for where it does not exist.

    Raises:
        RuntimeError: if the config sets AmpOptimWrapper and there is no GPU.
    """
    if cfg.optim_wrapper.type == 'AmpOptimWrapper' and not torch.cuda.is_available():
        raise RuntimeError(
            '--amp needs a CUDA device and none is available: mixed precision is not '
            'supported in CPU training. Train without --amp (optim_wrapper.type='
            "'OptimWrapper')."
        )


def _use_cpu_processes(cfg: Config) -> None:
    """Several CPU processes: gloo, a wrapper without device ids, no SyncBN."""
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


def _replace_sync_bn(config: Any) -> bool:
    """Turn every SyncBN of a model config into BN; whether there was one."""
    parts = config.values() if isinstance(config, dict) else config
    found = [_replace_sync_bn(x) for x in parts if isinstance(x, dict | list | tuple)]
    if isinstance(config, dict) and config.get('type') == 'SyncBN':
        config['type'] = 'BN'
        return True
    return any(found)


def init_cpu_processes(cfg: Config) -> None:
    """Connect the processes of ``--launcher pytorch`` on a machine without GPUs.

    The runner does it where there are GPUs; it sets a CUDA device in any case.
    """
    is_cpu = not torch.cuda.is_available()
    if cfg.launcher == 'pytorch' and is_cpu and not is_distributed():
        torch.distributed.init_process_group('gloo')


def enable_tta(cfg: Config, *, flip: bool) -> None:
    """Average predictions over the scales of the config's ``tta_pipeline``.

    Args:
        cfg: Changed in place; needs ``tta_pipeline`` and ``tta_model``.
        flip: Also over mirror images.

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
            if step.type == 'TestTimeAug':
                step.transforms = [_without_flip(group) for group in step.transforms]
    datasets = [cfg.test_dataloader.dataset]
    while 'dataset' in datasets[-1]:
        datasets.append(datasets[-1].dataset)
    datasets[-1].pipeline = pipeline
    model = cfg.get('tta_model') or {'type': 'SegTTAModel'}
    cfg.model = ConfigDict(module=cfg.model, **model)


def _without_flip(group: list[dict]) -> list[dict]:
    """One list of alternatives of TestTimeAug without the mirrored ones."""
    kept = [
        transform
        for transform in group
        if not (transform['type'] == 'RandomFlip' and transform.get('prob', 1.0) > 0)
    ]
    return kept or group

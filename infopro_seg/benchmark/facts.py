"""Where the numbers of a benchmark come from: machine, versions, command, seed."""

import datetime
import subprocess
from collections.abc import Sequence
from typing import Any

import torch

from ..bundled import CHECKOUT
from ..install import installed_versions
from ..planner.make import Setting
from .method import runs_on

_PACKAGES = (
    'torch',
    'onedl-mmsegmentation',
    'mmsegmentation',
    'onedl-mmengine',
    'mmengine',
)


def require_device(
    device: str, amp_dtype: str | None, kinds: Sequence[str] = ()
) -> None:
    """Check that a benchmark can run.

    Raises:
        RuntimeError: if the device is missing; on a CPU, for mixed precision and for
            kinds of methods that are meaningless there.
    """
    if device == 'cuda' and not torch.cuda.is_available():
        raise RuntimeError(
            '--device cuda: no CUDA device is available. Use --device cpu, or --steps '
            '0, which only predicts.'
        )
    if device == 'cpu' and amp_dtype is not None:
        raise RuntimeError(
            f'--amp {amp_dtype} needs --device cuda: mixed precision is not supported '
            'in CPU training. With --steps 0 its memory is predicted.'
        )
    for kind in kinds:
        if not runs_on(kind, device):
            raise RuntimeError(
                f'--methods {kind} needs --device cuda: on a CPU everything is in '
                'host memory already.'
            )


def facts_of_run(args: Any, setting: Setting) -> dict[str, Any]:
    """Where the numbers come from, as written beside them.

    Args:
        args: Settings of the run: ``device``, ``steps``, ``warmup`` and ``seed``.
        setting: What was trained.
    """
    model = setting.model
    head = model['decode_head']
    head = head[-1] if isinstance(head, list) else head
    backbone = model['backbone']
    depth = f' {backbone["depth"]}' if 'depth' in backbone else ''
    return {
        'date': datetime.date.today().isoformat(),
        'git_commit': git_commit(),
        'versions': versions(),
        'network': f'{backbone["type"]}{depth} + {head["type"]}',
        'batch_size': setting.batch_size,
        'crop_size': list(setting.crop_size),
        'precision': setting.amp_dtype or 'float32',
        'optimizer': setting.optim_wrapper['optimizer']['type'],
        'device': device_name(args.device) if args.steps else 'predicted',
        'steps': args.steps,
        'warmup': args.warmup,
        'seed': args.seed,
    }


def versions() -> dict[str, str]:
    """Versions of the packages that the numbers depend on."""
    return installed_versions(_PACKAGES)


def device_name(device: str) -> str:
    """Name of the GPU, or the CPU with its number of threads."""
    if device == 'cuda':
        return torch.cuda.get_device_name()
    num_threads = torch.get_num_threads()
    return f'CPU, {num_threads} thread{"s" if num_threads > 1 else ""}'


def git_commit() -> str | None:
    """The commit of the checkout; None outside of one."""
    if CHECKOUT is None:
        return None
    run = subprocess.run(
        ['git', 'describe', '--always', '--dirty'],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout.strip() or None

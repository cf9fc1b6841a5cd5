"""What the command lines load: checkpoints without code, and the last whole one.

mmengine reads a checkpoint with ``weights_only=True`` first, and if that fails, without
(0.10.12). In a file from a stranger the failure is the attack.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.runner import checkpoint as host
from mmengine.runner.checkpoint import CheckpointLoader

from .checkpoint import last_whole_checkpoint, read_checkpoint, runner_globals


@contextlib.contextmanager
def weights_only_loading(*, trust_pickle: bool = False) -> Iterator[None]:
    """While this lasts, nothing that is loaded can run code.

    Args:
        trust_pickle: Leave loading as the host does it; for files from a source you
            trust.
    """
    if trust_pickle:
        yield
        return
    schemes = dict(CheckpointLoader._schemes)
    CheckpointLoader.register_scheme('', load_from_local, force=True)
    CheckpointLoader.register_scheme(
        ('http://', 'https://'), load_from_http, force=True
    )
    # Also for loaders that name weights_only=False themselves.
    force = mock.patch.dict(os.environ, TORCH_FORCE_WEIGHTS_ONLY_LOAD='1')
    try:
        with force, torch.serialization.safe_globals(runner_globals()):
            yield
    finally:
        CheckpointLoader._schemes = schemes


def load_from_local(filename: str, map_location: Any = None) -> dict:
    """Read a checkpoint file to the CPU; see `read_checkpoint`."""
    return read_checkpoint(Path(filename).expanduser())


def load_from_http(filename: str, map_location: Any = None) -> dict:
    """Download a checkpoint and read it.

    Raises:
        ValueError: if it needs pickled objects.
    """
    try:
        return host.load_from_http(filename, map_location)
    except UnpicklingError as error:
        raise ValueError(
            f'{filename} holds pickled objects, which can run any code. If you trust '
            'its source, pass --trust-checkpoint.'
        ) from error


def resume_last_checkpoint(cfg: Config, *, trust_pickle: bool = False) -> None:
    """Let a run go on from its last whole checkpoint, and print which that is.

    Args:
        cfg: Changed in place (``resume``, ``load_from``).
        trust_pickle: See `read_checkpoint`.

    Raises:
        RuntimeError: if there are checkpoints, but none that can be read; to start
            again would write over them.
    """
    folder = Path(cfg.work_dir)
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    if hook.get('out_dir'):
        folder = Path(hook['out_dir']) / folder.name
    path, problems = last_whole_checkpoint(folder, trust_pickle=trust_pickle)
    if path is None and problems:
        raise RuntimeError(
            f'--resume: no checkpoint in {folder} can be used:\n'
            + '\n'.join(problems)
            + '\nTo start again, take another --work-dir or move them away.'
        )
    cfg.resume = path is not None
    lines = [f'left out: {problem}' for problem in problems]
    if path is None:
        lines.append(f'no checkpoint in {folder}; training starts at iteration 0.')
    else:
        cfg.load_from = str(path)
        lines.append(f'going on from {path}, the last whole checkpoint.')
    if int(os.environ.get('RANK', 0)) == 0:
        print('\n'.join(f'--resume: {line}' for line in lines))

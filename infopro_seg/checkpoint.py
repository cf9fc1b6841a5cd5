"""Checkpoints: from a local model to a stock mmseg one."""

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from torch import Tensor

try:
    from numpy._core import multiarray
except ImportError:  # numpy 1
    from numpy.core import multiarray

LOCAL_PREFIX = 'local_heads.'


def stock_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a local model without its local heads.

    The rest has the keys of stock mmseg already: nothing is renamed.
    """
    return {k: v for k, v in state_dict.items() if not k.startswith(LOCAL_PREFIX)}


def read_checkpoint(path: str | Path, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Read a checkpoint file to the CPU without running code from it.

    Args:
        path: A file written by a Runner, or a bare state dict.
        trust_pickle: Also accept files that need arbitrary pickled objects. These
            can run any code: only for files from a source you trust.

    Returns:
        A dict with at least ``state_dict``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, or needs ``trust_pickle``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'checkpoint {path} does not exist.')
    try:
        with torch.serialization.safe_globals(runner_globals()):
            checkpoint = torch.load(
                path, map_location='cpu', weights_only=not trust_pickle
            )
    except Exception as error:  # zip, pickle and unpickling errors of many types
        reason = str(error).partition('\n')[0]
        raise ValueError(
            f'{path} cannot be read as a checkpoint without running code from it '
            f'({type(error).__name__}: {reason}). It is damaged, no checkpoint, '
            'or holds pickled objects. If you trust its source, pass '
            '--trust-checkpoint.'
        ) from error
    if isinstance(checkpoint, Mapping) and 'state_dict' not in checkpoint:
        checkpoint = {'state_dict': checkpoint}
    state_dict = checkpoint['state_dict'] if isinstance(checkpoint, Mapping) else None
    if not isinstance(state_dict, Mapping) or not all(
        isinstance(value, Tensor) for value in state_dict.values()
    ):
        raise ValueError(f'{path} holds no state dict of tensors.')
    return dict(checkpoint)


def write_checkpoint(checkpoint: Mapping, path: str | Path, *, force: bool) -> None:
    """Write a checkpoint so that no half-written file ever has its name.

    Raises:
        FileExistsError: if the file exists and ``force`` is False.
    """
    path = Path(path)
    if path.exists() and not force:
        raise FileExistsError(f'{path} exists; pass --force to overwrite it.')
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(dict(checkpoint), buffer)
    write_whole(buffer.getbuffer(), path)


def write_whole(data: bytes | memoryview, path: str | Path) -> None:
    """Write a file that is complete as soon as it has its name.

    Whatever ends the process or fills the disk meanwhile, an earlier file stays.

    Args:
        data: All of it.
        path: Of the file; its folder exists. Overwritten.

    Raises:
        OSError: if the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with partial.open('wb') as file:
            file.write(data)
            file.flush()
            # Without it a power cut may leave the new name with an empty file.
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def last_whole_checkpoint(
    work_dir: str | Path, *, trust_pickle: bool = False
) -> tuple[Path | None, list[str]]:
    """The checkpoint of a run that is furthest and can be read.

    Args:
        work_dir: Folder of the run; its ``iter_*.pth`` and ``epoch_*.pth`` are tried.
        trust_pickle: See `read_checkpoint`.

    Returns:
        Path, or None without any, and what was wrong with those that are further.
    """
    found = [
        (int(match[1]), path)
        for path in Path(work_dir).glob('*.pth')
        if (match := re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', path.name))
    ]
    problems = []
    for _, path in sorted(found, reverse=True):
        try:
            checkpoint = read_checkpoint(path, trust_pickle=trust_pickle)
        except ValueError as error:
            problems.append(str(error))
            continue
        missing = {'optimizer', 'message_hub', 'meta'} - checkpoint.keys()
        if not missing:
            return path, problems
        problems.append(f'{path} has no {", ".join(sorted(missing))}.')
    return None, problems


def runner_globals() -> list:
    """Plain types besides tensors that a Runner's checkpoints hold: its log.

    For `torch.serialization.safe_globals`.
    """
    # numpy 2 pickles arrays and scalars through the last two.
    names = ('float64', 'float32', 'int64', 'int32', 'uint8', 'bool')
    return [
        HistoryBuffer,
        (_history_method, 'builtins.getattr'),
        np.dtype,
        np.ndarray,
        *(type(np.dtype(name)) for name in names),
        multiarray._reconstruct,
        multiarray.scalar,
    ]


def _history_method(owner: Any, name: str) -> Any:
    """What ``getattr`` may do in a checkpoint: name a method of a log buffer."""
    if owner is not HistoryBuffer:
        raise ValueError(f'pickled getattr of {owner!r}')
    return getattr(owner, name)

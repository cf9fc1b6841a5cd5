"""Reads checkpoints without running code, writes them atomically, finds the last."""

import argparse
import datetime
import io
import os
import pathlib
import re
import string
import time
import types
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from torch import Tensor

from ..compat import NUMPY_PICKLES

LOCAL_PREFIX = 'local_heads.'
#: Key in ``meta``: where the model was cut and what it recomputed.
LOCAL_META = 'local'
#: Key in ``meta``: when a checkpoint was written, in seconds since 1970.
SAVED_AT = 'saved_at'
#: What the host calls checkpoints where a hook does not say.
HOST_NAMES = ('iter_{}.pth', 'epoch_{}.pth')
# Types, besides numbers, in checkpoints of training scripts.
_PLAIN_TYPES = [
    *(frozenset, range, slice),
    *(datetime.date, datetime.datetime, datetime.time),
    *(datetime.timedelta, datetime.timezone),
    types.SimpleNamespace,
    ConfigDict,
]
#: Keys that the host needs to resume.
_NEEDED = ('state_dict', 'optimizer', 'message_hub', 'meta')


def stock_state_dict(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a local model without its local heads.

    The other keys are those of stock mmseg already: nothing is renamed.
    """
    return {k: v for k, v in state_dict.items() if not k.startswith(LOCAL_PREFIX)}


def read_checkpoint(path: str | Path, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Read a checkpoint of a whole network to the CPU without running code from it.

    Args:
        path: A file written by a Runner, or a bare state dict.
        trust_pickle: See `read_file`.

    Returns:
        A dict with at least ``state_dict``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, or needs ``trust_pickle``.
    """
    return checkpoint_of(read_file(path, trust_pickle=trust_pickle), path)


def checkpoint_of(content: Any, name: str | Path) -> dict[str, Any]:
    """What a file holds, as a checkpoint of a whole network.

    Args:
        content: A checkpoint, or a bare state dict.
        name: Of the file, for the error.

    Returns:
        A dict with at least ``state_dict``.

    Raises:
        ValueError: if it is neither.
    """
    checkpoint = content
    if isinstance(checkpoint, Mapping) and 'state_dict' not in checkpoint:
        checkpoint = {'state_dict': checkpoint}
    state_dict = checkpoint['state_dict'] if isinstance(checkpoint, Mapping) else None
    if not isinstance(state_dict, Mapping) or not all(
        isinstance(value, Tensor) for value in state_dict.values()
    ):
        raise ValueError(f'{name} holds no state dict of tensors.')
    return dict(checkpoint)


def read_file(
    path: str | Path, *, trust_pickle: bool = False, only_look: bool = False
) -> Any:
    """Read any file of torch to the CPU without running code from it.

    The caller must check what is in it.

    Args:
        path: The file; ``~`` is the home folder.
        trust_pickle: Also accept files that need arbitrary pickled objects. These can
            run any code, so use it only for files from a source you trust.
        only_look: Leave tensors on disk until they are used.

    Returns:
        What was saved.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or needs ``trust_pickle``.
    """
    path = require_file(path)
    try:
        with torch.serialization.safe_globals(safe_globals()):
            mmap = only_look and zipfile.is_zipfile(path)
            return torch.load(
                path,
                map_location='cpu',
                weights_only=not trust_pickle,
                mmap=True if mmap else None,
            )
    except Exception as error:  # zip, pickle and unpickling errors of many types
        raise ValueError(f'{path} {why_unreadable(error)}') from error


def require_file(path: str | Path) -> Path:
    """The path of a checkpoint on disk, with the home folder for ``~``.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    found = Path(path).expanduser()
    if found.is_file():
        return found
    if '://' in str(path):
        raise FileNotFoundError(
            f'checkpoint {path} is not on disk, and only files are read here: download '
            'it, and give its path.'
        )
    raise FileNotFoundError(f'checkpoint {path} does not exist.')


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file that could not be loaded, and what can be done.

    Args:
        error: From ``torch.load``.

    Returns:
        The rest of a sentence that begins with the file's name.
    """
    names = re.findall(r'GLOBAL (\S+) was not an allowed', str(error))
    names = names or re.findall(r"pickled getattr of .*?'([\w.]+)'", str(error))
    if names or 'Weights only load failed' in str(error):
        what = f' ({", ".join(names)})' if names else ''
        return (
            f'cannot be read as weights alone: it holds pickled objects{what}, which '
            'can run any code. If you trust its source, pass --trust-checkpoint.'
        )
    reason = str(error).partition('\n')[0]
    return (
        f'cannot be read as a checkpoint: it is damaged or was not written by torch '
        f'({type(error).__name__}: {reason}).'
    )


def write_checkpoint(checkpoint: Mapping, path: str | Path, *, force: bool) -> None:
    """Write a checkpoint atomically.

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
    """Write a file atomically.

    If the process ends or the disk fills up meanwhile, an earlier file is unchanged.

    Args:
        data: The whole content.
        path: File to write or overwrite; its folder must exist.

    Raises:
        OSError: if the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f'.{path.name}.partial')
    try:
        with partial.open('wb') as file:
            file.write(data)
            file.flush()
            # Without this, a power cut may leave an empty file under the new name.
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def last_whole_checkpoint(
    work_dir: str | Path,
    *,
    template: str | None = None,
    also: Iterable[str | Path] = (),
    trust_pickle: bool = False,
) -> tuple[Path | None, list[str]]:
    """Find the last written checkpoint that can be resumed.

    A folder may hold checkpoints of several runs, or of a run that was resumed from
    another checkpoint than its last. So the time of writing decides, not the number in
    the name.

    Args:
        work_dir: Folder of the run; its ``iter_*.pth`` and ``epoch_*.pth`` are tried.
        template: ``filename_tmpl`` of the checkpoint hook; such files are tried, too.
        also: More files to try.
        trust_pickle: See `read_file`.

    Returns:
        The path, or None if there is none; and notes about the others: what is wrong
        with newer ones, and which older ones are at a later iteration.
    """
    names = (*HOST_NAMES, *([] if template is None else [template]))
    once: dict[Path, Path] = {}
    for path in (*checkpoints_in(work_dir, names), *map(Path, also)):
        if path.is_file():
            once.setdefault(path.resolve(), path)
    problems, found = [], []
    for path in once.values():
        try:
            found.append(_written(path, trust_pickle=trust_pickle))
        except ValueError as error:
            problems.append(str(error))
    found.sort(key=lambda written: written[:2], reverse=True)
    for n, (_, iteration, path) in enumerate(found):
        try:
            read_checkpoint(path, trust_pickle=trust_pickle)
        except ValueError as error:
            problems.append(str(error))
            continue
        return path, problems + [
            f'{other} is at iteration {further}, further than {path.name} '
            f'({iteration}), but was written earlier, by another run.'
            for _, further, other in found[n + 1 :]
            if further > iteration
        ]
    return None, problems


def checkpoints_in(folder: str | Path, templates: Iterable[str]) -> list[Path]:
    """Files in a folder that are called as checkpoint hooks call theirs.

    Args:
        folder: Need not exist.
        templates: ``filename_tmpl`` of the hooks.

    Returns:
        In order of their names.
    """
    pattern = '|'.join(map(_name_pattern, templates))
    paths = Path(folder).glob('*')
    return sorted(path for path in paths if re.fullmatch(pattern, path.name))


def _name_pattern(template: str) -> str:
    """A regular expression that matches a template with a number filled in."""
    parts = string.Formatter().parse(template)
    return ''.join(
        re.escape(text) + ('' if field is None else r'[\da-fA-F,_ ]+')
        for text, field, _, _ in parts
    )


def _written(path: Path, *, trust_pickle: bool) -> tuple[float, int, Path]:
    """When a checkpoint was written, and at which iteration it is.

    Raises:
        ValueError: if it cannot be read or resumed.
    """
    checkpoint = read_file(path, trust_pickle=trust_pickle, only_look=True)
    held = checkpoint.keys() if isinstance(checkpoint, Mapping) else set()
    missing = [key for key in _NEEDED if key not in held]
    if missing:
        raise ValueError(f'{path} has no {", ".join(missing)}.')
    meta = checkpoint['meta']
    seconds = meta.get(SAVED_AT)
    if seconds is None and 'time' in meta:
        # Written by the host's own hook, in local time.
        seconds = time.mktime(time.strptime(meta['time'], '%Y%m%d_%H%M%S'))
    if seconds is None:
        seconds = path.stat().st_mtime
    return seconds, meta.get('iter', 0), path


def safe_globals() -> list:
    """Types of plain values in checkpoints, except tensors: logs of a Runner, settings.

    They only hold values. For `torch.serialization.safe_globals`.
    """
    # Arrays and scalars are pickled through two functions, whose module has different
    # names in numpy 1 and 2.
    functions = [
        (function, f'numpy.{core}.multiarray.{function.__name__}')
        for function in NUMPY_PICKLES
        for core in ('core', '_core')
    ]
    dtypes = {type(np.dtype(code)) for code in np.typecodes['All'] if code not in 'OV'}
    paths = [
        (cls, f'{module}.{cls.__name__}')
        for cls in (pathlib.PurePosixPath, pathlib.PosixPath)
        for module in ('pathlib', 'pathlib._local')  # Python 3.13 moved them
    ]
    return [
        *_PLAIN_TYPES,
        *paths,
        HistoryBuffer,
        (_history_method, 'builtins.getattr'),
        argparse.Namespace,
        np.dtype,
        np.ndarray,
        *dtypes,
        *functions,
    ]


def _history_method(owner: Any, name: str) -> Any:
    """The only ``getattr`` allowed in a checkpoint: a method of a log buffer."""
    if owner is not HistoryBuffer:
        raise ValueError(f'pickled getattr of {owner!r}')
    return getattr(owner, name)

"""Loading for the command lines: without running code, and the last whole checkpoint.

onedl-mmengine (0.10.12) first reads a checkpoint with ``weights_only=True`` and, if
that fails, without it. With a malicious file the failure is what the attacker wants.
mmengine (0.10.7) leaves it to torch, which since 2.6 refuses all but weights, and so
the checkpoints of mmengine's own runs.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner.checkpoint import CheckpointLoader
from mmseg.registry import HOOKS

from ..compat import is_on_disk, loading_schemes, loading_through
from ..ranks import is_first_process
from ..scopes import class_of, scope_of
from ..settings import LocalSettings, with_cuts
from ..settings.config import as_list
from ..settings.localize import is_local
from .files import (
    HOST_NAMES,
    LOCAL_META,
    checkpoint_of,
    checkpoints_in,
    last_whole_checkpoint,
    read_checkpoint,
    read_file,
    require_file,
    safe_globals,
    why_unreadable,
)


@contextlib.contextmanager
def weights_only_loading(*, trust_pickle: bool = False) -> Iterator[None]:
    """While active, no checkpoint that the host loads can run code.

    Whatever else reads files, such as a data set, does so as without this.

    Args:
        trust_pickle: Let the host load everything; only for files from a source you
            trust.
    """
    with loading_schemes(), loading_through(_trusting if trust_pickle else _guarded):
        if not trust_pickle:
            CheckpointLoader.register_scheme('', load_from_local, force=True)
        yield


def _guarded(loader: Callable) -> Callable:
    """A loader of the host that takes weights alone, with an error that says so."""

    @functools.wraps(loader)
    def load(filename: str, *args: Any, **kwargs: Any) -> Any:
        with _torch_loads('WEIGHTS_ONLY'):
            allowed = torch.serialization.safe_globals(safe_globals())
            try:
                with allowed:
                    return loader(filename, *args, **kwargs)
            except UnpicklingError as error:
                raise ValueError(f'{filename} {why_unreadable(error)}') from error

    return load


def _trusting(loader: Callable) -> Callable:
    """A loader of the host that takes everything."""

    @functools.wraps(loader)
    def load(*args: Any, **kwargs: Any) -> Any:
        with _torch_loads('NO_WEIGHTS_ONLY'):
            return loader(*args, **kwargs)

    return load


@contextlib.contextmanager
def _torch_loads(what: str) -> Iterator[None]:
    """What torch loads where the caller does not say; ``WEIGHTS_ONLY``: in any case."""
    # torch refuses to load if both are set.
    with contextlib.ExitStack() as stack:
        for word in ('WEIGHTS_ONLY', 'NO_WEIGHTS_ONLY'):
            value = '1' if word == what else None
            stack.enter_context(_environment(f'TORCH_FORCE_{word}_LOAD', value))
        yield


@contextlib.contextmanager
def _environment(name: str, value: str | None) -> Iterator[None]:
    """Set a variable, or remove it (None), as long as this is active."""
    before = os.environ.pop(name, None)
    if value is not None:
        os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def load_from_local(filename: str, map_location: Any = None) -> Any:
    """Read a checkpoint file to the CPU; see `read_file`."""
    return read_file(filename)


def require_checkpoint(name: str) -> None:
    """Check that a checkpoint is there, if it is on disk.

    What has a prefix, such as ``https://``, is left to its loader in the host.

    Args:
        name: As the Runner takes it, in ``load_from``.

    Raises:
        FileNotFoundError: if there is no such file.
    """
    if is_on_disk(name):
        require_file(name)


def load_anywhere(name: str | Path, *, trust_pickle: bool = False) -> dict[str, Any]:
    """Read a checkpoint to the CPU, from wherever the host can load it.

    Args:
        name: A file, or a name with a prefix that the host knows.
        trust_pickle: See `read_file`.

    Returns:
        See `read_checkpoint`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint, or needs ``trust_pickle``.
    """
    if is_on_disk(str(name)):
        return read_checkpoint(name, trust_pickle=trust_pickle)
    with weights_only_loading(trust_pickle=trust_pickle):
        return checkpoint_of(CheckpointLoader.load_checkpoint(str(name), 'cpu'), name)


def resume_last_checkpoint(cfg: Config, *, trust_pickle: bool = False) -> None:
    """Let a run resume from its last whole checkpoint, and print which one that is.

    Args:
        cfg: Changed in place (``resume``, ``load_from``).
        trust_pickle: See `read_checkpoint`.

    Raises:
        RuntimeError: if there are checkpoints but none can be read: starting over would
            overwrite them.
    """
    folders = resumable_folders(cfg)
    folder = ', '.join(folders)
    if '://' in folders[0]:
        # Not on disk: the host finds the name of the last one in the work dir.
        cfg.resume, cfg.load_from = True, None
        return
    path, problems = last_checkpoint_of(cfg, trust_pickle=trust_pickle)
    if path is None and problems:
        raise RuntimeError(
            f'--resume: no checkpoint in {folder} can be used:\n'
            + '\n'.join(problems)
            + '\nTo start over, choose another --work-dir or move them away.'
        )
    cfg.resume = path is not None
    lines = [f'left out: {problem}' for problem in problems]
    if path is None:
        lines.append(f'no checkpoint in {folder}; training starts at iteration 0.')
    else:
        cfg.load_from = str(path)
        lines += _cut_as_before(cfg, path, trust_pickle=trust_pickle)
        lines.append(f'resuming from {path}, the last whole checkpoint.')
    if is_first_process(cfg):
        print('\n'.join(f'--resume: {line}' for line in lines))


def _cut_as_before(cfg: Config, path: Path, *, trust_pickle: bool) -> list[str]:
    """Resume with the splits of the checkpoint if the config does not name any.

    Where a plan decides, what it decides besides is that of the checkpoint, too.
    """
    model = cfg.get('model')
    if not is_local(model) or model.get('local') is None:
        return []
    settings = LocalSettings.parse(model.local)
    meta = read_checkpoint(path, trust_pickle=trust_pickle).get('meta') or {}
    local = meta.get(LOCAL_META)
    if settings.splits is not None or local is None:
        return []
    splits = local['splits']
    if settings.num_modules is not None:
        model.local = with_cuts(model.local, splits, settings.recompute)
    else:
        period = model.local.get('end_to_end_every') or local.get('end_to_end_every')
        cut = with_cuts(model.local, splits, local['recompute'])
        model.local = {**cut, 'end_to_end_every': period}
    return [f'splits of the checkpoint: {local["splits"]}.']


def last_checkpoint_of(
    cfg: Config, *, trust_pickle: bool = False
) -> tuple[Path | None, list[str]]:
    """The last whole checkpoint of a run, wherever its checkpoint hook wrote it.

    Args:
        cfg: Config of the run, with ``work_dir``.
        trust_pickle: See `read_checkpoint`.

    Returns:
        See `last_whole_checkpoint`.
    """
    first, *others = (place for place in checkpoint_places(cfg) if place.is_resumable)
    also = [path for place in others for path in place.files()]
    return last_whole_checkpoint(
        first.folder,
        template=first.template,
        also=[*also, *_noted_by_host(cfg)],
        trust_pickle=trust_pickle,
    )


class CheckpointPlace(NamedTuple):
    """Where a checkpoint hook writes.

    Args:
        folder: On disk, or of a remote file system.
        template: ``filename_tmpl``, or None for the host's default.
        is_resumable: Whether its files are tried when a run is resumed.
    """

    folder: str
    template: str | None
    is_resumable: bool

    def files(self) -> list[Path]:
        """Its checkpoints, in order of their names; best ones are left out."""
        names = HOST_NAMES if self.template is None else (self.template,)
        return checkpoints_in(self.folder, names)


def resumable_folders(cfg: Config) -> list[str]:
    """The folders in which a run's last checkpoint is searched, each once."""
    places = checkpoint_places(cfg)
    return list(dict.fromkeys(p.folder for p in places if p.is_resumable))


def checkpoint_places(cfg: Config) -> list[CheckpointPlace]:
    """Where the checkpoint hooks of a run write.

    A second hook may keep weights alone, as an archive: those are not tried when the
    run is resumed.

    Args:
        cfg: Config of the run, with ``work_dir``.

    Returns:
        At least one. That of ``default_hooks.checkpoint``, if there is such a hook, is
        the first one; the first one is always resumable.
    """
    # As the Runner completes them.
    hooks = {
        'checkpoint': {'type': CheckpointHook},
        **(cfg.get('default_hooks') or {}),
    }
    first = hooks.pop('checkpoint')
    places: list[CheckpointPlace] = []
    for hook in (first, *hooks.values(), *as_list(cfg.get('custom_hooks'))):
        found = _settings_of(hook, cfg)
        if found is not None:
            folder = _folder_of(found.get('out_dir'), cfg.work_dir)
            is_resumable = not places or found.get('save_optimizer', True)
            template = found.get('filename_tmpl')
            places.append(CheckpointPlace(folder, template, is_resumable))
    return places or [CheckpointPlace(cfg.work_dir, None, is_resumable=True)]


def _settings_of(hook: Any, cfg: Config) -> Mapping[str, Any] | None:
    """The settings of a hook that writes checkpoints; None for another one."""
    if isinstance(hook, CheckpointHook):
        return vars(hook)
    kind = hook.get('type') if isinstance(hook, Mapping) else None
    cls = class_of(HOOKS, kind, scope_of(cfg))
    writes = isinstance(cls, type) and issubclass(cls, CheckpointHook)
    return hook if writes else None


def _folder_of(out_dir: str | Path | None, work_dir: str) -> str:
    work_path = os.path.abspath(work_dir)
    if out_dir and out_dir != work_path:
        # As the host composes it.
        return os.path.join(str(out_dir), os.path.basename(work_path))
    return work_dir


def _noted_by_host(cfg: Config) -> list[Path]:
    """The checkpoint that ``last_checkpoint`` names, wherever it is."""
    note = Path(cfg.work_dir) / 'last_checkpoint'
    if not note.is_file():
        return []
    path = Path(note.read_text().strip())
    places = checkpoint_places(cfg)
    archived = [file for p in places if not p.is_resumable for file in p.files()]
    return [] if path.resolve() in [file.resolve() for file in archived] else [path]

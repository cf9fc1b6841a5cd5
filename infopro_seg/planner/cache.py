"""Keeps measured chains on disk, so that a network is measured once.

They lie in ``$XDG_CACHE_HOME/infopro_seg`` (default ``~/.cache/infopro_seg``), one
file a network, batch and crop. ``INFOPRO_SEG_CACHE=off`` switches it off.
"""

import dataclasses
import functools
import hashlib
import json
import os
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..bundled import TOOLS
from ..install import installed_versions
from .search.costs import (
    AuxiliaryCost,
    Chain,
    HeadCost,
    Modes,
    Output,
    Pass,
    Skip,
    UnitCost,
    Variants,
)

_SWITCH = 'INFOPRO_SEG_CACHE'
_PACKAGES = ('onedl-mmsegmentation', 'mmsegmentation', 'onedl-mmcv', 'mmcv')
_PACKAGE = Path(__file__).resolve().parents[1]


def cached(key: Mapping[str, Any], measure: Callable[[], Chain]) -> Chain:
    """A chain from the cache, or measured and put there.

    Args:
        key: All that the measurement depends on, but for the versions of the code.
        measure: Measures it.
    """
    is_off = os.environ.get(_SWITCH, '').lower() in ('off', '0', 'false', 'no')
    if is_off or not has_visible_sources():
        return measure()
    path = cache_folder() / f'{digest(key)}.json'
    if path.is_file():
        try:
            return chain_from_json(path.read_text(encoding='utf-8'))
        except (ValueError, TypeError, KeyError) as error:
            warnings.warn(
                f'{path} cannot be read ({error}); measuring again.', stacklevel=2
            )
    chain = measure()
    _write(path, json.dumps(dataclasses.asdict(chain)))
    return chain


def cache_folder() -> Path:
    """Where chains are kept."""
    home = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return Path(home) / 'infopro_seg' / 'chains'


def digest(key: Mapping[str, Any]) -> str:
    """A name for a key and the versions of the code that measures."""
    versions = str(torch.__version__), installed_versions(_PACKAGES)
    hashed = hashlib.sha256(repr(versions).encode())
    sources = [_PACKAGE / 'compat.py', *own_sources()]
    for folder in ('models', 'planner', 'settings', 'units'):
        sources += sorted((_PACKAGE / folder).rglob('*.py'))
    for source in sources:
        hashed.update(source.read_bytes())
    hashed.update(json.dumps(key, sort_keys=True, default=repr).encode())
    return hashed.hexdigest()[:32]


def own_sources() -> list[Path]:
    """Files of the Python modules in use that are no installed package.

    Heads, losses and backbones of the user's are among them, with whatever they import:
    an edit to any makes a new measurement.
    """
    files = {getattr(module, '__file__', None) for module in list(sys.modules.values())}
    paths = {_own_source(file) for file in files if file}
    return sorted(path for path in paths if path and path.is_file())


def has_visible_sources() -> bool:
    """Whether an edit to the code in use can be seen; in a notebook it cannot."""
    main = sys.modules.get('__main__')
    return getattr(main, '__file__', None) is not None or not hasattr(sys, 'ps1')


# Thousands of modules are in use, and each is asked about for every network.
@functools.cache
def _own_source(file: str) -> Path | None:
    """A Python file that belongs to no installed package; None if it is another."""
    path = Path(os.path.realpath(file))
    is_own = path.suffix == '.py' and not any(
        path.is_relative_to(folder) for folder in _installed_folders()
    )
    return path if is_own else None


@functools.cache
def _installed_folders() -> tuple[Path, ...]:
    """Folders of Python, of packages, and of this project's tools."""
    paths = map(sysconfig.get_path, ('stdlib', 'purelib', 'platlib'))
    folders = [Path(path) for path in paths if path]
    folders += [_PACKAGE, TOOLS, _PACKAGE.parent / 'infopro_seg_command.py']
    return tuple({folder.resolve() for folder in folders})


def chain_from_json(text: str) -> Chain:
    """A chain from its JSON form."""
    return _chain(json.loads(text))


def _chain(content: dict) -> Chain:
    end_to_end = content['end_to_end']
    return Chain(
        **{
            **content,
            'units': tuple(
                UnitCost(name, _variants(passes), *rest)
                for name, passes, *rest in content['units']
            ),
            'heads': tuple(
                HeadCost(Pass(*step), weights, again and Pass(*again))
                for step, weights, again in content['heads']
            ),
            'tail': _variants(content['tail']),
            'tail_reads': tuple(content['tail_reads']),
            'auxiliaries': tuple(
                AuxiliaryCost(Pass(*step), tuple(reads))
                for step, reads in content['auxiliaries']
            ),
            'outputs': tuple(Output(*output) for output in content['outputs']),
            'skips': tuple(Skip(*skip) for skip in content['skips']),
            'assumed': tuple(content['assumed']),
            'end_to_end': end_to_end and _chain(end_to_end),
        }
    )


def _variants(content: list) -> Variants:
    inner, first, between = content
    return Variants(_modes(inner), _modes(first), tuple(map(_modes, between)))


def _modes(content: list) -> Modes:
    plain, whole, stepwise = (step and Pass(*step) for step in content)
    return plain, whole, stepwise


def _write(path: Path, text: str) -> None:
    """Write at once, so that another process never reads half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            'w', dir=path.parent, suffix='.tmp', delete=False, encoding='utf-8'
        ) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError as error:
        warnings.warn(
            f'measured costs cannot be kept in {path.parent} ({error}); set '
            f'XDG_CACHE_HOME, or {_SWITCH}=off.',
            stacklevel=2,
        )

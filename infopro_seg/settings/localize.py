"""Turns a stock config into a local one and back, as the README does by hand."""

import copy
import os
import pprint
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..compat import is_pure_python
from ..scopes import in_mmseg
from .config import as_list, read_config, type_name
from .local import merged_local

#: The hook that registers all hooks of a local run.
RUN_HOOK = 'LocalTrainingHook'
#: Stock segmentors and their local forms.
LOCAL_TYPES = {
    'EncoderDecoder': 'InfoProEncoderDecoder',
    'CascadeEncoderDecoder': 'InfoProCascadeEncoderDecoder',
}


def local_type(segmentor: Any) -> str:
    """The type name of the local form of a segmentor.

    Args:
        segmentor: ``type`` of a stock or local segmentor: a name with or without scope,
            or a class.

    Raises:
        ValueError: if it has no local form.
    """
    kind = type_name(segmentor)
    if kind in LOCAL_TYPES.values():
        return kind
    if kind not in LOCAL_TYPES:
        raise ValueError(
            f'model.type={segmentor!r} cannot be cut into local modules; supported: '
            f'{", ".join(LOCAL_TYPES)}.'
        )
    return LOCAL_TYPES[kind]


def is_local(model: Any) -> bool:
    """Whether a model config is one of the local segmentors."""
    return type_name(model) in LOCAL_TYPES.values() if model else False


def stock_model_config(model: Mapping) -> dict:
    """The config of the same network without local modules.

    Args:
        model: Config of a local or stock segmentor.

    Returns:
        A copy with the stock type, under a name that every scope knows; a model of any
        other type is only copied.
    """
    stock = copy.deepcopy(dict(model))
    stock.pop('local', None)
    stock_types = {local: in_mmseg(name) for name, local in LOCAL_TYPES.items()}
    kind = type_name(stock)
    stock['type'] = stock_types.get(kind, stock['type'])
    return stock


def localize(cfg: Config, local: Mapping[str, Any]) -> dict[str, Any]:
    """Make a config local.

    Args:
        cfg: A config whose model is one of `LOCAL_TYPES`; changed in place.
        local: The ``local`` setting, such as ``dict(num_modules=4)``. A way to cut
            replaces an earlier one; the rest is merged. Keys may be dotted.

    Returns:
        What was set, in the form of a config that inherits from this one.

    Raises:
        ValueError: if the segmentor is of another type.
    """
    kind = local_type(cfg.model.type)
    merged = merged_local(cfg.model.get('local'), local)
    hooks = [copy.copy(hook) for hook in as_list(cfg.get('custom_hooks'))]
    if RUN_HOOK not in map(type_name, hooks):
        hooks.append({'type': RUN_HOOK})
    given = cfg.get('custom_imports') or {}
    imports = as_list(given.get('imports'))
    if 'infopro_seg' not in imports:
        imports.append('infopro_seg')
    settings = {
        'custom_imports': {
            'imports': imports,
            'allow_failed_imports': given.get('allow_failed_imports', False),
        },
        'model': {'type': kind, 'local': merged},
        'custom_hooks': hooks,
        'find_unused_parameters': True,
    }
    loader = cfg.get('train_dataloader') or {}
    if type_name(loader.get('sampler') or {}) == 'InfiniteSampler':
        # The same order, but a resumed run repeats the augmentations.
        settings['train_dataloader'] = {'sampler': {'type': 'SeededSampler'}}
    cfg.model.pop('local', None)
    cfg.merge_from_dict(copy.deepcopy(settings))
    return settings


def write_localized(
    cfg: Config, base: str, settings: dict[str, Any], out: str | Path, *, force: bool
) -> None:
    """Write a config that makes a stock one local.

    Where possible it is short and inherits from the stock config. A text config cannot
    inherit from a pure-Python one, so in that case it is written in full.

    Args:
        cfg: The localized config.
        base: Path of the stock config, or ``mmseg::...``.
        settings: What `localize` returned.
        out: File to write.
        force: Overwrite an existing file.

    Raises:
        FileExistsError: if the file exists and ``force`` is False.
    """
    out = Path(os.path.abspath(out))
    if out.exists() and not force:
        raise FileExistsError(f'{out} exists; pass --force to overwrite it.')
    out.parent.mkdir(parents=True, exist_ok=True)
    if is_pure_python(base):
        cfg.dump(out)
        return
    settings = copy.deepcopy(settings)
    if 'local' in read_config(base).model:
        # Replaced, not merged: the base may be cut in another way.
        settings['model']['local']['_delete_'] = True
    if '::' not in base:
        # Links stay: the host looks for the base of a config beside the link to it.
        base = _relative(Path(os.path.abspath(base)), out.parent)
    lines = [f'_base_ = {base!r}']
    for name, value in settings.items():
        text = pprint.pformat(value, width=84 - len(name), sort_dicts=False)
        lines.append(f'{name} = ' + text.replace('\n', '\n' + ' ' * (len(name) + 3)))
    out.write_text('\n'.join(lines) + '\n', encoding='utf-8')


def _relative(path: Path, folder: Path) -> str:
    """A path relative to a folder if both are in the current one; else unchanged.

    From a folder that is a link, ``..`` leads elsewhere.
    """
    here = Path.cwd()
    if path.is_relative_to(folder):
        return f'./{path.relative_to(folder).as_posix()}'
    is_here = path.is_relative_to(here) and folder.is_relative_to(here)
    if is_here and folder == folder.resolve():
        return Path(os.path.relpath(path, folder)).as_posix()
    return path.as_posix()

"""Turn a stock config into a local one: what the README says by hand, as a function."""

import pprint
from pathlib import Path
from typing import Any

from mmengine.config import Config

_HOOKS = ('LocalBackwardHook', 'CheckLabelsHook', 'DataGuardHook', 'CheckWeightsHook')
#: Stock segmentors and what they become.
LOCAL_TYPES = {
    'EncoderDecoder': 'InfoProEncoderDecoder',
    'CascadeEncoderDecoder': 'InfoProCascadeEncoderDecoder',
}


def local_type(segmentor: str) -> str:
    """The local form of a segmentor.

    Args:
        segmentor: ``type`` of a stock or local segmentor, with or without scope.

    Raises:
        ValueError: if it has none.
    """
    kind = segmentor.rpartition('.')[-1]
    if kind in LOCAL_TYPES.values():
        return kind
    if kind not in LOCAL_TYPES:
        raise ValueError(
            f'model.type={segmentor!r} cannot be cut into local modules; supported: '
            f'{", ".join(LOCAL_TYPES)}.'
        )
    return LOCAL_TYPES[kind]


def localize(cfg: Config, local: dict[str, Any]) -> dict[str, Any]:
    """Make a config local.

    Args:
        cfg: A config whose model is one of `LOCAL_TYPES`; changed in place.
        local: The ``local`` setting, such as ``dict(num_modules=4)``. It replaces
            an earlier way to cut and is merged with the rest.

    Returns:
        What was set, as it would stand in a config that inherits from this one.

    Raises:
        ValueError: if the segmentor is of another type.
    """
    kind = local_type(cfg.model.type)
    cuts = {'splits', 'num_modules', 'plan', 'gpu_memory'}
    earlier = dict(cfg.model.get('local') or {})
    if cuts & local.keys():
        # None removes an inherited way to cut.
        earlier.update(dict.fromkeys(cuts & earlier.keys()))
    hooks = [dict(hook) for hook in cfg.get('custom_hooks') or []]
    present = {hook['type'] for hook in hooks}
    hooks += [{'type': name} for name in _HOOKS if name not in present]
    imports = (cfg.get('custom_imports') or {}).get('imports') or []
    imports = [imports] if isinstance(imports, str) else list(imports)
    if 'infopro_seg' not in imports:
        imports.append('infopro_seg')
    settings = {
        'custom_imports': {'imports': imports, 'allow_failed_imports': False},
        'model': {'type': kind, 'local': {**earlier, **local}},
        'custom_hooks': hooks,
        'default_hooks': {'checkpoint': {'type': 'SafeCheckpointHook'}},
        'find_unused_parameters': True,
    }
    sampler = (cfg.get('train_dataloader') or {}).get('sampler') or {}
    if sampler.get('type') == 'InfiniteSampler':
        # The same order, with augmentations that a resumed run repeats.
        settings['train_dataloader'] = {'sampler': {'type': 'SeededSampler'}}
    cfg.merge_from_dict(settings)
    return settings


def write_localized(
    base: str, settings: dict[str, Any], out: str | Path, *, force: bool
) -> None:
    """Write a readable config that inherits from a stock one.

    Args:
        base: Path of the stock config, or ``mmseg::...``.
        settings: From `localize`.
        out: File to write.
        force: Overwrite an existing file.

    Raises:
        FileExistsError: if the file exists and ``force`` is False.
    """
    out = Path(out)
    if out.exists() and not force:
        raise FileExistsError(f'{out} exists; pass --force to overwrite it.')
    if '::' not in base:
        base = str(Path(base).resolve())
    lines = [f'_base_ = {base!r}']
    for name, value in settings.items():
        text = pprint.pformat(value, width=84 - len(name), sort_dicts=False)
        lines.append(f'{name} = ' + text.replace('\n', '\n' + ' ' * (len(name) + 3)))
    out.write_text('\n'.join(lines) + '\n', encoding='utf-8')

"""Which settings of a config the rows of a study may change."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

#: Set by the study file or the command line; options may not touch it.
_OWN = (
    *('train_cfg', 'randomness', 'load_from', 'resume', 'work_dir', 'data_root'),
    *('model.pretrained', 'model.local', 'model.type', 'model.backbone.init_cfg'),
    *('default_hooks.checkpoint', 'default_hooks.logger.interval'),
)
# Read instead of another one, where it is set.
_INSTEAD = {'train_dataloader.batch_size': 'total_batch_size'}


def check_option(content: Mapping[str, Any], key: str) -> None:
    """Check that an option changes something that is there.

    Args:
        content: The config, as plain values.
        key: Dotted name of the option.

    Raises:
        ValueError: if it names nothing in the config, or what the study sets itself.
    """
    own = _owner(key)
    if own is not None:
        raise ValueError(
            f'option {key}: the study sets {own} itself, from its other entries and '
            'the command line.'
        )
    parent, _, leaf = key.rpartition('.')
    place = _lookup(content, parent)
    # A class may take arguments that the config does not name.
    is_argument = isinstance(place, Mapping) and 'type' in place
    if _lookup(place, leaf) is _MISSING and not is_argument:
        near = difflib.get_close_matches(key, list(_names(content)), 1, 0.8)
        hint = f'; did you mean {near[0]}?' if near else '.'
        raise ValueError(f'option {key} names nothing in the config{hint}')


def option_value(content: Mapping[str, Any], key: str) -> Any:
    """What a config has under the name of an option; None if it has nothing."""
    value = _lookup(content, key)
    return None if value is _MISSING else value


def names_instead(content: Mapping[str, Any], key: str) -> list[str]:
    """Names by which a setting is read, where an option of this name is not."""
    if key in _INSTEAD:
        return [_INSTEAD[key]]
    names = [name for name in _names(content) if name.endswith(f'.{key}')]
    return [name for name in names if _owner(name) is None]


def _owner(key: str) -> str | None:
    """What the study sets itself and a dotted name is, or belongs to."""
    found = (own for own in _OWN if key == own or key.startswith(f'{own}.'))
    return next(found, None)


_MISSING = object()


def _lookup(value: Any, key: str) -> Any:
    """The entry of a dotted name in dicts and lists; `_MISSING` if there is none."""
    for part in filter(None, key.split('.')):
        if isinstance(value, Mapping) and part in value:
            value = value[part]
        elif isinstance(value, list | tuple) and part.isdigit():
            value = value[int(part)] if int(part) < len(value) else _MISSING
        else:
            return _MISSING
    return value


def _names(value: Any, begin: str = '') -> Iterator[str]:
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, part in items:
        yield f'{begin}{key}'
        if isinstance(part, Mapping | list | tuple):
            yield from _names(part, f'{begin}{key}.')

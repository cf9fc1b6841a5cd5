"""The study file: which methods are trained, on which seeds, for how long.

Nothing here knows what a local module is: settings of a method are checked where they
are used.
"""

import dataclasses
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

VAL, TRAIN_SPLIT = 'val', 'train_split'


# A row is equal to itself only: its settings are dicts, which have no hash.
@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """A method of a study.

    Args:
        name: As tables call it.
        config: Config file, or ``mmseg::NAME``.
        local: The ``local`` setting on top of that of the config.
        options: Other settings by dotted names, with those of all rows.
        seeds: Of its runs.
        iterations: Of each run.
        validation_interval: Iterations from one validation to the next.
    """

    name: str
    config: str
    local: Mapping[str, Any]
    options: Mapping[str, Any]
    seeds: tuple[int, ...]
    iterations: int
    validation_interval: int

    @property
    def slug(self) -> str:
        """The name as file names have it."""
        return re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')

    @property
    def config_name(self) -> str:
        """The config without its folder, which is another on every machine."""
        return self.config if '::' in self.config else Path(self.config).name


@dataclasses.dataclass(frozen=True)
class Study:
    """A matrix of methods and seeds.

    Args:
        name: Of the report; file names begin with it.
        iterations: Of each run, where its row says nothing else.
        checkpoint_interval: Iterations from one checkpoint to the next: what an
            interruption may cost.
        rows: The methods, those of most worth first.
        baseline: Name of the row that the others are compared with.
        validate_on: ``val``, or ``train_split``: scores are those of the last fifth
            of the training images, which are not trained on. For tuning.
        pretrained: Whether networks start from the weights that ``--weights`` names.
        seconds_per_iteration: An estimate, until one was measured.
        about: Network and data in a few words.
    """

    name: str
    iterations: int
    checkpoint_interval: int
    rows: tuple[Row, ...]
    baseline: str
    validate_on: str
    pretrained: bool
    seconds_per_iteration: float | None
    about: str = ''

    def row(self, name: str) -> Row:
        """The row of this name.

        Raises:
            ValueError: if there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise ValueError(_unknown('row', name, [row.name for row in self.rows]))


def read_study(path: str | Path) -> Study:
    """Read a study file and check all that can be checked without the configs.

    Args:
        path: A YAML file. Configs are looked up from its folder.

    Raises:
        FileNotFoundError: if it does not exist, or a config does not.
        ValueError: if it is no YAML, an entry is unknown, missing or wrong, names are
            there twice, or the baseline is no row.
        TypeError: if an entry is of the wrong kind.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'study file {path} does not exist.')
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), _Loader)
        return _study(content, path.parent)
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is no YAML: {_flat(error)}') from error
    except (ValueError, TypeError) as error:
        raise type(error)(f'{path}: {error}') from error


class _Loader(yaml.SafeLoader):
    """Reads plain values as YAML 1.2 does, and no key twice."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                raise ValueError(
                    f'entry {key.value!r} is there twice, in lines {lines[key.value]} '
                    f'and {line}.'
                )
            lines[key.value] = line
        return node


# YAML 1.1, and with it the library, takes 1e-3 for text.
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float',
    re.compile(r'[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$'),
    list('-+0123456789'),
)


# Allowed entries, and what they must be.
_STUDY = {
    'name': str,
    'config': str,
    'iterations': int,
    'validation_interval': int,
    'checkpoint_interval': int,
    'seeds': list,
    'baseline': str,
    'validate_on': str,
    'pretrained': bool,
    'seconds_per_iteration': (int, float),
    'about': str,
    'options': dict,
    'rows': list,
}
_NEEDED = ('name', 'config', 'iterations', 'validation_interval', 'seeds', 'rows')
_ROW = {
    'name': str,
    'config': str,
    'local': dict,
    'options': dict,
    'seeds': list,
    'iterations': int,
    'validation_interval': int,
}
_KINDS = {str: 'text', int: 'a whole number', list: 'a list', dict: 'a mapping'}


def _study(content: Any, folder: Path) -> Study:
    entries = _checked('the study', content, _STUDY, _NEEDED)
    if not re.fullmatch(r'[\w-]+', entries['name']):
        raise ValueError(
            f'name: {entries["name"]!r} names files: use letters, digits, - and _ only.'
        )
    _check_intervals(entries)
    validate_on = entries.get('validate_on', VAL)
    if validate_on not in (VAL, TRAIN_SPLIT):
        raise ValueError(_unknown('validate_on', validate_on, (VAL, TRAIN_SPLIT)))
    seconds = entries.get('seconds_per_iteration')
    if seconds is not None and seconds <= 0:
        raise ValueError(f'seconds_per_iteration: {seconds} must be above 0.')
    rows = tuple(_row(row, entries, folder) for row in entries['rows'])
    if not rows:
        raise ValueError('rows: there must be at least one.')
    _refuse_doubles('the name of two rows', [row.slug for row in rows])
    study = Study(
        name=entries['name'],
        iterations=entries['iterations'],
        checkpoint_interval=entries.get(
            'checkpoint_interval', entries['validation_interval']
        ),
        rows=rows,
        baseline=entries.get('baseline', rows[0].name),
        validate_on=validate_on,
        pretrained=entries.get('pretrained', False),
        seconds_per_iteration=seconds,
        about=entries.get('about', ''),
    )
    study.row(study.baseline)
    return study


def _row(content: Any, study: Mapping[str, Any], folder: Path) -> Row:
    name = content.get('name') if isinstance(content, dict) else None
    where = f'row {name!r}' if name else 'a row without a name'
    entries = _checked(where, content, _ROW, ('name', 'local'))
    numbers = {
        key: entries.get(key, study[key])
        for key in ('iterations', 'validation_interval')
    }
    try:
        _check_intervals(numbers)
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error
    row = Row(
        name=entries['name'],
        config=_config(entries.get('config', study['config']), folder),
        local=entries['local'],
        options={**study.get('options', {}), **entries.get('options', {})},
        seeds=_seeds(where, entries.get('seeds', study['seeds'])),
        **numbers,
    )
    if not row.slug:
        raise ValueError(f'{where}: the name has no letter and no digit.')
    return row


def _check_intervals(entries: Mapping[str, Any]) -> None:
    most = entries['iterations']
    for key in ('iterations', 'validation_interval', 'checkpoint_interval'):
        number = entries.get(key, most)
        if not 1 <= number <= most:
            raise ValueError(f'{key}: {number} must be from 1 to iterations={most}.')


def _config(name: str, folder: Path) -> str:
    if '::' in name:
        return name
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f'config {name} does not exist in {folder}.')
    return str(path)


def _seeds(where: str, seeds: Sequence[Any]) -> tuple[int, ...]:
    for seed in seeds:
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f'{where}: seed {seed!r} must be a number from 0 on.')
    if not seeds:
        raise ValueError(f'{where}: there must be at least one seed.')
    _refuse_doubles(f'in the seeds of {where} twice', seeds)
    return tuple(seeds)


def _checked(
    where: str, content: Any, kinds: Mapping[str, Any], needed: Sequence[str]
) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise TypeError(f'{where} must be a mapping, got {content!r}.')
    for key, value in content.items():
        if key not in kinds:
            raise ValueError(f'{where}: {_unknown("entry", key, list(kinds))}')
        kind = kinds[key]
        is_wrong = isinstance(value, bool) and kind is not bool
        if is_wrong or not isinstance(value, kind):
            text = _KINDS.get(kind, 'true or false' if kind is bool else 'a number')
            raise TypeError(f'{where}: {key} must be {text}, got {value!r}.')
    missing = [key for key in needed if key not in content]
    if missing:
        raise ValueError(f'{where}: {", ".join(missing)} is missing.')
    return content


def _refuse_doubles(what: str, values: Sequence[Any]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f'{value!r} is {what}.')


def _unknown(what: str, given: Any, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(given), allowed, 1)
    hint = f'did you mean {near[0]!r}?' if near else f'allowed: {", ".join(allowed)}.'
    return f'{what} {given!r} is unknown; {hint}'


def _flat(error: Exception) -> str:
    return ' '.join(str(error).split())

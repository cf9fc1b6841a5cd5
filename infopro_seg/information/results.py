"""The report of probes: numbers of one or several networks, tables, a figure.

Runs with the same folder add to it, also at the same time. The numbers of a network are
written whole or not at all; tables and figure are made from them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.files import write_whole
from ..processes import locked
from ..report.information_plots import plot_information
from ..report.information_text import gradient_table, information_table
from ..report.pages import fill_page

INFORMATION, GRADIENTS = 'information', 'gradients'
#: Numbers of one network: ``name``, ``boundaries`` or ``modules``, facts.
Entry = dict[str, Any]


def check_results(
    folder: Path,
    kind: str,
    settings: Mapping[str, Any],
    names: Sequence[str],
    *,
    force: bool,
) -> None:
    """Find out whether numbers may be added to those of earlier runs.

    Args:
        folder: Of the report; need not exist.
        kind: `INFORMATION` or `GRADIENTS`.
        settings: Of this run; only numbers with the same ones can be compared.
        names: Of the networks of this run.
        force: Replace numbers of networks of the same name.

    Raises:
        FileExistsError: if there are numbers of such a network and ``force`` is False.
        ValueError: if the file is damaged or was made with other settings, or two
            networks would have one file of pictures.
    """
    known = [entry['name'] for entry in _earlier(folder, kind, settings)]
    again = [name for name in names if name in known]
    if again and not force:
        raise FileExistsError(
            f'{folder / kind}.json has numbers of {", ".join(again)}: give the '
            'checkpoint another name, NAME=FILE, or pass --force to replace them.'
        )
    files: dict[str, str] = {}
    for name in dict.fromkeys((*known, *names)):
        other = files.setdefault(slug(name), name)
        if other != name:
            raise ValueError(
                f'networks {other!r} and {name!r} would have one file of pictures: '
                'give one of them a name that differs in letters or digits, NAME=FILE.'
            )


def slug(name: str) -> str:
    """The name of a network as file names have it."""
    return re.sub(r'[^\w.-]+', '-', name)


def add_result(
    folder: Path, kind: str, settings: Mapping[str, Any], entry: Entry
) -> str:
    """Add the numbers of a network to ``KIND.json``, ``KIND.md`` and a figure.

    Those of a network of the same name are replaced. Text by hand outside of the marks
    of the page is kept. Several processes may add to one folder.

    Returns:
        The table, to print.

    Raises:
        ValueError: if the file is damaged or was made with other settings.
    """
    with locked(folder / f'.{kind}.lock', wait=True):
        earlier = _earlier(folder, kind, settings)
        others = [other for other in earlier if other['name'] != entry['name']]
        return _write(folder, kind, settings, [*others, entry])


def read_results(folder: Path, kind: str) -> tuple[dict[str, Any], list[Entry]]:
    """Settings and networks of a report.

    Args:
        folder: Of the report.
        kind: `INFORMATION` or `GRADIENTS`.

    Raises:
        FileNotFoundError: if there is no ``KIND.json``.
        ValueError: if the file is damaged.
    """
    path = folder / f'{kind}.json'
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        settings, methods = dict(content['settings']), list(content['methods'])
        for method in methods:
            method['name']
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f'{path} does not exist: give a folder that tools/probe.py wrote.'
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} was not written by tools/probe.py ({error!r}): choose another '
            'folder, or move it away.'
        ) from error
    return settings, methods


def _earlier(folder: Path, kind: str, settings: Mapping[str, Any]) -> list[Entry]:
    path = folder / f'{kind}.json'
    if not path.exists():
        return []
    earlier, methods = read_results(folder, kind)
    for key, value in settings.items():
        if earlier.get(key) != value:
            raise ValueError(
                f'{path} has numbers with {key}={earlier.get(key)}, and this run has '
                f'{value}: they cannot be compared. Choose another --out, or the same '
                'settings.'
            )
    return methods


def _write(
    folder: Path, kind: str, settings: Mapping[str, Any], entries: Sequence[Entry]
) -> str:
    numbers = json.dumps({'settings': settings, 'methods': entries}, indent=1) + '\n'
    write_whole(numbers.encode(), folder / f'{kind}.json')
    parts = {'facts': _facts(settings, entries)}
    if kind == INFORMATION:
        table = information_table(entries)
        plot_information(entries, folder / f'{kind}.png')
        parts['figure'] = f'![information over depth]({kind}.png)'
        parts['table'] = table
    else:
        table = gradient_table(entries)
        parts['table'] = table
    title = 'Where information is lost' if kind == INFORMATION else 'Local gradients'
    fill_page(folder / f'{kind}.md', parts, title)
    return table


def _facts(settings: Mapping[str, Any], entries: Sequence[Entry]) -> str:
    """What the numbers need to be believed."""
    lines = [f'- {key.replace("_", " ")}: {value}' for key, value in settings.items()]
    said = [
        *(
            (entry['name'], f'{key}: {entry["facts"][key]}')
            for key in ('command', 'machine', 'versions', 'date')
            for entry in entries
        ),
        *((entry['name'], note) for entry in entries for note in entry['notes']),
    ]
    owners: dict[str, list[str]] = {}
    for name, text in said:
        owners.setdefault(text, []).append(name)
    for text, names in owners.items():
        of = '' if len(names) == len(entries) else f'{", ".join(names)}: '
        lines.append(f'- {of}{text}')
    return '\n'.join(lines)

"""The report of probes: numbers of one or several networks, tables, a figure.

Runs with the same folder add to it. The numbers of a network are written whole or not
at all; tables and figure are made from them.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.files import write_whole
from ..report.information_plots import plot_information
from ..report.information_text import gradient_table, information_table
from ..report.pages import fill_page

INFORMATION, GRADIENTS = 'information', 'gradients'
#: Numbers of one network: ``name``, ``boundaries`` or ``modules``, facts.
Entry = dict[str, Any]


def earlier_entries(
    folder: Path,
    kind: str,
    settings: Mapping[str, Any],
    names: Sequence[str],
    *,
    force: bool,
) -> list[Entry]:
    """What earlier runs found, without the networks that are measured again.

    Args:
        folder: Of the report; need not exist.
        kind: `INFORMATION` or `GRADIENTS`.
        settings: Of this run; only numbers with the same ones can be compared.
        names: Of the networks of this run.
        force: Replace numbers of networks of the same name.

    Raises:
        FileExistsError: if there are numbers of such a network and ``force`` is False.
        ValueError: if the file is damaged or was made with other settings.
    """
    path = folder / f'{kind}.json'
    if not path.exists():
        return []
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
        earlier, methods = content['settings'], content['methods']
        known = [method['name'] for method in methods]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path} was not written by tools/probe.py ({error!r}): choose another '
            '--out, or move it away.'
        ) from error
    for key, value in settings.items():
        if earlier.get(key) != value:
            raise ValueError(
                f'{path} has numbers with {key}={earlier.get(key)}, and this run has '
                f'{value}: they cannot be compared. Choose another --out, or the same '
                'settings.'
            )
    again = [name for name in names if name in known]
    if again and not force:
        raise FileExistsError(
            f'{path} has numbers of {", ".join(again)}: give the checkpoint another '
            'name, NAME=FILE, or pass --force to replace them.'
        )
    return [method for method in methods if method['name'] not in names]


def write_results(
    folder: Path, kind: str, settings: Mapping[str, Any], entries: Sequence[Entry]
) -> str:
    """Write ``KIND.json`` and ``KIND.md``, and for information ``KIND.png``.

    Text by hand outside of the marks of the page is kept.

    Returns:
        The table, to print.
    """
    folder.mkdir(parents=True, exist_ok=True)
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
    for key in ('command', 'machine', 'versions', 'date'):
        values = dict.fromkeys(entry['facts'][key] for entry in entries)
        lines.append(f'- {key}: {"; ".join(values)}')
    notes: dict[str, list[str]] = {
        note: [] for entry in entries for note in entry['notes']
    }
    for entry in entries:
        for note in entry['notes']:
            notes[note].append(entry['name'])
    for note, names in notes.items():
        owners = '' if len(names) == len(entries) else f'{", ".join(names)}: '
        lines.append(f'- {owners}{note}')
    return '\n'.join(lines)

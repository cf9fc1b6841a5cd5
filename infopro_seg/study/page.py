"""The report of a study: a page, the numbers behind it, and figures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checkpoints.files import write_whole
from ..report.pages import fill_page
from ..report.study_plots import plot_curves, plot_differences, plot_frontier
from ..report.study_text import class_table, score_table
from .job import Job, Places
from .matrix import TRAIN_SPLIT, Study
from .rows import Record
from .summary import summarised


def write_report(
    study: Study, finished: Mapping[Job, Record], places: Places, command: str
) -> str:
    """Write ``NAME.md``, ``NAME.json`` and the figures into the results folder.

    Text by hand outside of the marks of the page is kept.

    Args:
        study: The matrix.
        finished: Its finished runs.
        places: Where the results are.
        command: By which the numbers are made again.

    Returns:
        The table of scores, to print.

    Raises:
        ValueError: if no run is finished.
    """
    records = list(finished.values())
    if not records:
        raise ValueError(
            f'no run of study {study.name} is finished: no row in {places.rows(study)}.'
        )
    entries = summarised(study, records)
    facts = _facts(study, records, command)
    places.results.mkdir(parents=True, exist_ok=True)
    numbers = json.dumps({'facts': facts, 'methods': entries}, indent=1) + '\n'
    write_whole(numbers.encode(), places.results / f'{study.name}.json')
    figures = _draw(study, entries, places.results / study.name)
    table = score_table(entries, study.baseline)
    lines = '\n'.join(f'- {key}: {_spelled(value)}' for key, value in facts.items())
    pictures = '\n'.join(
        f'![{title}]({path.relative_to(places.results).as_posix()})\n'
        for title, path in figures.items()
    )
    parts = {
        'facts': lines,
        'scores': f'## Scores\n\n{table}',
        'figures': f'## Figures\n\n{pictures}',
        'classes': f'## IoU of every class, means over seeds\n\n{class_table(entries)}',
    }
    fill_page(places.results / f'{study.name}.md', parts, f'Study {study.name}')
    return table


def _facts(study: Study, records: Sequence[Record], command: str) -> dict[str, Any]:
    """What the numbers need to be believed."""
    dates = sorted({record['date'] for record in records})
    data = 'the last fifth of the training images, which were not trained on'
    missing = sum(len(row.seeds) for row in study.rows) - len(records)
    return {
        'about': study.about or study.name,
        'command': command,
        'baseline': study.baseline,
        'iterations': study.row(study.baseline).iterations,
        'scores on': data if study.validate_on == TRAIN_SPLIT else 'val',
        'score': 'that of the last iteration',
        'start': 'pretrained weights' if study.pretrained else 'from scratch',
        'runs': f'{len(records)} finished, {missing} missing',
        'machine': _all(record['machine'] for record in records),
        'versions': _all(_spelled(record['versions']) for record in records),
        'date': ' to '.join(dict.fromkeys((dates[0], dates[-1]))),
    }


def _draw(
    study: Study, entries: Sequence[Mapping[str, Any]], folder: Path
) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        'mIoU over iterations': folder / 'iterations.png',
        'mIoU against memory and work': folder / 'frontier.png',
    }
    title = study.name
    plot_curves(entries, names['mIoU over iterations'], title)
    plot_frontier(entries, names['mIoU against memory and work'], title)
    if any(entry['difference'] is not None for entry in entries):
        names['paired differences'] = folder / 'differences.png'
        plot_differences(entries, names['paired differences'], title, study.baseline)
    return names


def _all(values: Any) -> str:
    return '; '.join(dict.fromkeys(values))


def _spelled(value: Any) -> str:
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {part}' for key, part in value.items())
    return str(value)

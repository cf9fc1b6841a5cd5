"""Tables of methods side by side and of accuracies, for the page of a proof."""

import statistics
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from ..report.tables import markdown_table
from ..settings.sizes import gib

_DASH = '-'
_TITLES = (
    'network',
    'method',
    'predicted',
    'measured',
    'error',
    'of end-to-end',
    'step (s)',
    'of end-to-end',
)


def side_table(records: Iterable[Mapping[str, Any]]) -> str:
    """One row per method, then what failed and why; empty without records.

    Args:
        records: Each with ``methods`` as `summarised` gives them, or with ``failed``;
            those of other networks also with batch and crop.
    """
    records = list(records)
    # End-to-end training is in every pair of rivals: its first row is enough.
    of_methods: dict[tuple[str, ...], tuple[str, ...]] = {}
    for record in records:
        for row in _rows(record):
            of_methods.setdefault(row[:2], row)
    rows = list(of_methods.values())
    has_networks = any('batch_size' in record for record in records)
    first = 0 if has_networks else 1
    reasons = [f'- {r["name"]}: {r["failed"]}' for r in records if 'failed' in r]
    table = markdown_table(_TITLES[first:], [row[first:] for row in rows], 2 - first)
    return '\n'.join(filter(None, [table if rows else '', '', *reasons])).strip()


def camvid_rows(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Mean and range of the scores over all seeds, one row per network and K."""
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for record in records:
        key = record['network'], record['num_modules']
        groups.setdefault(key, []).append(record)
    rows = []
    for (network, num_modules), runs in groups.items():
        scores = [run['miou'] for run in runs]
        sizes = [run['memory_bytes'] for run in runs if 'memory_bytes' in run]
        values = (statistics.mean(scores), min(scores), max(scores))
        rows.append(
            (
                network,
                'end-to-end' if num_modules == 1 else str(num_modules),
                *(f'{value:.2f}' for value in values),
                ', '.join(str(run['seed']) for run in runs),
                gib(max(sizes)) if sizes else _DASH,
            )
        )
    return rows


def _rows(record: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    network = ''
    if 'batch_size' in record:
        size = 'x'.join(map(str, record['crop_size']))
        name = PurePosixPath(record['name']).stem.partition('_8xb')[0]
        network = f'{name.partition("_4xb")[0]}, {record["batch_size"]} of {size}'
    for entry in record.get('methods', ()):
        predicted, measured = entry['predicted_peak_bytes'], entry['peak_bytes']
        error = f'{predicted / measured - 1:+.1%}' if predicted and measured else _DASH
        yield (
            network,
            entry['name'],
            gib(predicted) if predicted else _DASH,
            gib(measured) if measured else 'out of memory',
            error,
            *_cells(entry),
        )


def _cells(entry: Mapping[str, Any]) -> Iterator[str]:
    forms = (('peak_ratio', '.1%'), ('median_seconds', '.3f'), ('time_ratio', '.3f'))
    for key, form in forms:
        yield format(entry[key], form) if key in entry else _DASH

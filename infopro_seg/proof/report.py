"""The page of a proof: what was predicted, and what the GPU did."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..report.pages import fill_page
from ..report.tables import markdown_table
from ..settings.sizes import gib
from .job import PRECISIONS, Records
from .side_tables import camvid_rows, side_table


def write_page(
    folder: Path, facts: Mapping[str, Any], states: Mapping[str, str]
) -> str:
    """Write the page into the folder; returns what to print.

    Args:
        folder: Folder of the numbers.
        facts: GPU, versions, date, command.
        states: State of each part, as `run_parts` returns them.
    """
    texts = {'facts': '\n'.join(f'- {key}: {value}' for key, value in facts.items())}
    for precision in PRECISIONS:
        rows = _rows(folder, precision)
        if rows:
            texts[precision] = f'## {precision}\n\n{markdown_table(_TITLES, rows)}'
    cards = list(Records(folder, 'cards'))
    if cards:
        table = markdown_table(_CARD_TITLES, _cards(cards))
        texts['cards'] = f'## GPUs of less memory, imitated\n\n{table}'
    for name, title in _SIDES.items():
        table = side_table(Records(folder, name))
        if table:
            texts[name] = f'## {title}\n\n{table}'
    scores = list(Records(folder, 'camvid'))
    if scores:
        table = markdown_table(_CAMVID_TITLES, camvid_rows(scores))
        texts['camvid'] = f'## Accuracy on CamVid\n\n{table}'
    texts['parts'] = '## Parts\n\n' + markdown_table(('part', ''), list(states.items()))
    fill_page(folder / 'gpu.md', texts, 'Prediction and GPU')
    return '\n\n'.join(texts.values())


def reserve_of(folder: Path, precision: str = 'float32') -> int | None:
    """The most bytes in use beyond a prediction; None if nothing was measured."""
    gaps = [
        record['in_use_bytes'] - record['predicted_bytes']
        for record in Records(folder, f'memory-{precision}')
        if 'in_use_bytes' in record
    ]
    return max(gaps, default=None)


_TITLES = (
    'method',
    'predicted',
    'allocated',
    'error',
    'reserved',
    'in use',
    'step (s)',
    'quartiles',
    'of end-to-end',
)
_SIDES = {
    'rivals-float32': 'What torch offers instead, float32',
    'rivals-bfloat16': 'What torch offers instead, bfloat16',
    'networks': 'Other networks, float32',
}
_CAMVID_TITLES = ('network', 'K', 'mIoU', 'smallest', 'largest', 'seeds', 'memory')
_CARD_TITLES = ('GPU and method', 'batch', 'predicted', 'trains')


def _rows(folder: Path, precision: str) -> list[tuple[str, ...]]:
    memory = {
        record['name']: record for record in Records(folder, f'memory-{precision}')
    }
    entries = Records(folder, f'time-{precision}').fact('methods') or []
    times = {entry['name']: entry for entry in entries}
    return [
        (name, *_memory_cells(memory.get(name, {})), *_time_cells(times.get(name, {})))
        for name in dict.fromkeys((*memory, *times))
    ]


def _memory_cells(record: Mapping[str, Any]) -> tuple[str, ...]:
    predicted, allocated = record.get('predicted_bytes'), record.get('allocated_bytes')
    error = f'{predicted / allocated - 1:+.1%}' if predicted and allocated else ''
    if record.get('is_out_of_memory'):
        return _size(predicted), 'out of memory', '', '', ''
    sizes = (record.get(f'{key}_bytes') for key in ('reserved', 'in_use'))
    return _size(predicted), _size(allocated), error, *map(_size, sizes)


def _time_cells(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if 'median_seconds' not in entry:
        return '', '', ''
    low, high = entry['quartile_seconds']
    ratio = entry.get('time_ratio')
    return (
        f'{entry["median_seconds"]:.3f}',
        f'{low:.3f} to {high:.3f}',
        '' if ratio is None else f'{ratio:.3f}',
    )


def _cards(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            record['name'],
            f'{record["batch_size"]} of {"x".join(map(str, record["crop_size"]))}',
            _size(record['predicted_bytes']),
            'yes' if record['fits'] else 'no',
        )
        for record in records
    ]


def _size(num_bytes: int | None) -> str:
    return '' if num_bytes is None else gib(num_bytes)

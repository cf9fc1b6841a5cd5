"""Numbers of a benchmark as text."""

from collections.abc import Sequence
from typing import Any

from ..benchmark.largest import Largest
from ..settings.sizes import gib
from .tables import text_table

_NOTHING = '-'
# Title, key of an entry, format and, where it is not 1, the unit to divide by.
_TABLE: tuple[tuple[Any, ...], ...] = (
    ('method', 'name', ''),
    ('step (s)', 'median_seconds', '.3f'),
    ('quartiles', 'quartile_seconds', '.3f'),
    ('of end-to-end', 'time_ratio', '.3f'),
    ('quartiles', 'time_ratio_quartiles', '.3f'),
    ('images/s', 'images_per_second', '.2f'),
    ('peak (GiB)', 'peak_bytes', '.2f', 2**30),
    ('of end-to-end', 'peak_ratio', '.1%'),
    ('predicted (GiB)', 'predicted_peak_bytes', '.2f', 2**30),
    ('of end-to-end', 'predicted_peak_ratio', '.1%'),
    ('FLOPs', 'flops_ratio', '.3f'),
)


def methods_report(entries: Sequence[dict[str, Any]]) -> str:
    """A table of `summarised` entries, and what each method is.

    Columns without a number are left out.
    """
    columns = [[title, *(_cell(e, *cell) for e in entries)] for title, *cell in _TABLE]
    kept = [column for column in columns if set(column[1:]) != {_NOTHING}]
    lines = [text_table(list(zip(*kept, strict=True))), '']
    lines += [f'{entry["name"]}: {entry["how"]}' for entry in entries]
    return '\n'.join(lines)


def largest_report(found: Sequence[Largest], reserve: int) -> str:
    """A table of the largest sizes that fit GPUs.

    Args:
        found: One row each.
        reserve: Bytes of each GPU that the model may not use.
    """
    rows: list[tuple[str, ...]] = [('method', 'GPU', 'largest batch', 'largest crop')]
    for entry in found:
        crop = 'none' if entry.crop_size is None else '{}x{}'.format(*entry.crop_size)
        rows.append((entry.method, gib(entry.card_bytes), str(entry.batch_size), crop))
    return (
        f'what fits, checked by a step on fake tensors ({gib(reserve)} of each GPU '
        'kept as reserve):\n'
    ) + text_table(rows)


def _cell(entry: dict[str, Any], key: str, form: str, scale: float = 1) -> str:
    value = entry.get(key)
    if isinstance(value, list):
        return '-'.join(format(v / scale, form) for v in value) or _NOTHING
    if isinstance(value, str):
        return value
    if value is None:
        return 'out of memory' if entry['out_of_memory'] else _NOTHING
    return format(value / scale, form)

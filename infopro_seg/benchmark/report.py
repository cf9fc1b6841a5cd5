"""Numbers of a benchmark: summed up for JSON, and as text."""

import statistics
from collections.abc import Sequence
from typing import Any

from ..planner.report import table
from ..settings.sizes import gib
from .largest import Largest
from .methods import END_TO_END, Method
from .steps import Measured

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


def summarised(
    methods: Sequence[Method], measured: Sequence[Measured | None]
) -> list[dict[str, Any]]:
    """One entry a method, as it stands in the JSON file.

    Args:
        methods: What was compared.
        measured: Of each; None if nothing was run.

    Returns:
        ``time_ratio`` is the median over the rounds of this method's seconds by those
        of end-to-end training in the same round, so that what slows the machine
        down for a while cancels out. Quartiles are of the same values.
    """
    baseline = next(
        (i for i, method in enumerate(methods) if method.kind == END_TO_END), None
    )
    entries = [
        _entry(method, numbers)
        for method, numbers in zip(methods, measured, strict=True)
    ]
    if baseline is None:
        return entries
    base_method, base = methods[baseline], entries[baseline]
    for method, entry in zip(methods, entries, strict=True):
        entry['flops_ratio'] = method.flops / base_method.flops
        entry['predicted_peak_ratio'] = (
            method.predicted_peak_bytes / base_method.predicted_peak_bytes
        )
        if entry['seconds'] and base['seconds']:
            ratios = [
                own / other
                for own, other in zip(entry['seconds'], base['seconds'], strict=True)
            ]
            entry['time_ratio'] = statistics.median(ratios)
            entry['time_ratio_quartiles'] = _quartiles(ratios)
        if entry['peak_bytes'] and base['peak_bytes']:
            entry['peak_ratio'] = entry['peak_bytes'] / base['peak_bytes']
    return entries


def methods_report(entries: Sequence[dict[str, Any]]) -> str:
    """A table of `summarised` entries, and what each method is.

    Columns without a number are left out.
    """
    columns = [[title, *(_cell(e, *cell) for e in entries)] for title, *cell in _TABLE]
    kept = [column for column in columns if set(column[1:]) != {_NOTHING}]
    lines = [table(list(zip(*kept, strict=True))), '']
    lines += [f'{entry["name"]}: {entry["how"]}' for entry in entries]
    return '\n'.join(lines)


def largest_report(found: Sequence[Largest], reserve: int) -> str:
    """A table of what cards can train."""
    rows: list[tuple[str, ...]] = [('method', 'card', 'largest batch', 'largest crop')]
    for entry in found:
        crop = 'none' if entry.crop_size is None else '{}x{}'.format(*entry.crop_size)
        rows.append((entry.method, gib(entry.card_bytes), str(entry.batch_size), crop))
    return (
        f'fits a step on fake tensors ({gib(reserve)} of each card set aside):\n'
    ) + table(rows)


def _entry(method: Method, measured: Measured | None) -> dict[str, Any]:
    seconds = list(measured.seconds) if measured else []
    entry: dict[str, Any] = {
        'name': method.name,
        'kind': method.kind,
        'num_modules': method.num_modules,
        'how': method.how,
        'predicted_peak_bytes': method.predicted_peak_bytes,
        'peak_bytes': measured.peak_bytes if measured else None,
        'out_of_memory': measured is not None and measured.peak_bytes is None,
        'seconds': seconds,
    }
    if seconds:
        median = statistics.median(seconds)
        entry['median_seconds'] = median
        entry['quartile_seconds'] = _quartiles(seconds)
        entry['images_per_second'] = method.setting.batch_size / median
    return entry


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return [values[0], values[0]]
    low, _, high = statistics.quantiles(values, n=4, method='inclusive')
    return [low, high]


def _cell(entry: dict[str, Any], key: str, form: str, scale: float = 1) -> str:
    value = entry.get(key)
    if isinstance(value, list):
        return '-'.join(format(v / scale, form) for v in value) or _NOTHING
    if isinstance(value, str):
        return value
    if value is None:
        return 'out of memory' if entry['out_of_memory'] else _NOTHING
    return format(value / scale, form)

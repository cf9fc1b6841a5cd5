"""Numbers of a benchmark, summarised for JSON and tables."""

import statistics
from collections.abc import Sequence
from typing import Any

from .method import END_TO_END, Method
from .steps import Measured


def summarised(
    methods: Sequence[Method], measured: Sequence[Measured | None]
) -> list[dict[str, Any]]:
    """One entry per method, as in the JSON file.

    Args:
        methods: What was compared.
        measured: What was measured of each; None if nothing was run.

    Returns:
        Entries whose ``time_ratio`` is the median over all rounds of the seconds of the
        method divided by those of end-to-end training in the same round, so that a
        temporary slowdown of the machine cancels out. Quartiles are those of the same
        values.
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
        entry['flops_ratio'] = _ratio(method.flops, base_method.flops)
        entry['predicted_peak_ratio'] = _ratio(
            method.predicted_peak_bytes, base_method.predicted_peak_bytes
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


def _ratio(own: int | None, base: int | None) -> float | None:
    return own / base if own and base else None


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return [values[0], values[0]]
    low, _, high = statistics.quantiles(values, n=4, method='inclusive')
    return [low, high]

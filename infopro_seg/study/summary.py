"""What finished runs say together: pure functions of their rows."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from ..report.measured import LEAST_SEEDS
from .matrix import Row, Study
from .rows import Record

_LEVEL = 0.95


def summarised(study: Study, records: Sequence[Record]) -> list[dict[str, Any]]:
    """One entry for each method that has a finished run, in the order of the study.

    Args:
        study: The matrix.
        records: Its finished runs.

    Returns:
        Dicts with ``name``, ``local`` (what the row sets), ``differs`` (what else it
        sets in another way than the baseline: ``config``, ``iterations`` and options;
        None where only the baseline sets an option), ``iterations``, ``seeds``,
        ``miou`` and ``class_iou`` (mean and standard deviation over seeds, in percent),
        ``difference`` (see `paired_difference`; None for the baseline), ``curve``
        (iterations, mean and standard deviation), ``seconds_per_iteration`` (median
        over seeds), ``training_flops`` (of all iterations; None if they were not
        counted) and ``predicted_peak_bytes``.
    """
    by_row: dict[str, list[Record]] = {row.name: [] for row in study.rows}
    for record in records:
        by_row[record['name']].append(record)
    baseline = _final_scores(by_row[study.baseline])
    common = _apart_from_local(study.row(study.baseline))
    entries = []
    for name, own in by_row.items():
        if not own:
            continue
        scores, row = _final_scores(own), study.row(name)
        seconds = float(np.median([record['seconds_per_iteration'] for record in own]))
        # Runs of earlier versions have none.
        counted = [record.get('flops_per_iteration') for record in own]
        flops = next(filter(None, counted), None)
        is_baseline = name == study.baseline
        entries.append(
            {
                'name': name,
                'local': dict(row.local),
                'differs': _differences(_apart_from_local(row), common),
                'iterations': row.iterations,
                'seeds': sorted(scores),
                'miou': mean_and_deviation(list(scores.values())),
                'difference': (
                    None if is_baseline else paired_difference(scores, baseline)
                ),
                'curve': _curve(own),
                'class_iou': _class_scores(own),
                'seconds_per_iteration': seconds,
                'training_flops': flops and flops * row.iterations,
                'predicted_peak_bytes': own[0]['predicted_peak_bytes'],
            }
        )
    return entries


def mean_and_deviation(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and sample standard deviation; of one value the latter is None."""
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {'mean': float(np.mean(values)), 'deviation': deviation}


def paired_difference(
    scores: Mapping[int, float], baseline: Mapping[int, float], level: float = _LEVEL
) -> dict[str, Any] | None:
    """Mean difference over the seeds that both have, with its interval.

    The interval is that of Student's t for the mean of the differences.

    Args:
        scores: By seed.
        baseline: By seed.
        level: Of confidence, below 1.

    Returns:
        ``seeds``, ``mean``, ``low`` and ``high``; the last two are None for fewer than
        three seeds, of which two may differ by the same by chance. None if there is no
        common seed.
    """
    seeds = sorted(scores.keys() & baseline.keys())
    if not seeds:
        return None
    values = np.array([scores[seed] - baseline[seed] for seed in seeds])
    mean, low, high = float(values.mean()), None, None
    if len(seeds) >= LEAST_SEEDS:
        error = float(values.std(ddof=1)) / math.sqrt(len(seeds))
        half = float(stats.t.ppf((1 + level) / 2, len(seeds) - 1)) * error
        low, high = mean - half, mean + half
    return {'seeds': seeds, 'mean': mean, 'low': low, 'high': high}


def _apart_from_local(row: Row) -> dict[str, Any]:
    settings = {'config': row.config_name, 'iterations': row.iterations}
    return {**settings, **row.options}


def _differences(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """What is not equal in both, with the value of the first."""
    names = dict.fromkeys((*own, *other))
    return {
        name: own.get(name)
        for name in names
        if name not in own or name not in other or own[name] != other[name]
    }


def _final_scores(records: Sequence[Record]) -> dict[int, float]:
    return {record['seed']: record['miou'] for record in records}


def _curve(records: Sequence[Record]) -> dict[str, list]:
    """Scores at the iterations at which all runs were validated."""
    by_run = [
        dict(zip(record['iterations'], record['miou_over_iterations'], strict=True))
        for record in records
    ]
    common = sorted(set(by_run[0]).intersection(*by_run[1:]))
    points = [mean_and_deviation([run[i] for run in by_run]) for i in common]
    return {
        'iterations': common,
        'mean': [point['mean'] for point in points],
        'deviation': [point['deviation'] for point in points],
    }


def _class_scores(records: Sequence[Record]) -> dict[str, dict[str, float | None]]:
    """Of every class over the runs in which it has a score."""
    scores: dict[str, dict[str, float | None]] = {}
    for name in records[0]['class_iou']:
        values = [record['class_iou'].get(name) for record in records]
        known = [value for value in values if value is not None]
        if known:
            scores[name] = mean_and_deviation(known)
    return scores

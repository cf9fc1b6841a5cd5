"""Finished runs, one small file each, and what is read from the logs of a run."""

import datetime
import json
import math
import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..benchmark.facts import device_name, git_commit, versions
from ..checkpoints.files import write_whole
from ..evaluation.class_iou_metric import PREFIX
from ..report.run_log import RunLog, read_run
from .job import Job, Places
from .step_cost import StepCost

#: What is written of a run: name of the row, seed, scores, settings, ...
Record = dict[str, Any]
_NOT_SET = 'its default'


def read_row(job: Job, places: Places) -> Record | None:
    """What a finished run wrote; None if it is not finished.

    Raises:
        ValueError: if it was trained with other settings or is of another row, or the
            file is damaged.
    """
    path = places.rows(job.study) / f'{job.slug}.json'
    if not path.exists():
        return None
    record = _read(path)
    if (record['name'], record['seed']) != (job.row.name, job.seed):
        raise ValueError(
            f'{path} is of row {record["name"]!r}, seed {record["seed"]}, and the '
            f'study file calls it {job.row.name!r}: give the row that name again, or '
            'one that differs in letters or digits.'
        )
    changed = _difference(record['settings'], job.settings)
    if changed is not None:
        name, before, now = changed
        raise ValueError(
            f'run {job.name!r} is finished with {name}={before}, and the study file '
            f'now has {now}: give the row another name, or move {path} away.'
        )
    return record


def read_folder(folder: Path) -> dict[str, dict[int, Record]]:
    """All finished runs in a folder, by the name of the row and the seed.

    Raises:
        ValueError: if a file is damaged, if two files are of one run, or if the seeds
            of a row were trained with different settings.
    """
    found: dict[str, dict[int, Record]] = {}
    files: dict[tuple[str, int], Path] = {}
    for path in sorted(folder.glob('*.json')):
        record = _read(path)
        name, seed = record['name'], record['seed']
        if (name, seed) in files:
            raise ValueError(
                f'{path} and {files[name, seed]} are both of row {name!r}, seed '
                f'{seed}: move one of them away.'
            )
        for other, earlier in found.get(name, {}).items():
            changed = _difference(earlier['settings'], record['settings'])
            if changed is not None:
                raise ValueError(
                    f'row {name!r} in {folder} has {changed[0]}={changed[1]} with seed '
                    f'{other} and {changed[2]} with seed {seed}: move the runs that '
                    'do not belong to it away.'
                )
        files[name, seed] = path
        found.setdefault(name, {})[seed] = record
    return found


def _read(path: Path) -> Record:
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        for key in ('name', 'seed', 'miou', 'settings'):
            record[key]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is no row of a study: {error!r}.') from error
    return record


def read_rows(jobs: Sequence[Job], places: Places) -> dict[Job, Record]:
    """The finished ones of these runs; see `read_row`."""
    found = ((job, read_row(job, places)) for job in jobs)
    return {job: record for job, record in found if record is not None}


def write_row(
    job: Job, places: Places, *, run_seconds: float, step: StepCost | None
) -> Record:
    """Write the file of a finished run.

    Args:
        job: The run.
        places: Where its log is, and where the file goes.
        run_seconds: Wall-clock time of the run with validation and start, over all
            attempts.
        step: What a training step costs; None if it could not be counted.

    Raises:
        ValueError: if the log has no score at the last iteration.
    """
    log = read_run(job.folder(places))
    iterations, values = log.series.get('mIoU', ([], []))
    # The host rounds to two digits, and then to float32.
    scores = [round(value, 2) for value in values]
    if not iterations or iterations[-1] != job.row.iterations:
        raise ValueError(
            f'run {job.name!r} ended without a score at iteration '
            f'{job.row.iterations}; its log is in {job.folder(places)}.'
        )
    record = {
        'study': job.study.name,
        'name': job.row.name,
        'seed': job.seed,
        'digest': job.digest,
        'miou': scores[-1],
        'iterations': iterations,
        'miou_over_iterations': scores,
        'class_iou': dict(_class_scores(log)),
        'seconds_per_iteration': statistics.median(log.series['time'][1]),
        'run_seconds': round(run_seconds, 1),
        'predicted_peak_bytes': step and step.peak_bytes,
        'flops_per_iteration': step and step.flops,
        'machine': _machine(),
        'versions': {**versions(), 'git_commit': git_commit()},
        'date': datetime.date.today().isoformat(),
        'settings': dict(job.settings),
    }
    folder = places.rows(job.study)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=1) + '\n'
    write_whole(text.encode(), folder / f'{job.slug}.json')
    return record


def _machine() -> str:
    if torch.cuda.is_available():
        return device_name('cuda')
    return f'CPU ({platform.machine()}, {os.cpu_count()} cores), 1 thread a run'


def _class_scores(log: RunLog) -> Iterator[tuple[str, float | None]]:
    for name, (_, values) in log.series.items():
        if name.startswith(PREFIX):
            last = values[-1]
            yield name.removeprefix(PREFIX), None if math.isnan(last) else last


def _difference(
    earlier: Mapping[str, Any], now: Mapping[str, Any]
) -> tuple[str, Any, Any] | None:
    """The first setting that differs: its dotted name, its values before and now."""
    flat_earlier, flat_now = dict(_flat(earlier)), dict(_flat(now))
    found = []
    for name in dict.fromkeys((*flat_now, *flat_earlier)):
        # A setting of None is not one that is not set.
        before, after = flat_earlier.get(name, _NOT_SET), flat_now.get(name, _NOT_SET)
        # The weights may not be at hand where only a report is made.
        is_open = name == 'weights_digest' and after is None
        if before != after and not is_open:
            found.append((name, before, after))
    # What is in a mapping says more than that it is not empty.
    return min(found, key=lambda entry: {} in entry, default=None)


def _flat(value: Mapping[str, Any], begin: str = '') -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        if isinstance(part, Mapping) and part:
            yield from _flat(part, f'{begin}{key}.')
        else:
            yield f'{begin}{key}', part

"""How long the rest of a study takes."""

import functools
import statistics
from collections.abc import Mapping, Sequence

from ..settings.config import divide_batch
from .job import Job, method_config
from .matrix import Row, Study
from .rows import Record


def run_seconds(job: Job, finished: Mapping[Job, Record]) -> float | None:
    """Expected seconds of a run with validation.

    From finished runs of its row, else from all finished ones by the number of images,
    else from the estimate of the study file, which knows training steps only; None if
    there is nothing.
    """
    own = [r for j, r in finished.items() if j.row.name == job.row.name]
    if own:
        return statistics.median(record['run_seconds'] for record in own)
    if finished:
        paces = [r['run_seconds'] / _num_images(j.row) for j, r in finished.items()]
        return statistics.median(paces) * _num_images(job.row)
    seconds = job.study.seconds_per_iteration
    return None if seconds is None else seconds * job.row.iterations


# Each is asked for after every run, and a config takes a moment to read.
@functools.cache
def _num_images(row: Row) -> int:
    cfg = method_config(row)
    divide_batch(cfg, 1)
    return int(row.iterations * cfg.train_dataloader.batch_size)


def hours_left(
    jobs: Sequence[Job], finished: Mapping[Job, Record], num_processes: int = 1
) -> float | None:
    """Hours until all runs are finished; None if nothing is known."""
    seconds = [run_seconds(job, finished) for job in jobs if job not in finished]
    known = [value for value in seconds if value is not None]
    if len(known) < len(seconds):
        return None
    return sum(known) / 3600 / min(num_processes, max(1, len(seconds)))


def dry_run_rows(
    study: Study, jobs: Sequence[Job], finished: Mapping[Job, Record]
) -> list[tuple[str, ...]]:
    """The matrix as cells: row, seeds, runs finished and left, s/it, hours left."""
    rows: list[tuple[str, ...]] = []
    for row in study.rows:
        own = [job for job in jobs if job.row is row]
        done = [job for job in own if job in finished]
        speeds = [finished[job]['seconds_per_iteration'] for job in done]
        speed = f'{statistics.median(speeds):.2f}' if speeds else ''
        hours = hours_left(own, finished) if len(done) < len(own) else 0.0
        rows.append(
            (
                row.name,
                ' '.join(str(seed) for seed in row.seeds),
                str(len(done)),
                str(len(own) - len(done)),
                speed,
                'unknown' if hours is None else f'{hours:.2f}',
            )
        )
    return rows

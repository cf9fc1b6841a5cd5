"""Runs the parts of a proof, each in a process of its own, within a time limit.

A part that crashes, or is stopped by the limit, loses nothing: what it has written is
kept, and the next call continues from there.
"""

import dataclasses
import json
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..processes import last_line, start, stop
from .job import Job, Records
from .parts import left_out, parts

JOB = 'job.json'
_OF_CAMVID = ('camvid', 'camvid_crop', 'iterations', 'seeds', 'weights')


def run_parts(job: Job, folder: Path, *, seconds: float) -> dict[str, str]:
    """Run what is not done yet, until the time is up.

    Args:
        job: Its settings. A folder holds the numbers of one job only.
        folder: Folder of the numbers.
        seconds: Time limit.

    Returns:
        For each part ``done``, ``failed: ...``, ``stopped by the time limit``,
        ``not started`` or ``skipped: ...``.

    Raises:
        ValueError: if the folder holds numbers of another job.
    """
    _claim(job, folder)
    deadline = time.monotonic() + seconds
    states: dict[str, str] = {}
    reasons = left_out(job)
    for name in parts(job):
        left = deadline - time.monotonic()
        if Records(folder, name).is_done:
            states[name] = 'done'
        elif name in reasons:
            states[name] = f'skipped: {reasons[name]}'
        elif left <= 0:
            states[name] = 'not started'
        else:
            states[name] = _run(name, folder, left)
    return states


def run_part(name: str, folder: Path) -> None:
    """Run one part in this process."""
    job = job_in(folder)
    parts(job)[name](job, Records(folder, name))


def job_in(folder: Path) -> Job:
    """The job whose numbers a folder holds.

    Raises:
        FileNotFoundError: if it holds none.
    """
    content = json.loads((folder / JOB).read_text(encoding='utf-8'))
    return Job(**with_tuples(content))


def with_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `Job`, with lists turned into tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def _claim(job: Job, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / JOB).exists():
        _write_job(job, folder)
        return
    earlier = dataclasses.asdict(job_in(folder))
    if earlier['camvid'] is None:
        # None of its runs has started, so CamVid may still be added.
        added = {k: getattr(job, k) for k in _OF_CAMVID}
        earlier.update(added)
        _write_job(Job(**earlier), folder)
    other = [k for k, v in dataclasses.asdict(job).items() if v != earlier[k]]
    if other:
        raise ValueError(
            f'{folder} holds numbers with another {", ".join(other)} (see '
            f'{folder / JOB}): choose another --out, or the same settings to continue.'
        )


def _write_job(job: Job, folder: Path) -> None:
    text = json.dumps(dataclasses.asdict(job), indent=1)
    (folder / JOB).write_text(text, encoding='utf-8')


def _run(name: str, folder: Path, seconds: float) -> str:
    log = folder / f'{name}.log'
    process = start(['-m', __package__, name, str(folder)], log)
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return 'stopped by the time limit'
    finally:
        stop(process)
    if code == 0:
        return 'done'
    return f'failed: {last_line(log) or f"exit code {code}"} ({log})'

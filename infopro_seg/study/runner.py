"""Trains the runs of a study that are not done yet, several at a time."""

import contextlib
import dataclasses
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..bundled import TOOLS
from ..checkpoints.files import write_whole
from ..processes import last_line, start, stop
from .job import Job, Places, run_config
from .rows import Record, drop_unscored, read_rows, write_row
from .start import write_initial_weights
from .step_cost import step_cost

#: What a run prints, in its folder.
LOG = 'train.log'
_ATTEMPTS = 'attempts.json'
_POLL_SECONDS = 0.2
# One thread each: as many runs at a time as there are cores.
_VARIABLES = {'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}


@dataclasses.dataclass
class _Running:
    job: Job
    process: subprocess.Popen
    began: float


def run_jobs(
    jobs: Sequence[Job],
    places: Places,
    *,
    num_processes: int,
    tell: Callable[[Job, Record], None],
    watch: Callable[[], None] = lambda: None,
) -> dict[Job, str]:
    """Train what has no row yet, in this order; a run that was stopped goes on.

    Args:
        jobs: The runs.
        places: Where they are.
        num_processes: Runs at a time.
        tell: Called with every run that was finished.
        watch: Called again and again while runs are going on.

    Returns:
        Why runs failed; the others are finished.

    Raises:
        ValueError: if a finished run has other settings now.
        RuntimeError: if another process trains runs in the same folder.
        KeyboardInterrupt: on Ctrl-C and SIGTERM, after all runs were stopped. At most
            what came after their last checkpoints is lost.
    """
    finished = read_rows(jobs, places)
    waiting = [job for job in jobs if job not in finished]
    failed: dict[Job, str] = {}
    running: list[_Running] = []
    with _claimed(places.out) as lock, _terminated_as_interrupted():
        try:
            while waiting or running:
                while waiting and len(running) < num_processes:
                    running.append(_begin(waiting.pop(0), places, lock))
                pause()
                watch()
                for run in [r for r in running if r.process.poll() is not None]:
                    running.remove(run)
                    _note_attempt(run, places)
                    try:
                        tell(run.job, _finish(run, places))
                    except (ValueError, OSError) as error:
                        failed[run.job] = str(error)
        finally:
            for run in running:
                stop(run.process)
                _note_attempt(run, places)
    return failed


def pause() -> None:
    """Wait a moment before looking at the runs again."""
    time.sleep(_POLL_SECONDS)


def _begin(job: Job, places: Places, lock: int) -> _Running:
    folder = job.folder(places)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / 'config.py'
    run_config(job, places, write_initial_weights(job, places)).dump(config)
    drop_unscored(job, places)
    command = [
        str(TOOLS / 'train.py'),
        str(config),
        '--work-dir',
        str(folder),
        '--resume',
    ]
    process = start(command, folder / LOG, variables=_VARIABLES, inherited=(lock,))
    return _Running(job, process, time.monotonic())


def _finish(run: _Running, places: Places) -> Record:
    folder = run.job.folder(places)
    if run.process.returncode:
        why = last_line(folder / LOG) or f'exit code {run.process.returncode}'
        raise ValueError(f'{why} ({folder / LOG})')
    record = write_row(
        run.job,
        places,
        run_seconds=sum(_attempts(folder)),
        step=step_cost(run.job, places),
    )
    for path in folder.glob('iter_*.pth'):
        if path.name != f'iter_{run.job.row.iterations}.pth':
            path.unlink()
    return record


def _note_attempt(run: _Running, places: Places) -> None:
    folder = run.job.folder(places)
    seconds = [*_attempts(folder), round(time.monotonic() - run.began, 1)]
    write_whole(json.dumps(seconds).encode(), folder / _ATTEMPTS)


def _attempts(folder: Path) -> list[float]:
    path = folder / _ATTEMPTS
    return json.loads(path.read_text()) if path.exists() else []


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[int]:
    """Hold a lock that runs inherit: it is free when the last of them has ended."""
    import fcntl  # not on Windows

    folder.mkdir(parents=True, exist_ok=True)
    with (folder / 'lock').open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RuntimeError(
                f'another process trains runs in {folder}; wait for its end, or '
                'choose another --out.'
            ) from error
        yield file.fileno()


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

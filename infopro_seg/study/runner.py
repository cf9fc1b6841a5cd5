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
from ..processes import last_line, locked, start, stop
from .job import Job, Places, run_config
from .rows import Record, read_rows, write_row
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
        KeyboardInterrupt: on Ctrl-C, SIGTERM and a closed terminal (without nohup),
            after all runs were stopped. At most what came after their last
            checkpoints is lost.
    """
    finished = read_rows(jobs, places)
    waiting = [job for job in jobs if job not in finished]
    failed: dict[Job, str] = {}
    running: list[_Running] = []
    with _claimed(places.out) as lock, _terminated_as_interrupted():
        try:
            while waiting or running:
                while waiting and len(running) < num_processes:
                    job = waiting.pop(0)
                    try:
                        running.append(_begin(job, places, lock))
                    except Exception as error:  # of the host, for a config of any kind
                        failed[job] = _why(error)
                pause()
                watch()
                for run in [r for r in running if r.process.poll() is not None]:
                    running.remove(run)
                    try:
                        _note_attempt(run, places)
                        record = _finish(run, places)
                    except Exception as error:  # what others trained is not lost
                        failed[run.job] = _why(error)
                    else:
                        tell(run.job, record)
        finally:
            for run in running:
                stop(run.process)
            for run in running:
                with contextlib.suppress(OSError):
                    _note_attempt(run, places)
    return failed


def _why(error: Exception) -> str:
    is_sentence = isinstance(error, ValueError | OSError)
    return str(error) if is_sentence else f'{type(error).__name__}: {error}'


def pause() -> None:
    """Wait a moment before looking at the runs again."""
    time.sleep(_POLL_SECONDS)


def _begin(job: Job, places: Places, lock: int) -> _Running:
    folder = job.folder(places)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / 'config.py'
    run_config(job, places, write_initial_weights(job, places)).dump(config)
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
    with contextlib.ExitStack() as stack:
        try:
            descriptor = stack.enter_context(locked(folder / 'lock', wait=False))
        except BlockingIOError as error:
            raise RuntimeError(
                f'another process trains runs in {folder}; wait for its end, or '
                'choose another --out.'
            ) from error
        yield descriptor


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signals = [signal.SIGTERM]
    # nohup ignores it; that must stay so.
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Long jobs as processes of their own: started with a log, stopped with their children.

A job is a Python program; whatever it prints goes to the end of its log.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from .bundled import CHECKOUT


def start(
    arguments: Sequence[str],
    log: Path,
    *,
    variables: Mapping[str, str] | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.Popen:
    """Start Python with these arguments, in a session of its own.

    Args:
        arguments: What comes behind ``python``.
        log: File to which output is added.
        variables: Of the environment, on top of those of this process.
        inherited: File descriptors that the job keeps open.
    """
    # Not where packages are installed: those would come before Python's own modules.
    paths = [str(CHECKOUT or ''), os.environ.get('PYTHONPATH', '')]
    with log.open('a', encoding='utf-8') as file:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                'PYTHONPATH': os.pathsep.join(filter(None, paths)),
                **(variables or {}),
            },
            pass_fds=tuple(inherited),
            start_new_session=True,
        )


def stop(process: subprocess.Popen) -> None:
    """Kill a job with all that it has started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[int]:
    """Hold a lock on this machine; processes that inherit it hold it, too.

    Args:
        path: File of the lock; it is made with its folder, and stays.
        wait: Until it is free.

    Yields:
        The descriptor to inherit.

    Raises:
        BlockingIOError: if another process has it and ``wait`` is False.
    """
    import fcntl  # not on Windows

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield file.fileno()


def last_line(log: Path) -> str:
    """The last line of a log that is not empty; empty if there is none."""
    lines = log.read_text(encoding='utf-8', errors='replace').splitlines()
    return next((line for line in reversed(lines) if line.strip()), '')

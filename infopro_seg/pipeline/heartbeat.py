"""Notices a process that has stopped without an end: frozen, or on a lost machine."""

import os
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

#: Seconds between two signs of life.
INTERVAL = 1.0
#: Own signs within which another process must give one. The first holds for a process
#: that the operating system says is stopped. Any other may only be slow to sign, as
#: within a long call that keeps Python from running, or on a stalled network.
FROZEN_PATIENCE, PATIENCE = 5, 60
_TIMEOUT = timedelta(seconds=60)
_HELP = 'This process stops; pass --resume to go on from the last checkpoint.'


class Watch:
    """Who has been heard of, and when. Without threads, clocks or messages.

    Time is counted in own beats, so that nobody is lost if all processes are stopped
    and continued together, as by Ctrl-Z or a batch system.

    Args:
        names: What each other process is, by rank, for messages.
        processes: Their `introduction`, by rank.
        is_frozen: Whether a process, as it has introduced itself, is known to be
            stopped.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        processes: Mapping[int, str],
        is_frozen: Callable[[str], bool],
    ) -> None:
        self._names = names
        self._processes = processes
        self._is_frozen = is_frozen
        self._count = 0
        self._heard = dict.fromkeys(names, (b'', 0))

    def hear(self, rank: int, sign: bytes) -> None:
        """Take note of the last sign of life that a process has given."""
        before, _ = self._heard[rank]
        if sign != before:
            self._heard[rank] = sign, self._count

    def beat(self) -> str | None:
        """Let time pass.

        Returns:
            What is wrong with a process that has not been heard of for too long.
        """
        self._count += 1
        missed = {rank: self._count - since for rank, (_, since) in self._heard.items()}
        for rank, count in missed.items():
            # A frozen process may keep the others from hearing of each other.
            if count >= FROZEN_PATIENCE and self._is_frozen(self._processes[rank]):
                return f'{self._names[rank]} is frozen: its process is stopped. {_HELP}'
        for rank, count in missed.items():
            if count >= PATIENCE:
                return (
                    f'{self._names[rank]} has given no sign of life for '
                    f'{count * INTERVAL:.0f} s: it is frozen, or its machine or '
                    f'network is down. {_HELP}'
                )
        return None


class Heartbeat:
    """Signs for this process, and ends it if another one is lost.

    Every process must make one at the same time.

    Args:
        names: What each process is, by rank, for messages.
        rank: This process.
        end: What ends the process; by default at once, with exit code 1, as the main
            thread waits for the lost one.
    """

    def __init__(
        self,
        names: Mapping[int, str],
        rank: int,
        end: Callable[[int], Any] = os._exit,
    ) -> None:
        self._rank = rank
        self._store = _shared_store(rank)
        processes: list[Any] = [None] * len(names)
        distributed.all_gather_object(processes, introduction())
        others = {other: name for other, name in names.items() if other != rank}
        self._watch = Watch(others, dict(enumerate(processes)), is_frozen)
        self._others = others
        self._server = names[0]
        self._end = end
        self._done, self._stopped = threading.Event(), threading.Event()
        self._sign(0)
        distributed.barrier()
        # The store does not answer if its process is frozen: whoever waits for it
        # cannot watch.
        self._exchange_thread = threading.Thread(target=self._exchange, daemon=True)
        self._watch_thread = threading.Thread(target=self._beat, daemon=True)
        self._exchange_thread.start()
        self._watch_thread.start()

    def stop(self) -> None:
        """Wait for all processes, then stop signing and watching."""
        distributed.barrier()
        self._done.set()
        self._exchange_thread.join()
        # The first process serves the store, until nobody needs it any more.
        distributed.barrier()
        self._stopped.set()
        self._watch_thread.join()

    def _exchange(self) -> None:
        count = 0
        try:
            while not self._done.wait(INTERVAL):
                count += 1
                self._sign(count)
                for other in self._others:
                    self._watch.hear(other, self._store.get(str(other)))
        except (RuntimeError, OSError) as error:
            self._lose(f'{self._server} is gone, or the network to it ({error}).')

    def _sign(self, count: int) -> None:
        self._store.set(str(self._rank), str(count))

    def _beat(self) -> None:
        while not self._stopped.wait(INTERVAL):
            problem = self._watch.beat()
            if problem is not None:
                self._lose(problem)

    def _lose(self, problem: str) -> None:
        print(f'LostStageError: {problem}', file=sys.stderr, flush=True)
        self._end(1)


def introduction() -> str:
    """This process, in words that `is_frozen` understands on the same machine."""
    return f'{_system()} {os.getpid()}'


def is_frozen(process: str) -> bool:
    """Whether a process is stopped, by a signal or a debugger.

    Args:
        process: Its `introduction`.

    Returns:
        False for a process of another machine or container, and without ``/proc``.
    """
    system, _, pid = process.rpartition(' ')
    if not system or system != _system():
        return False
    try:
        stat = Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return False
    # After the name in brackets, which may hold anything.
    state = stat.rpartition(')')[2].split()[0]
    return state in 'Tt'


def _system() -> str:
    """What tells apart machines, and containers with process numbers of their own."""
    try:
        boot = Path('/proc/sys/kernel/random/boot_id').read_text().strip()
        return f'{boot} {os.readlink("/proc/self/ns/pid")}'
    except OSError:
        return ''


def _shared_store(rank: int) -> TCPStore:
    """A store that the first process serves."""
    host = os.environ.get('MASTER_ADDR', '127.0.0.1')
    port: list[Any] = [None]
    store: Any = None
    if rank == 0:
        store = TCPStore(
            host, 0, None, is_master=True, timeout=_TIMEOUT, wait_for_workers=False
        )
        port = [store.port]
    distributed.broadcast_object_list(port)
    if store is None:
        store = TCPStore(host, port[0], None, is_master=False, timeout=_TIMEOUT)
    return store

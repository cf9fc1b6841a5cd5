"""Notices a process that has stopped without an end: frozen, or on a lost machine."""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]

#: Seconds between two signs of life, and after which a process counts as lost.
INTERVAL, PATIENCE = 2.0, 60.0
_DONE = b'done'


class Store(Protocol):
    """Where processes leave signs of life for each other."""

    def set(self, key: str, value: str) -> Any:
        """Leave a value for all."""

    def get(self, key: str) -> bytes:
        """The last value of a key that has one."""


class Pulse:
    """Who has been heard of, and when. Without threads or clocks of its own.

    Args:
        names: What each process is, by rank, for messages.
        rank: This process.
        store: Shared by all processes, which have each left a sign in it.
        patience: Seconds after which a process counts as lost.
    """

    def __init__(
        self, names: Mapping[int, str], rank: int, store: Store, patience: float
    ) -> None:
        self._names = names
        self._rank = rank
        self._store = store
        self._patience = patience
        self._count = 0
        self._heard: dict[int, tuple[bytes, float]] = {}

    def beat(self) -> None:
        """Leave a sign of life."""
        self._count += 1
        self._store.set(str(self._rank), str(self._count))

    def stop(self) -> None:
        """Say that no more signs are to be expected."""
        self._store.set(str(self._rank), _DONE.decode())

    def lost(self, now: float) -> str | None:
        """What is wrong with a process that has not been heard of for too long.

        Args:
            now: Seconds of a clock that only goes forward.
        """
        for rank, name in self._names.items():
            if rank == self._rank:
                continue
            sign = self._store.get(str(rank))
            before, since = self._heard.get(rank, (b'', now))
            if sign != before:
                self._heard[rank] = sign, now
            elif sign != _DONE and now - since > self._patience:
                return (
                    f'{name} has given no sign of life for {now - since:.0f} s: it is '
                    'frozen, or its machine or network is down. This process stops; '
                    'pass --resume to go on from the last checkpoint.'
                )
        return None


class Heartbeat:
    """A thread that signs for this process, and ends it if another one is lost.

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
        self._pulse = Pulse(names, rank, _shared_store(rank), PATIENCE)
        self._pulse.beat()
        distributed.barrier()
        self._server = names[0]
        self._end = end
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._thread.join()
        self._pulse.stop()
        # The first process serves the store.
        distributed.barrier()

    def _run(self) -> None:
        while not self._stopped.wait(INTERVAL):
            try:
                self._pulse.beat()
                problem = self._pulse.lost(time.monotonic())
            except (RuntimeError, OSError) as error:
                problem = f'{self._server} is gone, or the network to it ({error}).'
            if problem is not None and not self._stopped.is_set():
                print(f'LostStageError: {problem}', file=sys.stderr, flush=True)
                self._end(1)


def _shared_store(rank: int) -> Store:
    """A store that the first process serves."""
    host = os.environ.get('MASTER_ADDR', '127.0.0.1')
    timeout = timedelta(seconds=PATIENCE)
    port: list[Any] = [None]
    store: Any = None
    if rank == 0:
        store = TCPStore(
            host, 0, None, is_master=True, timeout=timeout, wait_for_workers=False
        )
        port = [store.port]
    distributed.broadcast_object_list(port)
    if store is None:
        store = TCPStore(host, port[0], None, is_master=False, timeout=timeout)
    return store

"""A one-way link between two processes, with a bounded number of messages under way."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from .messages import pack, rooms_for, unpack


class LostStageError(RuntimeError):
    """Another stage has stopped. No OSError: those are taken for a full disk."""


class Link:
    """Sends objects with tensors from one process to another, in order.

    Headers go over CPU memory, tensors from device to device. A header that is that
    of the message before is not sent again.

    Args:
        peer: The other process.
        name: What the other process is, for errors: ``stage 0 (process 1)``.
        headers: Process group for CPU tensors.
        device: Where tensors are sent from and received to.
        depth: How many messages may be under way. More let a fast sender run further
            ahead, and hold that many copies of what is sent.
    """

    def __init__(
        self,
        peer: int,
        name: str,
        headers: distributed.ProcessGroup,
        device: torch.device | str,
        depth: int = 1,
    ) -> None:
        self._peer, self._name = peer, name
        self._headers = headers
        self._tensors = headers if torch.device(device).type == 'cpu' else None
        self._device = device
        self._depth = depth
        self._last_header = b''
        # Each with its tensors, which must not be freed before.
        self._under_way: deque[list[tuple[distributed.Work, Tensor]]] = deque()

    def send(self, content: Any) -> None:
        """Send an object, and wait if too many are under way.

        Its tensors must not be changed in place afterwards.

        Raises:
            LostStageError: if the other process is gone.
        """
        self.wait(self._depth - 1)
        header, tensors = pack(content)
        is_new = header != self._last_header
        self._last_header = header
        parts = [torch.tensor([len(header) if is_new else 0])]
        if is_new:
            parts.append(torch.frombuffer(bytearray(header), dtype=torch.uint8))
        with self._explained():
            self._under_way.append(
                [(self._start(part, self._headers), part) for part in parts]
                + [(self._start(part, self._tensors), part) for part in _bytes(tensors)]
            )

    def receive(self) -> Any:
        """Wait for the next object.

        Raises:
            LostStageError: if the other process is gone.
        """
        with self._explained():
            length = torch.zeros(1, dtype=torch.int64)
            distributed.recv(length, self._peer, group=self._headers)
            if length:
                header = torch.empty(int(length), dtype=torch.uint8)
                distributed.recv(header, self._peer, group=self._headers)
                self._last_header = header.numpy().tobytes()
            tensors = rooms_for(self._last_header, self._device)
            for part in _bytes(tensors):
                distributed.recv(part, self._peer, group=self._tensors)
        return unpack(self._last_header, tensors)

    def wait(self, num_left: int = 0) -> None:
        """Wait until at most this many messages are under way.

        Raises:
            LostStageError: if the other process is gone.
        """
        while len(self._under_way) > num_left:
            with self._explained():
                for work, _ in self._under_way.popleft():
                    work.wait()

    def _start(
        self, part: Tensor, group: distributed.ProcessGroup | None
    ) -> distributed.Work:
        # None only in processes outside of the group.
        work: Any = distributed.isend(part, self._peer, group=group)
        return work

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise LostStageError(
                f'{self._name} does not answer: it has stopped, or has taken longer '
                'than env_cfg.dist_cfg.timeout allows. If it has stopped, its own '
                'message says why.'
            ) from error


def _bytes(tensors: list[Tensor]) -> list[Tensor]:
    """The tensors that hold anything, as bytes: a transport knows few types."""
    return [tensor.view(torch.uint8) for tensor in tensors if tensor.numel()]

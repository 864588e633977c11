"""Ranks that are threads of one process: what several of them compute can be seen without a launcher."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from onnx_oto.peers.portions import Portion

T = TypeVar("T")


class Room:
    """Where the threads meet. What one of them raises is raised in all."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.barrier = threading.Barrier(size, timeout=60)
        self.held: list[Any] = [None] * size


class ThreadPeers:
    """One of the ranks (see `Peers`). Sums are taken in the order of the ranks."""

    def __init__(self, room: Room, rank: int) -> None:
        self.rank, self.size = rank, room.size
        self.portion = Portion(rank, room.size, 1)
        self._room = room

    def gather(self, value: Any) -> list[Any]:
        """See `Peers.gather`."""
        self._room.held[self.rank] = value
        self._room.barrier.wait()
        found = list(self._room.held)
        self._room.barrier.wait()
        return found

    def add_up(self, flat: np.ndarray, numbers: Sequence[float] = ()) -> list[float]:
        """See `Peers.add_up`."""
        found = self.gather((flat.copy(), list(numbers)))
        flat[:] = 0
        for other, _ in found:
            flat += other
        return [float(sum(column)) for column in zip(*(given for _, given in found), strict=True)]

    def told(self, make: Callable[[], T]) -> T:
        """See `Peers.told`."""
        found: T = self.gather(make() if self.rank == 0 else None)[0]
        return found

    def copy(self, flat: np.ndarray) -> None:
        """See `Peers.copy`."""
        flat[:] = self.gather(flat.copy())[0]


def together(size: int, work: Callable[[ThreadPeers], T]) -> list[T]:
    """Return what `work` returns at every rank, in order."""
    room = Room(size)

    def one(rank: int) -> T:
        try:
            return work(ThreadPeers(room, rank))
        except BaseException:
            room.barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(one, rank) for rank in range(size)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    own = [error for error in errors if not isinstance(error, threading.BrokenBarrierError)]
    if errors:
        raise (own or errors)[0]
    return [future.result() for future in futures]

"""Peers over mpi4py, which is loaded only where a launcher has started several ranks."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_oto import machine
from onnx_oto.errors import RuntimeMissingError
from onnx_oto.peers.lifeline import Lifeline, Voice, accept, connect, open_meeting
from onnx_oto.peers.portions import Portion

Floats = NDArray[np.float32]
T = TypeVar("T")

MISSING = "{size} ranks were started, and mpi4py does not load ({reason}): pip install 'onnx-oto[mpi]'"
_LONGEST = 1 << 26
"""Elements of an array that are added up in one call: counts of MPI have 31 bits."""
_NAP, _LONGEST_NAP = 1 / 16, 4e-3
"""How long to sleep while waiting: a part of what was waited for already, and never more seconds than these."""


class Ranks:
    """The ranks of an MPI job (see `Peers`). Made once in a process, by all of them."""

    def __init__(self, voice: Voice, size: int) -> None:
        """Raises RuntimeMissingError where mpi4py does not load, or not for the launcher of these `size` ranks."""
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError) as error:
            raise RuntimeMissingError(MISSING.format(size=size, reason=_one_line(error))) from None
        self._mpi = MPI
        self._all = MPI.COMM_WORLD
        self.rank: int = self._all.Get_rank()
        self.size: int = self._all.Get_size()
        if self.size != size:
            raise RuntimeMissingError(
                f"{size} ranks were started, and mpi4py sees {self.size}: it uses another MPI than the launcher "
                f"({_one_line(MPI.Get_library_version())[:60]}); start with the mpirun of that one"
            )
        hosts = self._all.allgather((socket.gethostname(), os.getpid(), _affinity()))
        self.names = tuple(f"process {process} on {host}" for host, process, _ in hosts)
        machine.share(_cores(self.rank, hosts))
        self.portion = Portion(self.rank, self.size, min(self._all.allgather(machine.cores())))
        self.lifeline = Lifeline(
            self.rank, self._connections(len({host for host, *_ in hosts}) == 1), self.names, voice
        )

    def _connections(self, alone: bool) -> dict[int, socket.socket]:
        if self.rank == 0:
            listening, meeting = open_meeting(alone)
            self._all.bcast(meeting)
            return accept(listening, meeting, self.size - 1)
        return connect(self._all.bcast(None), self.rank)

    def add_up(self, flat: Floats, numbers: Sequence[float] = ()) -> list[float]:
        """See `Peers.add_up`."""
        sums = np.array(numbers, np.float64)
        self._meet()
        if sums.size:
            self._all.Allreduce(self._mpi.IN_PLACE, sums)
        for start in range(0, flat.size, _LONGEST):
            self._all.Allreduce(self._mpi.IN_PLACE, flat[start : start + _LONGEST])
        return [float(each) for each in sums]

    def gather(self, value: Any) -> list[Any]:
        """See `Peers.gather`."""
        self._meet()
        found: list[Any] = self._all.allgather(value)
        return found

    def told(self, make: Callable[[], T]) -> T:
        """See `Peers.told`."""
        made = make() if self.rank == 0 else None
        self._meet()
        told: T = self._all.bcast(made)
        return told

    def copy(self, flat: NDArray[Any]) -> None:
        """See `Peers.copy`."""
        for start in range(0, flat.size, _LONGEST):
            self._all.Bcast(flat[start : start + _LONGEST])

    def _meet(self) -> None:
        """Wait for all ranks, asleep: MPI itself waits by asking again and again, on a core that others could use."""
        request, begin = self._all.Ibarrier(), time.monotonic()
        while not request.Test():
            time.sleep(min((time.monotonic() - begin) * _NAP, _LONGEST_NAP))


def _affinity() -> tuple[int, ...]:
    found = getattr(os, "sched_getaffinity", None)
    return tuple(sorted(found(0))) if found is not None else tuple(range(os.cpu_count() or 1))


def _cores(rank: int, hosts: Sequence[tuple[str, int, tuple[int, ...]]]) -> int:
    """Return how many cores a rank has to itself: its share of those that it may use, with others of its machine.

    >>> both = [("a", 1, (0, 1, 2, 3)), ("a", 2, (0, 1, 2, 3)), ("b", 1, (0, 1))]
    >>> [_cores(rank, both) for rank in range(3)]
    [2, 2, 2]
    >>> _cores(1, [("a", 1, (0,)), ("a", 2, (1,))])
    1
    """
    host, _, own = hosts[rank]
    beside = [cores for name, _, cores in hosts if name == host]
    share = sum(1 / sum(core in cores for cores in beside) for core in own)
    return max(1, int(share + 1e-9))


def _one_line(said: BaseException | str) -> str:
    return " ".join(str(said).split())[:200] or type(said).__name__

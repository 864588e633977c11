"""How much memory and time a model may take where it runs: enough for honest ones, not the whole machine."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from contextvars import ContextVar
from functools import cache
from typing import NamedTuple

import psutil

MIB = 1 << 20
LEAST_MEMORY = 1280 * MIB
"""What the process may take for a model of next to no weights on next to no inputs."""
MOST_IDLE_MEMORY = LEAST_MEMORY / 4
"""What the process may keep when no model is open in it."""
MEMORY_PER_WEIGHT_BYTE = 4
"""Optimised copies of the weights, several models open at once."""
MEMORY_PER_FED_BYTE = 32
MOST_MEMORY_FOR_FEEDS = 4096 * MIB
LEAST_SECONDS = 15.0
SECONDS_PER_WEIGHT_MIB = 0.1
SECONDS_PER_FED_MIB = 2.0
SECONDS_PER_NODE = 1e-3
"""ONNX Runtime takes 12 seconds to open a chain of 100,000 nodes, and more on a busy machine."""
PATIENCE = 8
"""How many times its seconds a job may take that waits: for a busy machine, for a disk."""


class Limits(NamedTuple):
    """What a user allows: bytes of memory, seconds of one run. None: what `allowance` finds sensible."""

    memory: float | None = None
    seconds: float | None = None


SENSIBLE = Limits()
UNLIMITED = Limits(math.inf, math.inf)
_current: ContextVar[Limits] = ContextVar("limits", default=SENSIBLE)


class Allowance(NamedTuple):
    """What one job may take: bytes of resident memory of the whole process, and seconds.

    by_the_clock: whether the seconds are the clock's whatever else the machine does, as a user means them.
    """

    memory: float
    seconds: float
    by_the_clock: bool = False

    def is_over(self, elapsed: float, worked: float) -> bool:
        """Return whether a job has taken too long: by the clock, and in seconds of its own on all processors.

        What nobody asked for must not end a healthy job: beside other work on the machine one that has had less than
        half of its seconds of a processor may go on.
        """
        if elapsed <= self.seconds:
            return False
        return self.by_the_clock or worked > self.seconds / 2 or elapsed > PATIENCE * self.seconds


@contextlib.contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Run models under these limits inside the block."""
    token = _current.set(limits)
    try:
        yield
    finally:
        _current.reset(token)


def allowance(*, weights: int, fed: int, nodes: int = 0) -> Allowance:
    """Return what a job may take on a process that holds models of `weights` bytes and is fed `fed` bytes.

    nodes: of the model that it opens or runs. Without limits of the user it grows with all: large inputs and large
    models honestly take more, while a small file that wants much has no claim to it. Half of the machine's memory is
    the most.
    """
    given = _current.get()
    memory = LEAST_MEMORY + MEMORY_PER_WEIGHT_BYTE * weights
    memory += min(MEMORY_PER_FED_BYTE * fed, MOST_MEMORY_FOR_FEEDS)
    seconds = LEAST_SECONDS + (SECONDS_PER_WEIGHT_MIB * weights + SECONDS_PER_FED_MIB * fed) / MIB
    seconds += SECONDS_PER_NODE * nodes
    return Allowance(
        min(memory, half_of_memory()) if given.memory is None else given.memory,
        seconds if given.seconds is None else given.seconds,
        given.seconds is not None,
    )


def generous(*, weights: int, fed: int) -> Allowance:
    """Return what a training step may take: all that is kept for the way back takes memory, which nobody knows."""
    given = _current.get()
    allowed = allowance(weights=weights, fed=fed)
    return Allowance(
        half_of_memory() if given.memory is None else given.memory,
        3 * allowed.seconds if given.seconds is None else given.seconds,
        allowed.by_the_clock,
    )


def roomy(limits: Limits) -> Limits:
    """Return limits under which a model that ran on small inputs may run on large ones: of what they take for it."""
    return limits._replace(memory=half_of_memory() if limits.memory is None else limits.memory)


@cache
def half_of_memory() -> float:
    """Return half of the machine's memory, in bytes. It is asked of the system once: every job on a model wants it."""
    return psutil.virtual_memory().total / 2

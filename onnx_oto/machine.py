"""What this process may use of its machine."""

from __future__ import annotations

import importlib.util
import os
from functools import cache

_SHARE: list[int] = []


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    found = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    return min([found, *_SHARE])


def share(count: int) -> None:
    """Let this process use so many cores: the others are for those that it shares the machine with."""
    _SHARE[:] = [count]


@cache
def has_compiler() -> bool:
    """Return whether functions can be compiled: numba is installed."""
    return importlib.util.find_spec("numba") is not None

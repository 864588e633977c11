"""What this process may use of its machine."""

from __future__ import annotations

import importlib.util
import os
from functools import cache


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


@cache
def has_compiler() -> bool:
    """Return whether functions can be compiled: numba is installed."""
    return importlib.util.find_spec("numba") is not None

"""What this process may use of its machine."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_UNLIMITED = 1 << 60
"""Bytes from which on a limit of cgroups v1 means none."""

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


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Leave cyclic garbage alone for a while: what makes many objects and no circles is searched for them in vain.

    What was made then counts as old afterwards, or the first collection would go through all of it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on and not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()
        if was_on:
            gc.enable()


class Quota(NamedTuple):
    """What a container leaves of the machine: processors (1.5 are one and a half), bytes of memory. None: all."""

    processors: float | None = None
    memory: int | None = None


def quota(root: str | None = None) -> Quota:
    """Return what control groups of Linux allow, of version 2 or 1; nothing is limited where there are none.

    root: where they are, "/sys/fs/cgroup" where nobody says.
    """
    if sys.platform != "linux":
        return Quota()
    root = root or "/sys/fs/cgroup"
    processors = memory = None
    with contextlib.suppress(OSError, ValueError):
        if os.path.exists(os.path.join(root, "cgroup.controllers")):
            limit, _, period = _read(root, "cpu.max").partition(" ")
            processors = float(limit) / float(period or 100_000) if limit not in ("", "max") else None
            limit = _read(root, "memory.max")
            memory = int(limit) if limit not in ("", "max") else None
        else:
            allowed = float(_read(root, "cpu/cpu.cfs_quota_us") or -1)
            processors = allowed / float(_read(root, "cpu/cpu.cfs_period_us")) if allowed > 0 else None
            bound = int(_read(root, "memory/memory.limit_in_bytes") or _UNLIMITED)
            memory = bound if bound < _UNLIMITED else None
    return Quota(processors, memory)


def _read(root: str, name: str) -> str:
    """Return what a file says, "" where there is none."""
    with contextlib.suppress(OSError), open(os.path.join(root, name), encoding="ascii") as file:
        return file.read().strip()
    return ""


class Processor(NamedTuple):
    """Its name, and what the system says that it can do."""

    name: str
    features: frozenset[str]


def processor() -> Processor:
    """Return the processor of this machine, as far as the system tells of it."""
    import platform  # a command line is read without

    name, features = platform.processor() or platform.machine(), ""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            pairs = (line.partition(":") for line in file)
            facts = {key.strip().lower(): value.strip() for key, _, value in pairs}
            name, features = facts.get("model name", name), facts.get("flags") or facts.get("features", "")
    elif sys.platform == "darwin":
        name = _sysctl("machdep.cpu.brand_string") or name
        features = f"{_sysctl('machdep.cpu.features')} {_sysctl('machdep.cpu.leaf7_features')}".lower()
    return Processor(name, frozenset(features.split()))


def vectors() -> str:
    """Return the widest vectors of floats that the system says this processor has, by which kernels are chosen."""
    features = processor().features
    return next((name for name in ("avx512f", "avx2", "neon", "asimd") if name in features), "others")


def _sysctl(name: str) -> str:
    import subprocess

    with contextlib.suppress(OSError):
        return subprocess.run(
            ["sysctl", "-n", name], capture_output=True, text=True, check=False
        ).stdout.strip()
    return ""

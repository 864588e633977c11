"""Pages of mapped files that were read, given back, so that data larger than memory take a bounded part of it.

A system takes pages that nobody needs away by itself, but only when memory runs out, and until then the process seems
to hold all it has read.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

_ADVICE: int | None = getattr(mmap, "MADV_DONTNEED", None)
"""What tells the system so; where it knows no such thing, it decides alone."""
MOST_HELD = 1 << 26
"""Bytes of one file that are read before its pages are given back."""
AROUND = 1 << 21
"""Bytes around a place that may come with it: Linux maps the large pages that it keeps files in as wholes."""


class Pages:
    """The pages of one mapping: of a read-only array, which stays as it is. It may be used by several threads."""

    def __init__(self, mapping: mmap.mmap) -> None:
        self._mapping = mapping
        self._held = 0

    def count(self, places: int, size: int) -> None:
        """Note that `size` bytes were read at each of so many places; give pages back when it is enough."""
        self._held += places * max(size, AROUND)
        if self._held >= MOST_HELD and _ADVICE is not None:
            self._held = 0
            self._mapping.madvise(_ADVICE)


def pages_of(samples: Any) -> Pages | None:
    """Return the pages of an array that lies in a mapped file and cannot be written; None for all else."""
    if not isinstance(samples, np.ndarray) or samples.flags.writeable:
        return None
    owner: Any = samples
    while isinstance(owner, np.ndarray):
        owner = owner.base
    return Pages(owner) if isinstance(owner, mmap.mmap) else None

"""Silence for native code that writes to file descriptor 2 whatever its log level."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silent_stderr() -> Iterator[None]:
    """Send file descriptor 2 to the null device inside the block and restore it afterwards, error or not.

    Process-wide, hence for short builds only. Does nothing when descriptor 2 is closed.
    """
    try:
        saved = os.dup(2)
    except OSError:
        yield
        return
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)

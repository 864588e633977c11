"""A lock that dies with the process that holds it, on every system.

Not `filelock`: its newest release leaves the file behind, and what it does on release differs between the versions
for the Pythons of this package.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from onnx_oto.errors import StorageError
from onnx_oto.signals import POSTPONED, UNDONE, done

_POLL_SECONDS = 0.05
_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def hold(path: Path, *, wait: float = 0.0) -> Iterator[bool]:
    """Lock the file `path`, made for that and removed at the end; False where the file system has no locks.

    Another holder is waited for `wait` seconds; then StorageError is raised. The system frees the lock when its
    process ends, however it does; a file that is left then locks nothing. Raises OSError when the file cannot be made.
    """
    end = time.monotonic() + wait
    held: list[int] = []  # the descriptor, from when it is there until it is closed
    release = functools.partial(_release, path, held)
    UNDONE.append(release)
    try:
        while not _try(path, held):
            if time.monotonic() >= end:
                raise StorageError(
                    f"another process is writing there (it holds '{path}'): wait until it has ended"
                )
            time.sleep(_POLL_SECONDS)
        yield bool(held)
    finally:
        done(release)


def _try(path: Path, held: list[int]) -> bool:
    """Lock the file and put its descriptor into `held`, nothing where locks are unknown; False while it is taken."""
    while True:
        with POSTPONED:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            except PermissionError:
                if os.name == "nt" and path.exists():  # its holder is removing it
                    return False
                raise
            locked = _is_locked(descriptor)
            if locked and _is_still(path, descriptor):
                held.append(descriptor)
                return True
            os.close(descriptor)
            if locked is None:
                with contextlib.suppress(OSError):
                    path.unlink()
                return True
            if not locked:
                return False


def _is_locked(descriptor: int) -> bool | None:
    """Lock a file; return whether that was done, None where the file system has no locks."""
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _TAKEN:
            return False
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def _is_still(path: Path, descriptor: int) -> bool:
    """Say whether the locked file is the one that others will find, not one that its holder removed meanwhile."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(path: Path, held: list[int]) -> None:
    """Remove and close the file, once, however often it is called."""
    if held and os.name != "nt":
        with contextlib.suppress(OSError):
            path.unlink()
    while held:
        os.close(held.pop())
        if os.name == "nt":  # open files cannot be removed there, by others neither
            with contextlib.suppress(OSError):
                path.unlink()

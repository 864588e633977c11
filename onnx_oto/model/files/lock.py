"""A lock that dies with the process that holds it, on every system.

Not `filelock`: its newest release leaves the file behind, and what it does on release differs between the versions
for the Pythons of this package.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from onnx_oto.errors import StorageError

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
    while (descriptor := _try(path)) is None:
        if time.monotonic() >= end:
            raise StorageError(
                f"another process is writing there (it holds '{path}'): wait until it has ended"
            )
        time.sleep(_POLL_SECONDS)
    try:
        yield descriptor >= 0
    finally:
        _release(path, descriptor)


def _try(path: Path) -> int | None:
    """Return the descriptor of the locked file, -1 where locks are unknown, None while another process has it."""
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            if os.name == "nt" and path.exists():  # its holder is removing it
                return None
            raise
        locked = _is_locked(descriptor)
        if locked and _is_still(path, descriptor):
            return descriptor
        os.close(descriptor)
        if locked is None:
            with contextlib.suppress(OSError):
                path.unlink()
            return -1
        if not locked:
            return None


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


def _release(path: Path, descriptor: int) -> None:
    if descriptor < 0:
        return
    if os.name != "nt":
        with contextlib.suppress(OSError):
            path.unlink()
    os.close(descriptor)
    if os.name == "nt":  # open files cannot be removed there, by others neither
        with contextlib.suppress(OSError):
            path.unlink()

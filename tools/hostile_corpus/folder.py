"""What lies in a folder, to be compared before and after a command."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

WHOLE_BELOW = 64 * 2**20
"""Files from this size on, which are sparse here, are known by size and time instead of their bytes."""


def listing(root: Path) -> dict[str, str]:
    """Return a fingerprint of everything below a folder, by path relative to it. Links are not followed."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            found[path.relative_to(root).as_posix()] = _fingerprint(path)
    return found


def _fingerprint(path: Path) -> str:
    info = path.lstat()
    kind = f"{stat.S_IFMT(info.st_mode):o} {stat.S_IMODE(info.st_mode):o}"
    if stat.S_ISLNK(info.st_mode):
        return f"{kind} -> {os.readlink(path)}"
    if not stat.S_ISREG(info.st_mode):
        return kind
    if info.st_size >= WHOLE_BELOW:
        return f"{kind} {info.st_size} bytes, {info.st_mtime_ns}"
    try:
        return f"{kind} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    except PermissionError:
        return f"{kind} {info.st_size} bytes, {info.st_mtime_ns}"

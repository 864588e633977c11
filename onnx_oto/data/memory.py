"""How much memory there is to take."""

from __future__ import annotations

import re
from pathlib import Path


def available_bytes() -> int | None:
    """Return the bytes that may be taken without swapping, or None on systems that do not say (all but Linux).

    In a container it is at most the container's limit (not less: what it uses now is partly the cache of files).
    """
    try:
        found = re.search(r"MemAvailable:\s*(\d+) kB", Path("/proc/meminfo").read_text(encoding="ascii"))
    except (OSError, ValueError):
        found = None
    if found is None:
        return None
    available = int(found[1]) * 1024
    try:
        return min(available, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return available

"""What all sides do: answer with the times of so many steps. Imports nothing but the standard library."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable

Times = tuple[float, float]
"""Milliseconds of a step, and of the optimizer in it."""


def serve(step: Callable[[], Times], **facts: object) -> None:
    """Take a step, say so, then read numbers of steps from the input until it ends."""
    step()
    print(json.dumps({"ready": True, **facts}), flush=True)
    for line in sys.stdin:
        times = [step() for _ in range(int(line))]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        whole, optimizer = zip(*times, strict=True)
        found = {"ms": whole, "optimizer_ms": optimizer, "peak_mib": round(peak / 1024)}
        print(json.dumps(found), flush=True)

"""Data that are three times the memory a process may have are read all the same, shuffled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).resolve().parents[2] / "tools" / "stream_memory.py"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of private memory")
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_three_times_the_memory(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "--kind", kind, "--size", "90MB", "--times", "3"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("limit 30 MB") == 2

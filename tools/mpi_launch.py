"""How the tools here, and tests, start several ranks on this machine, by whichever launcher there is."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

ROOT_MAY = dict.fromkeys(("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"), "1")
"""What containers need, where everybody is root."""


@cache
def launcher() -> str | None:
    """Return the program that starts ranks: the one beside this Python, or the system's; None where there is none."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")


@cache
def is_open_mpi() -> bool:
    """Return whether it is that of Open MPI."""
    told = subprocess.run([str(launcher()), "--version"], capture_output=True, text=True, check=False)
    return "Open MPI" in told.stdout


def missing() -> str:
    """Return what is missing to start ranks, "" where nothing is."""
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed"
    return "" if launcher() else "there is no mpirun"


def command(ranks: int, words: Sequence[str]) -> list[str]:
    """Return what starts so many ranks of a command on this machine, whatever number of cores it has."""
    more = ["--bind-to", "none"]
    if is_open_mpi() and ranks > (os.cpu_count() or 1):  # it makes waiting ranks give way, and slower
        more += ["--map-by", ":OVERSUBSCRIBE"]
    return [str(launcher()), *more, "-n", str(ranks), *words]


def environment() -> dict[str, str]:
    """Return the variables to start it with."""
    return {**os.environ, **ROOT_MAY}

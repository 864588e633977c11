"""What the variables say that launchers of MPI set: whether there are several ranks, and which this is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
_RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
_LOCAL = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")
_BESIDE = ("OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS")
_PMI = ("PMI_RANK", "PMIX_RANK", "PMI_FD", "PMI_ID")
"""What a launcher sets besides, where Slurm's own variables tell the number of ranks."""
_OURS = ("OMPI_", "PMI_", "PMIX_", "PRTE_", "MPI_LOCAL", "HYDI_", "HYDRA_", "MPIR_", "PMI2_")
_RESETTABLE = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")


@dataclass(frozen=True)
class Launched:
    """What a launcher says of this process. local: its number on its machine, of the `beside` that run there."""

    rank: int
    size: int
    local: int
    beside: int = 1


def launched(environment: Mapping[str, str] = os.environ) -> Launched | None:
    """Return what a launcher says; None without one, and where it has started a single process.

    >>> launched({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"})
    Launched(rank=3, size=4, local=1, beside=2)
    >>> launched({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2", "PMI_RANK": "2"}).size
    4
    >>> launched({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}) is None  # a script of a job, not one of its ranks
    True
    """
    is_slurm = any(name in environment for name in _PMI)
    size = _first(environment, _SIZES + ("SLURM_STEP_NUM_TASKS",) * is_slurm)
    rank = _first(environment, _RANKS + ("SLURM_PROCID",) * is_slurm)
    if size is None or rank is None or size < 2:
        return None
    local, beside = _first(environment, _LOCAL) or 0, _first(environment, _BESIDE) or 1
    return Launched(rank, size, local, max(beside, local + 1))


def without(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for a process that is no rank, though one starts it."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_OURS) and name not in _RESETTABLE
    }


def _first(environment: Mapping[str, str], names: Sequence[str]) -> int | None:
    """Return the first of some variables that is a number."""
    return next((int(text) for name in names if (text := environment.get(name, "")).isdigit()), None)

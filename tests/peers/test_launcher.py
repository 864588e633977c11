"""What the variables of launchers say."""

from __future__ import annotations

import pytest

from onnx_oto.peers.launcher import launched, without
from onnx_oto.peers.portions import Portion

OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "PMIX_RANK": "3",
}
MPICH = {"PMI_SIZE": "4", "PMI_RANK": "3", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2", "PMI_FD": "9"}
SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "PMIX_RANK": "3"}


@pytest.mark.parametrize("environment", [OPEN_MPI, MPICH, SLURM], ids=["Open MPI", "MPICH", "Slurm"])
def test_ranks_know_themselves(environment: dict[str, str]) -> None:
    here = launched(environment)
    assert here is not None
    assert (here.rank, here.size, here.local, here.beside) == (3, 4, 1, 2)
    assert launched(without({**environment, "HOME": "/"})) is None
    assert without({**environment, "HOME": "/"}) == {"HOME": "/"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        {"SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # the script of a job
        {"OMPI_COMM_WORLD_SIZE": "many", "OMPI_COMM_WORLD_RANK": "0"},
    ],
)
def test_who_is_alone(environment: dict[str, str]) -> None:
    assert launched(environment) is None


@pytest.mark.parametrize(("ranks", "sizes"), [(2, [34, 33, 33]), (3, [4, 4, 3, 3]), (4, [2, 2, 2, 2])])
def test_every_sample_is_taken_once(ranks: int, sizes: list[int]) -> None:
    portions = [Portion(rank, ranks) for rank in range(ranks)]
    assert [shard for each in portions for shard in each.shards(sizes)] == list(range(len(sizes)))
    assert [row for each in portions for row in each.rows(sizes)] == list(range(sum(sizes)))
    assert all(len(each.shards(sizes)) for each in portions)

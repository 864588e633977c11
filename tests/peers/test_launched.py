"""Real ranks, by a launcher: `mpirun -n 2 onnx-oto train`, one that is killed, and who goes on."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = (
    "--epochs",
    "3",
    "--batch",
    "16",
    "--flip",
    "--shards",
    "2",
    "--skip-latency",
    "--checkpoint-minutes",
    "0.0005",
)
RANK_1 = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
RANK_0 = {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}


@pytest.fixture(scope="module")
def tools() -> Iterator[Any]:
    """Give the tool that kills ranks. Skipped, aloud, where nothing starts ranks."""
    names = ("kill_mpi", "kill_resume", "mpi_launch")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "tools"))
        if reason := importlib.import_module("mpi_launch").missing():
            pytest.skip(f"no ranks were started: {reason} (pip install 'onnx-oto[dev]')")
        yield importlib.import_module("kill_mpi")
    for name in names:
        sys.modules.pop(name, None)


def test_ranks_train_like_shards_and_one_that_is_killed_costs_nothing(tools: Any, tmp_path: Path) -> None:
    trial = tools.Trial(tmp_path, 2, 0, QUICK)
    assert trial.is_equal  # the bytes of trained.onnx and compact.onnx
    assert (tmp_path / "shared" / "run.toml").read_text() == (tmp_path / "alone" / "run.toml").read_text()
    ended = trial.killed("killed", 0.6 * trial.seconds)
    assert ended.seconds < tools.MOST_SECONDS
    if ended.rank >= 0:
        assert ended.code != 0
        assert len(ended.lines) <= 1
    for line in ended.lines:
        assert re.match(rf"error: rank {ended.rank} \(process \d+ on .*\) was lost", line)
    assert trial.gone_on("killed", 1) == ""


def oto(folder: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a launcher's rank, where mpi4py cannot be imported."""
    (folder / "mpi4py.py").write_text("raise ImportError('No module named mpi4py')\n")
    path = os.pathsep.join([str(folder), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "onnx_oto", *words],
        cwd=folder,
        env={**os.environ, **environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_without_mpi4py_rank_0_says_so(tmp_path: Path) -> None:
    words = ("train", "net.onnx", "--data", "data.npz", "--run", "run")
    first, second = (oto(tmp_path, rank, *words) for rank in (RANK_0, RANK_1))
    assert (first.returncode, second.returncode) == (7, 7)
    assert re.fullmatch(r"error: 2 ranks were started, .*pip install 'onnx-oto\[mpi\]'\n", first.stderr)
    assert (first.stdout, second.stdout, second.stderr) == ("", "", "")


def test_a_command_for_one_process_is_refused(tmp_path: Path) -> None:
    first, second = (oto(tmp_path, rank, "inspect", "net.onnx") for rank in (RANK_0, RANK_1))
    assert (first.returncode, second.returncode) == (2, 2)
    assert first.stderr == (
        "error: 'inspect' is work for one process, and a launcher has started 2: start it without\n"
    )
    assert (first.stdout, second.stdout, second.stderr) == ("", "", "")

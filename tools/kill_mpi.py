"""Kill ranks of `mpirun onnx-oto train` at random moments, and go on with `onnx-oto resume`.

    .venv/bin/python tools/kill_mpi.py --kills 20

Every run is started with --ranks ranks; one of them is killed (SIGKILL) at a moment spread over the time that a run
takes. All others must have ended within 10 seconds, with one line of ours; then the run goes on, with another number
of ranks each time, and trained.onnx and compact.onnx must be, byte for byte, those of one process that nobody killed.
Model and data are those of kill_resume.py: BatchNormalization, Dropout, augmentation, two batches a step.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))  # tools are run, not imported

from kill_resume import LEFT_BEFORE_IT_BEGAN, MODELS, OPTIONS, make_inputs
from mpi_launch import command, environment, missing

MOST_SECONDS = 10.0
SHARES = ("--statistics", "shard")


@dataclass(frozen=True)
class Ended:
    """How a run ended whose rank was killed. seconds: until all were gone. lines: that the ranks said of it."""

    rank: int
    after: float
    seconds: float
    lines: tuple[str, ...]
    code: int


class Trial:
    """The runs of one folder of inputs."""

    def __init__(self, folder: Path, ranks: int, seed: int, options: Sequence[str] = OPTIONS) -> None:
        self.folder, self.ranks, self.random = folder, ranks, random.Random(seed)
        self.options = [*options, *SHARES, "--shards", str(ranks)]
        make_inputs(folder)
        self.expected = self._whole("alone", 1)
        begin = time.perf_counter()
        self.is_equal = self._whole("shared", ranks) == self.expected
        self.seconds = time.perf_counter() - begin

    def start(self, ranks: int, verb: str, run: str) -> subprocess.Popen[str]:
        """Begin a run, or go on with it."""
        words = [sys.executable, "-m", "onnx_oto", verb]
        words += ["net.onnx", "--data", "data.npz", "--run", run, *self.options] if verb == "train" else [run]
        return subprocess.Popen(
            words if ranks == 1 else command(ranks, words),
            cwd=self.folder,
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def files(self, run: str) -> tuple[bytes, ...]:
        """Return what a run made."""
        return tuple((self.folder / run / name).read_bytes() for name in MODELS)

    def killed(self, run: str, after: float) -> Ended:
        """Kill a random rank of a new run so many seconds after its start; one that is over by then ends as it does."""
        process, rank = self.start(self.ranks, "train", run), self.random.randrange(self.ranks)
        time.sleep(after)
        every = family(process.pid)
        victim = next((each for each in every if rank_of(each) == rank), None)
        begin = time.perf_counter()
        if victim is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        _, alive = psutil.wait_procs(every, timeout=2 * MOST_SECONDS)
        seconds = time.perf_counter() - begin
        for each in alive:
            each.kill()
        _, said = process.communicate(timeout=60)
        lines = tuple(line for line in said.splitlines() if line.startswith(("error:", "interrupted")))
        return Ended(rank if victim is not None else -1, after, seconds, lines, process.returncode)

    def gone_on(self, run: str, ranks: int) -> str:
        """Go on with a run, or begin it where it was left before; return what is wrong, or ""."""
        code, said = self._ended(self.start(ranks, "resume", run))
        if code == LEFT_BEFORE_IT_BEGAN or not (self.folder / run).is_dir():
            code, said = self._ended(self.start(ranks, "train", run))
        if code:
            return f"exit code {code}: {said}"
        return "" if self.files(run) == self.expected else "other bytes"

    def _whole(self, run: str, ranks: int) -> tuple[bytes, ...]:
        code, said = self._ended(self.start(ranks, "train", run))
        assert code == 0, f"the run that nobody kills fails: {said}"
        return self.files(run)

    def _ended(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        _, said = process.communicate(timeout=600)
        return process.returncode, (said.strip().splitlines() or [""])[-1]


def family(pid: int) -> list[psutil.Process]:
    """Return the processes that a launcher has started, those that ranks have started too."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def rank_of(process: psutil.Process) -> int | None:
    """Return the rank that a process is, None for those that are none."""
    with contextlib.suppress(psutil.Error):
        words, variables = process.cmdline(), process.environ()
        if "onnx_oto" in words:
            return next(
                (int(variables[name]) for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK") if name in variables),
                None,
            )
    return None


def main() -> int:
    """Print a line for every run, and the tally; the exit code says whether all came out the same."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--ranks", type=int, default=2)
    arguments.add_argument("--seed", type=int, default=0)
    wanted = arguments.parse_args()
    if reason := missing():
        print(f"{reason}: pip install 'onnx-oto[mpi]'")
        return 1
    good, seconds = 0, []
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), wanted.ranks, wanted.seed)
        print(
            f"a whole run takes {trial.seconds:.1f} s; the bytes of one process: {trial.is_equal}", flush=True
        )
        for number in range(wanted.kills):
            after = trial.random.uniform(0.1, 1.0) * trial.seconds
            ended = trial.killed(f"run{number}", after)
            ranks = trial.random.randint(1, wanted.ranks)
            wrong = trial.gone_on(f"run{number}", ranks)
            if ended.rank >= 0:
                seconds.append(ended.seconds)
            is_good = not wrong and ended.seconds <= MOST_SECONDS and len(ended.lines) <= 1
            good += is_good
            print(
                f"run {number}: rank {ended.rank} killed after {after:.1f} s, the others gone in {ended.seconds:.2f} "
                f"s, code {ended.code}, {len(ended.lines)} line {ended.lines}; gone on with {ranks}: "
                f"{wrong or 'the same bytes'}",
                flush=True,
            )
    if seconds:
        print(f"gone within: median {statistics.median(seconds):.2f} s, most {max(seconds):.2f} s")
    print(f"{good} of {wanted.kills} good")
    return 0 if good == wanted.kills and trial.is_equal else 1


if __name__ == "__main__":
    sys.exit(main())

"""Compare the gradients of random one-op models with exact ones.

    tools/gradients --count 200
    tools/gradients --only Conv,AveragePool --count 2000 --strict
    tools/gradients --backend plain

Convolutions and poolings of 1 to 3 dimensions, over batch, channels, groups, kernels, strides, dilations, pads (uneven
and by name), ceil_mode and count_include_pad, are compared with numpy in float64, every other operator with central
differences in float64. Every step is run twice on a gradient buffer that holds NaN. Models run in a process that may
die; what died is run three times more, alone, to tell whether it was the one that wrote behind its memory. With
--strict the allocator checks every block and fills what is free, which finds such writes that do no harm by luck.

Prints a row per operator, exits 1 when one gradient is off by more than 2e-5 of its largest entry.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from gradients import sweep_rows, sweep_windows
from gradients.harness import FLOAT32

CHECKED = {"GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.perturb=165:glibc.malloc.tcache_count=0"}
RECHECKS = 3


class Job(NamedTuple):
    """A case by what draws it; rank 0 is a row."""

    op: str
    rank: int
    seed: int
    backend: str = "auto"

    @property
    def text(self) -> str:
        if self.rank:
            return sweep_windows.draw(self.op, self.rank, self.seed).text
        row = sweep_rows.draw(self.op, self.seed)
        shapes = " ".join(f"{name}{list(value.shape)}" for name, value in row.values().items())
        return f"{row.body} {shapes} { ({k: v.tolist() for k, v in row.constants.items() if v.size < 9}) }"


def run(job: Job) -> dict[str, float] | str:
    """Return the errors of a case, or what was raised."""
    from onnx_oto.gradients import choose_backend  # here, where a runtime may be loaded

    warnings.simplefilter("ignore")
    try:
        backend = choose_backend(job.backend)
        if job.rank:
            return sweep_windows.errors(sweep_windows.draw(job.op, job.rank, job.seed), backend=backend)
        return sweep_rows.errors(sweep_rows.draw(job.op, job.seed), backend)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class Child:
    """A process that runs cases, one after the other, and may die of them."""

    def __init__(self) -> None:
        ask, asked = os.pipe()
        answer, answered = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(asked)
            os.close(answer)
            self._serve(ask, answered)
        os.close(ask)
        os.close(answered)
        self._asked, self._answer = os.fdopen(asked, "wb"), os.fdopen(answer, "rb")

    @staticmethod
    def _serve(ask: int, answered: int) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        with os.fdopen(ask, "rb") as jobs, os.fdopen(answered, "wb") as results:
            while True:
                try:
                    job = pickle.load(jobs)
                except EOFError:
                    os._exit(0)
                pickle.dump(run(job), results)
                results.flush()

    def call(self, job: Job) -> dict[str, float] | str:
        """Return what `run` gives, or which signal the process died of."""
        try:
            pickle.dump(job, self._asked)
            self._asked.flush()
            result: dict[str, float] | str = pickle.load(self._answer)
        except (EOFError, OSError):
            return f"died of signal {os.WTERMSIG(os.waitpid(self.pid, 0)[1])}"
        return result

    def close(self) -> None:
        self._asked.close()
        os.waitpid(self.pid, 0)


def families(only: list[str]) -> Iterator[tuple[str, int]]:
    """Yield (operator, rank) of all families, or of some operators."""
    for op in sweep_windows.OPS:
        yield from ((op, rank) for rank in sweep_windows.RANKS if not only or op in only)
    yield from ((op, 0) for op in sweep_rows.FAMILIES if not only or op in only)


class Tally:
    """What came of the cases of one family."""

    def __init__(self) -> None:
        self.worst = 0.0
        self.wrong: list[str] = []

    def add(self, job: Job, found: dict[str, float] | str) -> None:
        if isinstance(found, str):
            self.wrong.append(f"{job.seed}: {found} | {job.text}")
        elif max(found.values()) > FLOAT32:
            off = " ".join(f"{name} {value:.1e}" for name, value in found.items())
            self.wrong.append(f"{job.seed}: {off} | {job.text}")
        else:
            self.worst = max(self.worst, *found.values())


def sweep(options: argparse.Namespace) -> int:
    """Run all families and print a row each; return how many cases were wrong."""
    child, wrong = Child(), 0
    for op, rank in families(options.only):
        tally, start = Tally(), time.monotonic()
        for seed in range(options.seed, options.seed + options.count):
            job = Job(op, rank, seed, options.backend)
            found = child.call(job)
            if isinstance(found, str) and found.startswith("died"):
                found = f"{found}; alone: {', '.join(alone(job) for _ in range(RECHECKS))}"
                child = Child()
            tally.add(job, found)
        name = f"{op} {rank}-D" if rank else op
        seconds = time.monotonic() - start
        counts = f"{options.count:6} cases {len(tally.wrong):5} wrong"
        print(f"{name:24} {counts}, worst of the rest {tally.worst:.1e} {seconds:6.0f} s", flush=True)
        for line in tally.wrong[: options.show]:
            print(f"    {line}", flush=True)
        wrong += len(tally.wrong)
    child.close()
    return wrong


def alone(job: Job) -> str:
    """Return what comes of a case in a process of its own."""
    child = Child()
    found = child.call(job)
    if isinstance(found, str):
        return found
    child.close()
    return "right" if max(found.values()) <= FLOAT32 else "wrong"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=100, help="cases per operator and rank")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="operators")
    parser.add_argument("--backend", default="auto", help="what makes the gradients")
    parser.add_argument("--show", type=int, default=5, help="wrong cases that are printed per row")
    parser.add_argument("--strict", action="store_true", help="let the allocator check all memory")
    options = parser.parse_args()
    if options.strict and not _is_checked():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], _checked_environment())
    return 1 if sweep(options) else 0


def _is_checked() -> bool:
    return os.environ.get("GLIBC_TUNABLES") == CHECKED["GLIBC_TUNABLES"]


def _checked_environment() -> dict[str, Any]:
    return {**os.environ, **CHECKED, "LD_PRELOAD": "libc_malloc_debug.so.0"}


if __name__ == "__main__":
    sys.exit(main())

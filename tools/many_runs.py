"""Many trainings over several machines: one configuration a rank, whichever is next, results merged.

    mpirun --enable-recovery -n 8 .venv/bin/python tools/many_runs.py sweep.toml --runs DIR
    .venv/bin/python tools/many_runs.py sweep.toml --runs DIR --report

DIR is on a disk that all machines share. sweep.toml names what is varied under [sweep], every combination of its lists,
and under [train] what all have, both by the names of `onnx-oto train` (see docs/settings.md); paths are relative to the
file:

    [train]
    model = "net.onnx"
    data = "data.npz"
    epochs = 12
    [sweep]
    sparsity = [0.5, 0.7]
    seed = [0, 1, 2]

Every configuration is an `onnx-oto train` of its own in a folder of DIR; one that was left goes on (`onnx-oto resume`),
one that is done is not done again. Ranks do not talk to each other: each takes the next configuration that nobody has
taken, by a file that only one can make. A rank that dies, or a training that fails, loses its configuration and no
other, as far as the launcher lets the rest go on (--enable-recovery of Open MPI, -disable-auto-cleanup of MPICH, srun
as it is); started again, the sweep does what is missing. After every configuration DIR/results.jsonl is written anew
from all that are done. Without a launcher one process does them all.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx_oto.peers.launcher import Launched, launched, without

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_JOBS = (("PMIX_NAMESPACE",), ("SLURM_JOB_ID", "SLURM_STEP_ID"))
"""Variables that are the same at all ranks of one start, and others at the next."""
_PATHS = ("model", "data", "teacher", "tokenizer", "table")
RESULTS = "results.jsonl"
PLACES = ("model", "data")


@dataclass(frozen=True)
class Configuration:
    """One training. varied: what it has by itself; options: all of it, by the names of the options."""

    varied: dict[str, Any]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder of its run."""
        parts = (f"{name}-{str(value).replace(os.sep, '-')}" for name, value in self.varied.items())
        return "_".join(parts) or "run"

    def words(self) -> list[str]:
        """Return the arguments of `onnx-oto train`, without --run."""
        found = [str(self.options["model"])]
        for name, value in self.options.items():
            if name == "model" or value is False:
                continue
            for each in value if isinstance(value, list) else [value]:
                found += [f"--{name}"] if each is True else [f"--{name}", str(each)]
        return found


def configurations(place: Path) -> list[Configuration]:
    """Return every combination of the lists of a file, in order. Raises SystemExit where it does not say enough."""
    said = tomllib.loads(place.read_text(encoding="utf-8"))
    common, lists = said.get("train", {}), said.get("sweep", {})
    for name, values in lists.items():
        if not isinstance(values, list) or not values:
            raise SystemExit(f"'{place}': {name} under [sweep] is {values!r}: give a list")
    found = []
    for values in itertools.product(*lists.values()):
        varied = dict(zip(lists, values, strict=True))
        options = {name: _placed(name, value, place.parent) for name, value in {**common, **varied}.items()}
        if missing := [name for name in PLACES if name not in options]:
            raise SystemExit(f"'{place}': {missing[0]} is missing under [train]")
        found.append(Configuration(varied, options))
    return found


def _placed(name: str, value: Any, folder: Path) -> Any:
    """Return a path as it is from here; one that is not there is left as it is, such as the name of a function."""
    if name not in _PATHS or not isinstance(value, str) or not (folder / value).exists():
        return value
    return str(folder / value)


class Queue:
    """Which configurations are taken, by files that only one rank can make. job: another one for every start."""

    def __init__(self, runs: Path, job: str) -> None:
        self._folder = runs / ".taken" / job
        self._folder.mkdir(parents=True, exist_ok=True)

    def takes(self, name: str, rank: int) -> bool:
        """Return whether a configuration is this rank's from now on."""
        try:
            with open(self._folder / name, "x", encoding="utf-8") as file:
                file.write(f"{rank}\n")
        except FileExistsError:
            return False
        return True


def work(
    every: list[Configuration], runs: Path, queue: Queue, rank: int
) -> Iterator[tuple[Configuration, int]]:
    """Do what is not done and not taken; yield each configuration with its exit code, once its results are merged."""
    for each in every:
        folder = runs / each.name
        if (folder / "result.json").exists() or not queue.takes(each.name, rank):
            continue
        code = trained(each, folder)
        merge(every, runs)
        yield each, code


def trained(configuration: Configuration, folder: Path) -> int:
    """Train, or go on where it was left; return the exit code. What it says is in a file beside the folder."""
    verb = ["train", *configuration.words(), "--run", str(folder), "--overwrite"]
    if (folder / "checkpoint.npz").exists():
        verb = ["resume", str(folder)]
    with open(folder.with_name(f"{folder.name}.log"), "a", encoding="utf-8") as log:
        return subprocess.run(
            [sys.executable, "-m", "onnx_oto", *verb],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=without(os.environ),  # it is no rank of this job
            check=False,
        ).returncode


def merge(every: list[Configuration], runs: Path) -> list[dict[str, Any]]:
    """Write what is done into one file, a line each, in order; return it. Any number of ranks may at once."""
    lines = []
    for each in every:
        with contextlib.suppress(FileNotFoundError, ValueError):
            result = json.loads((runs / each.name / "result.json").read_text(encoding="utf-8"))
            lines.append({"name": each.name, **each.varied, "result": result})
    with tempfile.NamedTemporaryFile(
        "w", dir=runs, prefix=".results", delete=False, encoding="utf-8"
    ) as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    os.replace(file.name, runs / RESULTS)
    return lines


def job_of(environment: Mapping[str, str]) -> str | None:
    """Return what tells the start of these ranks from any other, None where the launcher does not say."""
    for names in _JOBS:
        if all(name in environment for name in names):
            return "-".join(environment[name].replace(os.sep, "-") for name in names)
    return None


def share_cores(here: Launched) -> None:
    """Keep to the share of this rank of the cores that its machine's ranks have; who is bound to some has them."""
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    own = cores[here.local :: here.beside]
    if own and len(cores) == os.cpu_count():
        os.sched_setaffinity(0, own)


def table(every: list[Configuration], lines: list[dict[str, Any]]) -> str:
    """Return what is done, and what is not, for people."""
    done = {line["name"]: line["result"] for line in lines}
    rows = []
    for each in every:
        result = done.get(each.name)
        metric = None if result is None else result["metric"]
        told = "not done" if metric is None else f"{metric['name']} {metric['compact']:.4f}"
        rows.append(f"{each.name:40} {told}")
    return "\n".join(rows)


def main() -> int:
    """Do the part of this rank. The exit code says whether all that it did went well."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("sweep", type=Path)
    arguments.add_argument("--runs", type=Path, required=True)
    arguments.add_argument("--job", help="what this start is called; some launchers do not say (MPICH)")
    arguments.add_argument("--report", action="store_true", help="tell what is done, and do nothing")
    wanted = arguments.parse_args()
    every = configurations(wanted.sweep)
    wanted.runs.mkdir(parents=True, exist_ok=True)
    if wanted.report:
        print(table(every, merge(every, wanted.runs)))
        return 0
    here = launched()
    job = wanted.job or job_of(os.environ)
    if job is None and here is not None:
        raise SystemExit(
            "this launcher does not say which start this is: give every start another --job NAME"
        )
    if here is not None:
        share_cores(here)
    failed = 0
    for each, code in work(
        every, wanted.runs, Queue(wanted.runs, job or f"process-{os.getpid()}"), here.rank if here else 0
    ):
        failed += code != 0
        print(f"{each.name}: {'done' if code == 0 else f'exit code {code}, see {each.name}.log'}", flush=True)
    if here is None or here.rank == 0:
        print(table(every, merge(every, wanted.runs)))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Kill `prune` and `train` while they replace earlier files, look at what is left, and run them again.

Every file must be the earlier one or a new one, whole; a second run must succeed and leave nothing beside its files.
Some may be earlier and some new ("mixed" in the tally): files are put in place one by one.
Half of the moments are spread over the time that a command takes, half follow a change in its folder at once: that is
where files can be half written.
"""

from __future__ import annotations

import collections
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from hostile_corpus.case import Trial
from hostile_corpus.judge import WORK, Limits
from hostile_corpus.process import HOME, OUTPUT, OUTSIDE, PRODUCT, ROOT, TMP, attempt, end, start

MODEL = ROOT / "samples" / "fashion_resnet.onnx"
GENEROUS = Limits(600.0, 8 * 2**30)
PAUSE = 0.0005
EARLIER, NEW, OTHER, GONE, BROKEN = "earlier", "new", "other", "gone", "broken"
FAILURES = (BROKEN, GONE)

Files = dict[str, bytes]


@dataclass(frozen=True, eq=False)
class Job:
    """A command to be killed. earlier, words: how it made the files that are there, and how it replaces them.

    files: what it makes and what must be whole at any moment. clears: it removes the earlier files first, as it was
    told to, so that they may be gone. keeps: what else it leaves for good.
    """

    build: Callable[[Path], None]
    earlier: tuple[str, ...]
    words: tuple[str, ...]
    files: tuple[str, ...]
    clears: bool = False
    keeps: tuple[str, ...] = ()


@dataclass(frozen=True)
class Course:
    """How a command goes when nobody kills it: its files before and after, seconds, and changes in its folder."""

    earlier: Files
    new: Files
    seconds: float
    changes: int


def _model(folder: Path) -> None:
    shutil.copy(MODEL, folder / "m.onnx")


def _model_and_data(folder: Path) -> None:
    _model(folder)
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for split, count in (("train", 64), ("test", 32)):
        arrays[f"x_{split}"] = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        arrays[f"y_{split}"] = np.arange(count) % 10
    np.savez(folder / "d.npz", **arrays)


_PRUNE = (
    "prune",
    "m.onnx",
    "-o",
    "out.onnx",
    "--save-zeroed",
    "zeroed.onnx",
    "--kept",
    "kept.json",
    "--sparsity",
)
_TRAIN = (
    "train",
    "m.onnx",
    "--data",
    "d.npz",
    "--run",
    "run",
    "--epochs",
    "1",
    "--batch",
    "32",
    "--overwrite",
    "--seed",
)
JOBS = {
    "prune": Job(_model, (*_PRUNE, "0.25"), (*_PRUNE, "0.5"), ("out.onnx", "zeroed.onnx", "kept.json")),
    "train": Job(
        _model_and_data, (*_TRAIN, "1"), (*_TRAIN, "2"),
        ("run/trained.onnx", "run/compact.onnx", "run/result.json", "run/metrics.jsonl", "run/checkpoint.npz"),
        clears=True, keeps=("run/.onnx-oto.json",),
    ),
}  # fmt: skip


def run(
    count: int,
    seed: int,
    source: Path = ROOT,
    *,
    command: Sequence[str] = PRODUCT,
    jobs: dict[str, Job] = JOBS,
) -> int:
    """Kill every job `count` times and print what was left; return 1 if anything was not whole."""
    failed = 0
    for name, job in jobs.items():
        course = measured(job, source, command)
        print(f"{name}: {course.seconds:.1f} s, {course.changes} changes in its folder", flush=True)
        tally: collections.Counter[str] = collections.Counter()
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            states, trouble = killed(job, course, rng, number % 2 == 1, source, command)
            tally[_summary(states.values())] += 1
            failed += bool(trouble)
            for line in trouble:
                print(f"FAILED {name} {number} (--seed {seed}): {line}", flush=True)
        print(f"{name}: killed {count} times; files left: {dict(tally)}", flush=True)
    print(f"{failed} failed")
    return 1 if failed else 0


def _summary(states: Iterable[str]) -> str:
    """Return one word for the files of a job: the worst state, or what the whole ones are."""
    found = {*states}
    worst = next((state for state in FAILURES if state in found), "")
    return worst or ("mixed" if found >= {EARLIER, NEW} else EARLIER if EARLIER in found else NEW)


def measured(job: Job, source: Path, command: Sequence[str]) -> Course:
    """Return the course of a job that nobody kills. Raises RuntimeError when it does not succeed."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        sandbox = Path(folder)
        first = attempt(Trial(job.build, job.earlier), sandbox, GENEROUS, command=command, source=source)
        if first.code:
            raise RuntimeError(f"'{' '.join(job.earlier)}' failed: {first.stderr}")
        earlier = _read(sandbox, job)
        begin, changes = time.perf_counter(), 0
        process = start(Trial(job.build, job.words), sandbox, command=command, source=source)
        state = _state(sandbox / WORK)
        while process.poll() is None:
            state, changes = _next(sandbox / WORK, state, changes)
            time.sleep(PAUSE)
        end(process)
        if process.returncode:
            raise RuntimeError(f"'{' '.join(job.words)}' failed: {(sandbox / OUTPUT / 'stderr').read_text()}")
        return Course(earlier, _read(sandbox, job), time.perf_counter() - begin, changes)


def killed(
    job: Job, course: Course, rng: np.random.Generator, at_change: bool, source: Path, command: Sequence[str]
) -> tuple[dict[str, str], list[str]]:
    """Kill a job at a random moment, and run it again; return the state of every file, and what is wrong."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        sandbox = Path(folder)
        for name in (WORK, HOME, TMP, OUTSIDE, OUTPUT):
            (sandbox / name).mkdir()
        _restore(sandbox, job, course.earlier)
        inputs = {path.name: path.read_bytes() for path in (sandbox / WORK).iterdir() if path.is_file()}
        process = start(Trial(job.build, job.words), sandbox, command=command, source=source)
        moment = _wait(process, sandbox / WORK, course, rng, at_change)
        end(process)
        states = {name: _judge_file(sandbox / WORK / name, course, name) for name in job.files}
        wrong = (BROKEN,) if job.clears else FAILURES
        trouble = [f"killed {moment}: {name} is {state}" for name, state in states.items() if state in wrong]
        return states, trouble + _again(job, sandbox, moment, inputs, source, command)


def _wait(
    process: subprocess.Popen[bytes], work: Path, course: Course, rng: np.random.Generator, at_change: bool
) -> str:
    """Return when the moment has come, or the command has ended, and say which moment it was."""
    begin = time.perf_counter()
    if not at_change:
        moment = float(rng.uniform(0, course.seconds))
        while process.poll() is None and time.perf_counter() - begin < moment:
            time.sleep(PAUSE)
        return f"after {moment:.3f} s"
    number, more = int(rng.integers(1, max(course.changes, 1) + 1)), float(rng.uniform(0, 0.004))
    state, changes = _state(work), 0
    while process.poll() is None and changes < number:
        state, changes = _next(work, state, changes)
        time.sleep(PAUSE)
    time.sleep(more)
    return f"{1000 * more:.1f} ms after change {changes}"


def _state(work: Path) -> frozenset[tuple[str, int, int, int]]:
    """Return what lies in the folder and in its `run`: names, sizes, times and numbers of files."""
    found = set()
    for folder in (work, work / "run"):
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            continue
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            found.add((entry.path, info.st_size, info.st_mtime_ns, info.st_ino))
    return frozenset(found)


def _next(
    work: Path, state: frozenset[tuple[str, int, int, int]], changes: int
) -> tuple[frozenset[tuple[str, int, int, int]], int]:
    now = _state(work)
    return now, changes + (now != state)


def _read(sandbox: Path, job: Job) -> Files:
    return {name: (sandbox / WORK / name).read_bytes() for name in job.files}


def _restore(sandbox: Path, job: Job, files: Files) -> None:
    job.build(sandbox / WORK)
    for name, content in files.items():
        path = sandbox / WORK / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)


def _judge_file(path: Path, course: Course, name: str) -> str:
    if not path.exists():
        return GONE
    content = path.read_bytes()
    if content == course.earlier[name]:
        return EARLIER
    if content == course.new[name]:
        return NEW
    return OTHER if is_whole(path) else BROKEN


def is_whole(path: Path) -> bool:
    """Tell whether a file can be used: a model loads and runs, JSON parses, every array of an npz file is there."""
    try:
        if path.suffix == ".onnx":
            _run_model(path)
        elif path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".jsonl":  # written line by line: the last one may be on its way
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                json.loads(line)
        else:
            with np.load(path, allow_pickle=False) as arrays:
                for name in arrays.files:
                    arrays[name]
    except Exception:  # whatever numpy, onnx or the runtime makes of half a file
        return False
    return True


def _run_model(path: Path) -> None:
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feeds = {
        value.name: np.ones([size if isinstance(size, int) else 2 for size in value.shape], np.float32)
        for value in session.get_inputs()
    }
    session.run(None, feeds)


def _again(
    job: Job, sandbox: Path, moment: str, inputs: Files, source: Path, command: Sequence[str]
) -> list[str]:
    """Run the command to its end where it was killed; return what is wrong then."""
    names = {*inputs, *job.files, *job.keeps}
    process = start(Trial(job.build, job.words), sandbox, command=command, source=source)
    process.wait()
    end(process)
    where = f"run again after it was killed {moment}"
    if process.returncode:
        return [f"{where}: exit {process.returncode}: {(sandbox / OUTPUT / 'stderr').read_text()[-200:]!r}"]
    left = {
        path.relative_to(sandbox / WORK).as_posix() for path in (sandbox / WORK).rglob("*") if path.is_file()
    }
    trouble = [f"{where}: left {name}" for name in sorted(left - names)]
    trouble += [f"{where}: {name} is {BROKEN}" for name in job.files if not is_whole(sandbox / WORK / name)]
    for name, content in inputs.items():
        if name not in job.files and (sandbox / WORK / name).read_bytes() != content:
            trouble.append(f"{where}: {name} was changed")
    for name in (HOME, TMP, OUTSIDE):
        trouble += [f"{where}: left {path}" for path in sorted(p.name for p in (sandbox / name).iterdir())]
    return trouble

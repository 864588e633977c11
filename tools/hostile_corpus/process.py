"""One run of `onnx-oto`, watched: time, memory of all its processes, output, and what it did to the files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from hostile_corpus.case import Trial
from hostile_corpus.folder import listing
from hostile_corpus.judge import WORK, Limits, Seen

ROOT = Path(__file__).resolve().parents[2]
HOME, TMP, OUTSIDE, OUTPUT = "home", "tmp", "outside", "output"
PRODUCT = (sys.executable, "-m", "onnx_oto")
PAUSE = 0.05
MOST_OUTPUT = 8 * 2**20
RUNNING: set[int] = set()
"""Process groups under way: ended with the tool."""


def attempt(
    trial: Trial, sandbox: Path, limits: Limits, *, command: Sequence[str] = PRODUCT, source: Path = ROOT
) -> Seen:
    """Build the files of a trial in an empty sandbox, run the command there, return what it did.

    source: the folder that holds the onnx_oto to try. The command has a session of its own and is ended above the
    limits.
    """
    for name in (WORK, HOME, TMP, OUTSIDE, OUTPUT):
        (sandbox / name).mkdir()
    trial.build(sandbox / WORK)
    before = _listings(sandbox)
    begin = time.perf_counter()
    process = start(trial, sandbox, command=command, source=source)
    memory, stopped = _watch(process, begin, limits)
    seconds = time.perf_counter() - begin
    orphans = end(process) and not stopped
    return Seen(
        process.returncode,
        seconds,
        memory,
        _read(sandbox / OUTPUT / "stdout"),
        _read(sandbox / OUTPUT / "stderr"),
        before,
        _listings(sandbox),
        stopped,
        orphans,
    )


def start(
    trial: Trial, sandbox: Path, *, command: Sequence[str] = PRODUCT, source: Path = ROOT
) -> subprocess.Popen[bytes]:
    """Start the command of a trial whose files are there; `end` it afterwards."""
    words = [*command, *trial.words]
    if trial.file_limit is not None:  # the shell counts in blocks, which is near enough
        words = ["/bin/sh", "-c", 'ulimit -f "$0" && exec "$@"', str(trial.file_limit // 512), *words]
    home, tmp = str(sandbox / HOME), str(sandbox / TMP)
    with open(sandbox / OUTPUT / "stdout", "wb") as out, open(sandbox / OUTPUT / "stderr", "wb") as err:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            cwd=sandbox / WORK,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
                "HOME": home,
                "TMPDIR": tmp,
                "PYTHONPATH": os.pathsep.join((str(source.resolve()), os.environ.get("PYTHONPATH", ""))),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            start_new_session=True,
        )
    RUNNING.add(process.pid)
    return process


def end(process: subprocess.Popen[bytes]) -> bool:
    """End whatever is left of a command and return whether anything was."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
        left = True
    except (ProcessLookupError, PermissionError):
        left = False
    process.wait()
    RUNNING.discard(process.pid)
    return left


def end_all(number: int, frame: object) -> None:
    """Handle a signal: end what runs, and this process."""
    for group in tuple(RUNNING):
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    os._exit(128 + number)


def _watch(process: subprocess.Popen[bytes], begin: float, limits: Limits) -> tuple[int, str]:
    """Return the most memory the command took, and why it was ended before it came to its end ("": it was not)."""
    most = 0
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        most = max(most, _memory(watched))
        if most > limits.memory:
            end(process)
            return most, f"ended: more than {limits.memory / 2**20:.0f} MB"
        if time.perf_counter() - begin > limits.seconds:
            end(process)
            return most, f"ended: more than {limits.seconds:g} s"
        time.sleep(PAUSE)
    return most, ""


def _memory(process: psutil.Process) -> int:
    """Return the resident bytes of a process and all below it."""
    total = 0
    with suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += each.memory_info().rss
    return total


def _listings(sandbox: Path) -> dict[str, str]:
    return {
        f"{name}/{path}": print_
        for name in (WORK, HOME, TMP, OUTSIDE)
        for path, print_ in listing(sandbox / name).items()
    }


def _read(path: Path) -> str:
    with open(path, "rb") as file:
        return file.read(MOST_OUTPUT).decode("utf-8", errors="replace")

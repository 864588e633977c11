"""Processes that begin with the product loaded, where the system can fork: of a small model that is half the work.

The runtime is loaded by each of them: its threads would not outlive a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import multiprocessing.forkserver as forkserver
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

CAN_FORK = "fork" in multiprocessing.get_all_start_methods()
LOADED = ("onnx_oto.cli.commands", "onnx_oto.cli.models", "onnx_oto.cli.training", "onnx_oto.pipeline.train")


def load() -> None:
    """Load what every probe and every command needs, numba's types among it."""
    for name in LOADED:
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        from numba.core.registry import cpu_target

        cpu_target.target_context.refresh()


def prepare(root: Path) -> None:
    """Start what the processes of `process` are forked from: it has the product below `root` loaded, and no threads."""
    paths = (str(root), str(root / "tools"))
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.path[:0] = paths
    if CAN_FORK:
        multiprocessing.set_forkserver_preload(["trainable_table.loaded"])
        before = Path.cwd()
        os.chdir(root)  # the first place where a new interpreter looks
        forkserver.ensure_running()
        os.chdir(before)


def process(function: Callable[..., object], folder: Path, *arguments: Any) -> BaseProcess:
    """Return a process in a group of its own, not started yet; it prints to the files `out` and `err` of the folder."""
    context: Any = multiprocessing.get_context("forkserver" if CAN_FORK else "spawn")
    made: BaseProcess = context.Process(target=_alone, args=(function, folder, *arguments))
    return made


def end(number: int) -> None:
    """End a process of `process` at once, and all that it has started."""
    for kill in (os.killpg, os.kill):  # before it has a group of its own there is no such group
        with contextlib.suppress(ProcessLookupError):
            kill(number, signal.SIGKILL)


def command(arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    """Return what `onnx-oto ARGUMENTS` came to: forked from this process, or started where that cannot be."""
    if not CAN_FORK:
        started = [sys.executable, "-m", "onnx_oto", *arguments]
        return subprocess.run(started, capture_output=True, text=True, check=False)
    folder.mkdir(exist_ok=True)
    made = multiprocessing.get_context("fork").Process(target=_enter, args=(arguments, folder))
    made.start()
    made.join()
    assert made.exitcode is not None
    out, err = (printed(folder, name) for name in _STREAMS)
    return subprocess.CompletedProcess(arguments, made.exitcode, out, err)


def printed(folder: Path, name: str) -> str:
    """Return what a process has printed to `out` or `err`."""
    path = folder / name
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


_STREAMS = ("out", "err")


def _alone(function: Callable[..., object], folder: Path, *arguments: Any) -> None:
    if hasattr(os, "setsid"):
        os.setsid()
    _print_to(folder)
    function(*arguments)


def _enter(arguments: tuple[str, ...], folder: Path) -> None:
    """Do what the command line does, which ends with SystemExit."""
    from onnx_oto.cli import main

    _print_to(folder)
    sys.argv = ["onnx-oto", *arguments]
    main()


def _print_to(folder: Path) -> None:
    """Let the streams of this process, and of native code, lead to files of the folder."""
    for number, name in zip((1, 2), _STREAMS, strict=True):
        with (folder / name).open("wb") as file:
            os.dup2(file.fileno(), number)
        setattr(sys, f"std{name}", open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115

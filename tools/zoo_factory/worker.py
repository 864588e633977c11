"""Runs inside a framework's environment: lists a set, and makes models of it on request.

    python -m zoo_factory.worker list SET                     prints a JSON array of names
    python -m zoo_factory.worker serve SET OPTIONS TIMEOUT    answers each line `["name", "path"]` by a line of facts

`serve` imports the set once and forks for every model, so that a crash, a leak or a hang costs one model, and the
seconds that a framework takes to import are paid once. A set that must not be forked after its import imports its
framework inside `make`. Files are written atomically.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import ModuleType
from typing import TextIO

from zoo_factory.options import Options

Facts = dict[str, object]


def make(module: ModuleType, name: str, path: Path, options: Options) -> Facts:
    """Write the model `name` of the set to `path` and return the facts about it."""
    partial = path.with_name(path.name + ".partial")
    facts = dict(module.make(name, partial, options))
    _check(partial)
    os.replace(partial, path)
    return {"bytes": path.stat().st_size, **facts}


def _check(path: Path) -> None:
    import onnx

    onnx.checker.check_model(str(path))


def serve(set_name: str, options: Options, timeout: float, answers: TextIO) -> None:
    """Answer requests on standard input until it ends."""
    module = _module(set_name)
    for line in sys.stdin:
        name, path = json.loads(line)
        begin = time.perf_counter()
        facts = _in_child(module, name, Path(path), options, timeout)
        facts["seconds"] = round(time.perf_counter() - begin, 1)
        answers.write(json.dumps({"model": name, **facts}) + "\n")
        answers.flush()


def _module(set_name: str) -> ModuleType:
    return importlib.import_module(f"zoo_factory.set_{set_name.replace('-', '_')}")


def _in_child(module: ModuleType, name: str, path: Path, options: Options, timeout: float) -> Facts:
    """Return the facts that a forked child finds, or its error; the child's process group is ended."""
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        note = Path(folder, "facts.json")
        child = os.fork()
        if child == 0:
            gc.freeze()  # what waits for the collector in the parent may own threads, which are not here
            os.setsid()
            _child(module, name, path, options, note)
        code = _wait(child, timeout)
        path.with_name(path.name + ".partial").unlink(missing_ok=True)
        if note.exists():
            return dict(json.loads(note.read_text(encoding="utf-8")))
    return {"error": f"not finished in {timeout:g} s" if code is None else f"ended by exit code {code}"}


def _child(module: ModuleType, name: str, path: Path, options: Options, note: Path) -> None:
    facts: Facts
    try:
        facts = make(module, name, path, options)
    except BaseException as error:  # whatever the frameworks raise is this model's failure
        traceback.print_exc()
        facts = {"error": " | ".join(f"{type(error).__name__}: {error}".split("\n"))[-600:]}
    note.with_suffix(".partial").write_text(json.dumps(facts), encoding="utf-8")
    os.replace(note.with_suffix(".partial"), note)
    os._exit(0)


def _wait(child: int, timeout: float) -> int | None:
    """Return the exit code of a child, None after killing it because the time is over."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def main(arguments: list[str]) -> None:
    """Carry out one command (see the module). Frameworks write where they like: answers have a stream of their own."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    verb, set_name, *rest = arguments
    if verb == "list":
        answers.write(json.dumps(_module(set_name).names()) + "\n")
        answers.close()
        return
    options, timeout = rest
    serve(set_name, Options(**json.loads(options)), float(timeout), answers)


if __name__ == "__main__":
    main(sys.argv[1:])

"""Processes that run `onnx-oto` as users start it, but for what is loaded: forks of one that has loaded it all.

Each is a process of its own, with its own streams, working directory, signals and ending; only the imports, which take
longer than what most tests ask for, are done once. What a command loads, what happens meanwhile, and starts in another
environment need a process from the ground up: `cold`, which is also what there is where nothing forks.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

CAN_FORK = hasattr(os, "fork") and sys.platform == "linux"
PATIENCE = 900.0
ROOT = Path(__file__).parents[2]
_NUMBER = struct.Struct("i")


def _seen(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the command line sees of an environment."""
    own = {key: value for key, value in environment.items() if not key.startswith("PYTEST_")}
    return {"ORT_DISABLE_TELEMETRY": "1", **own}


HERE = _seen(os.environ)
"""What everything is loaded in."""


def start(
    *arguments: Any, code: str = "", at: Path | None = None, environment: Mapping[str, str] | None = None
) -> Process:
    """Start `onnx-oto`, or `code` in its place, and return what stands for the process, its output in pipes."""
    env = os.environ if environment is None else environment
    begin = _warm().start if CAN_FORK and _seen(env) == HERE else _cold
    return begin([*map(str, arguments)], code, Path.cwd() if at is None else at, env)


def run(*arguments: Any, **how: Any) -> subprocess.CompletedProcess[str]:
    """Return what came of `start` with these arguments."""
    return _outcome(arguments, start(*arguments, **how))


def cold(*arguments: Any, code: str = "", at: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Return what came of `onnx-oto`, or of `code` in its place, in an interpreter of its own."""
    begun = _cold([*map(str, arguments)], code, Path.cwd() if at is None else at, os.environ)
    return _outcome(arguments, begun)


def _outcome(arguments: Sequence[Any], begun: Process) -> subprocess.CompletedProcess[str]:
    try:
        out, err = begun.communicate(timeout=PATIENCE)
    except BaseException:
        begun.kill()
        raise
    assert begun.returncode is not None
    return subprocess.CompletedProcess([*arguments], begun.returncode, out, err)


def _cold(
    arguments: Sequence[str], code: str, at: Path, environment: Mapping[str, str]
) -> subprocess.Popen[str]:
    how = ["-c", code] if code else ["-m", "onnx_oto"]
    pipe = subprocess.PIPE
    command = [sys.executable, *how, *arguments]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=at, env={**environment})


class Started:
    """A fork, as far as tests ask for what `subprocess.Popen` has."""

    def __init__(self, told: int, out: int, err: int) -> None:
        self.stdout, self.stderr = open(out), open(err)  # noqa: SIM115
        self.returncode: int | None = None
        self._told = os.fdopen(told, "rb", buffering=0)
        self.pid = self._hear()

    def wait(self, timeout: float = PATIENCE) -> int:
        """Return the exit code, negative for a signal that ended it."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("onnx-oto", timeout)
            self.returncode = self._hear()
            self._told.close()
        return self.returncode

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """Return the rest of what it wrote, when it has ended and nothing else holds its streams."""
        texts = {}

        def read(stream: Any) -> None:
            with stream:
                texts[stream] = stream.read()

        readers = [threading.Thread(target=read, args=[each], daemon=True) for each in self._streams()]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        return texts[self.stdout], texts[self.stderr]

    def send_signal(self, number: int) -> None:
        """Send a signal, if it has not ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ends, and its parent has not told yet
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def _streams(self) -> tuple[Any, Any]:
        return self.stdout, self.stderr

    def _hear(self) -> int:
        (number,) = _NUMBER.unpack(self._told.read(_NUMBER.size))
        return int(number)


Process = Started | subprocess.Popen[str]
"""What is started, whichever way."""


class Warm:
    """The process that has loaded everything, and does nothing but fork."""

    def __init__(self) -> None:
        self._door, inner = socket.socketpair()
        code = "import sys; from tests.cli.warm import serve; serve(int(sys.argv.pop(1)))"
        path = os.pathsep.join([str(ROOT), *filter(None, [HERE.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, str(inner.fileno())],
            pass_fds=[inner.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env={**HERE, "PYTHONPATH": path},
        )  # fmt: skip
        inner.close()
        atexit.register(self.close)

    def start(self, arguments: Sequence[str], code: str, at: Path, environment: Mapping[str, str]) -> Started:
        """Fork, to be `onnx-oto` with these arguments, or `code`, in a folder; the environment is the one loaded in."""
        ours, theirs = zip(*(os.pipe() for _ in range(3)), strict=True)
        asked = json.dumps({"arguments": arguments, "code": code, "folder": str(at)}).encode()
        socket.send_fds(self._door, [_NUMBER.pack(len(asked))], theirs)
        self._door.sendall(asked)
        for number in theirs:
            os.close(number)
        return Started(*ours)

    def close(self) -> None:
        """End it."""
        self._door.close()
        self._process.wait()


_warm = cache(Warm)


def serve(number: int) -> None:
    """Load everything and fork for each that is asked for, as long as somebody may ask."""
    atexit.register(_end)  # the first, so it comes last
    door = socket.socket(fileno=number)
    _load()
    gc.freeze()  # or the first collection in a fork copies all of it
    while True:
        size, (*streams,), _, _ = socket.recv_fds(door, _NUMBER.size, 3)
        if not size:
            return
        asked = json.loads(_receive(door, *_NUMBER.unpack(size)))
        if not os.fork():
            door.close()
            if _is_child(*streams):
                os.chdir(asked["folder"])
                _become(asked["arguments"], asked["code"])
            return
        for stream in streams:
            os.close(stream)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _load() -> None:
    import onnx_oto
    from onnx_oto.errors import RuntimeMissingError
    from onnx_oto.reporting.rendering import environment

    names = [each.name for each in pkgutil.walk_packages(onnx_oto.__path__, "onnx_oto.")]
    names.remove("onnx_oto.__main__")
    for name in (*names, "onnxruntime", "pygraphviz"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(RuntimeMissingError):
        for name in environment().list_templates():
            environment().get_template(name)
    assert threading.active_count() == 1, "a fork would lack a thread"


def _receive(door: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += door.recv(size - len(found))
    return found


def _is_child(told: int, out: int, err: int) -> bool:
    """Fork once more: the child gets the streams, the other tells how it ends."""
    child = os.fork()
    if not child:
        for number, stream in ((1, out), (2, err)):
            os.dup2(stream, number)
        for stream in (told, out, err):
            os.close(stream)
        return True
    for stream in (out, err):
        os.close(stream)
    os.write(told, _NUMBER.pack(child))
    os.write(told, _NUMBER.pack(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
    os._exit(0)


def _become(arguments: list[str], code: str) -> None:
    sys.argv[1:] = arguments
    try:
        if code:
            exec(compile(code, "<string>", "exec"), vars(sys.modules["__main__"]))
        else:
            runpy.run_module("onnx_oto", run_name="__main__", alter_sys=True)
    except SystemExit as ending:
        if isinstance(ending.code, int):
            _CODES.append(ending.code)
        raise


_CODES: list[int] = []


def _end() -> None:
    """End at once when all that was registered is done: to take apart what was loaded takes as long as to load it."""
    if _CODES:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_CODES[0])

"""The process that models run in, seen from here: started once, asked for one job after the other, watched.

Its resident memory and the time of a job are polled. Limits of the system (RLIMIT_AS) would count address space that
is never used, and stop healthy sessions.
"""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO, Any, BinaryIO, ParamSpec, TypeVar, cast

import psutil

from onnx_oto.errors import CrashedError, LimitError, RuntimeMissingError
from onnx_oto.runtime.child import Failure
from onnx_oto.runtime.limits import MOST_IDLE_MEMORY, Allowance
from onnx_oto.runtime.messages import receive, send

P = ParamSpec("P")
Result = TypeVar("Result")

_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from onnx_oto.runtime.child import main; main()"
_TELLS = {
    "SIGFPE": ", as an integer division by zero does",
    "SIGKILL": ", sent by the system or a person, perhaps because memory ran out",
}
_POLL = 0.02  # seconds: memory grows by some 50 MB meanwhile at most
_STARTING = Allowance(math.inf, 300.0, by_the_clock=True)
"""What loading the runtime may take, where disks are slow and processors busy."""
_NEVER_UP = (
    f"the process that models are run in is not up after {_STARTING.seconds:.0f} s: see `onnx-oto doctor`"
)
_IDLE = 50  # polls without a job after which the watch waits for one


class JobFailed(Exception):
    """What native code or a library raised in the process; the text is its own."""


class Worker:
    """One process. It dies with this one, however this one ends."""

    def __init__(self) -> None:
        if not sys.executable:
            raise RuntimeMissingError("Python does not know its own executable, which models are run by")
        self._owner = os.getpid()
        self._held: dict[int, int] = {}
        self._forgotten: deque[int] = deque()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *(path for path in sys.path if isinstance(path, str))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("ONNX_OTO_DEBUG") else subprocess.DEVNULL,
                env={"ORT_DISABLE_TELEMETRY": "1", **os.environ},
            )
        except OSError as error:
            raise RuntimeMissingError(
                f"'{sys.executable}', which models are run by, cannot be started: {error.strerror or error}"
            ) from None
        self._lock = threading.Lock()
        self._is_up = False
        self._job: tuple[float, Allowance] | None = None
        self._wanted = threading.Event()
        self._stopped_for = ""
        threading.Thread(target=self._watch, daemon=True, name="onnx-oto watch").start()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked; never after a fork, as its pipes belong to the parent."""
        return self._owner == os.getpid() and self._process.poll() is None

    @property
    def is_bloated(self) -> bool:
        """Whether it holds no session, and memory all the same: what allocators keep of earlier jobs."""
        if self._held.keys() - set(self._forgotten):
            return False
        try:
            return psutil.Process(self._process.pid).memory_info().rss > MOST_IDLE_MEMORY
        except psutil.Error:
            return False

    @property
    def held_bytes(self) -> int:
        """The bytes of all serialised models that are open in it."""
        return sum(self._held.values())

    def hold(self, number: int, size: int) -> None:
        """Count a session of a model of `size` bytes."""
        self._held[number] = size

    def forget(self, number: int) -> None:
        """Let a session be closed, by the next job."""
        self._forgotten.append(number)

    def to_forget(self) -> list[int]:
        """Return the sessions that nobody holds any more, to be closed now."""
        numbers = []
        while self._forgotten:
            numbers.append(self._forgotten.popleft())
            self._held.pop(numbers[-1], None)
        return numbers

    def call(
        self, allowed: Allowance, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Result:
        """Return what a function of this package gives in the process.

        Raises what it raises if that is ours, else JobFailed; LimitError when it takes more than allowed, CrashedError
        when it brings the process down.
        """
        assert not kwargs, "jobs take their arguments by position"
        with self._lock:
            try:
                if not self._is_up:  # to load the runtime is no part of a job
                    self._begin(_STARTING)
                    receive(cast(BinaryIO, self._process.stdout))
                    self._is_up = True
                self._begin(allowed)
                send(cast(BinaryIO, self._process.stdin), (function, args))
                ok, value = receive(cast(BinaryIO, self._process.stdout))
            except (EOFError, OSError):
                raise self._death() from None
            except BaseException:  # interrupted: nobody knows what comes through the pipe next
                self.kill()
                raise
            finally:
                self._job = None
        if ok:
            return cast(Result, value)
        raise JobFailed(value.text or value.kind) if isinstance(value, Failure) else value

    def _begin(self, allowed: Allowance) -> None:
        """Let the watch see a job."""
        self._job = time.monotonic(), allowed
        if not self._wanted.is_set():
            self._wanted.set()

    def kill(self) -> None:
        """End the process."""
        end_process(self._process)

    def _watch(self) -> None:
        """End the process when a job takes more than it may."""
        try:
            seen = psutil.Process(self._process.pid)
            idle = 0
            known: tuple[float, Allowance] | None = None
            worked = 0.0
            while self._process.poll() is None:
                if (
                    idle > _IDLE
                ):  # nothing wakes this thread for every job: that would cost as much as a small one
                    self._wanted.clear()
                    if self._job is None:
                        self._wanted.wait()
                time.sleep(_POLL)
                job = self._job
                idle = 0 if job else idle + 1
                if job is None:
                    continue
                begin, allowed = job
                if job is not known:
                    known, worked = job, _worked(seen)
                elapsed = time.monotonic() - begin
                if elapsed > allowed.seconds and allowed.is_over(elapsed, _worked(seen) - worked):
                    self._stopped_for = _too_long(allowed) if self._is_up else _NEVER_UP
                elif seen.memory_info().rss > allowed.memory:
                    self._stopped_for = _too_large(allowed)
                if self._stopped_for:
                    self._process.kill()
                    return
        except psutil.Error:  # it is gone
            return

    def _death(self) -> CrashedError | LimitError:
        code = self._process.wait()
        self.kill()
        if self._stopped_for:
            return LimitError(self._stopped_for)
        return CrashedError(f"running the model brings the runtime down ({cause(code)})")


def _worked(process: psutil.Process) -> float:
    """Return the seconds of processors that a process has had."""
    times = process.cpu_times()
    return float(times.user + times.system)


def end_process(process: subprocess.Popen[Any]) -> None:
    """Kill a process, wait until it is gone, and close its pipes."""
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            cast(IO[Any], stream).close()


_shared: Worker | None = None


def shared() -> Worker:
    """Return the worker of this process, started when there is none."""
    global _shared
    if _shared is not None and _shared.is_alive and _shared.is_bloated:
        _shared.kill()
    if _shared is None or not _shared.is_alive:
        _shared = Worker()
    return _shared


def start_early() -> None:
    """Start the worker, so that it loads the runtime while this process reads a model."""
    shared()


@atexit.register
def end_shared() -> None:
    """End the worker of this process, if there is one."""
    if _shared is not None and _shared.is_alive:
        _shared.kill()


def _too_long(allowed: Allowance) -> str:
    return (
        f"running the model takes longer than {allowed.seconds:.3g} s: allow more with --limit-time SECONDS, or give "
        "smaller inputs with --input-shape NAME:..."
    )


def _too_large(allowed: Allowance) -> str:
    return (
        f"running the model takes more than {allowed.memory / 1e9:.1f} GB of memory: allow more with "
        "--limit-memory (such as 8GB), or give smaller inputs with --input-shape NAME:..."
    )


def cause(code: int) -> str:
    """Return what ended a process: the name of a signal and what it tells, or an exit code."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
        return name + _TELLS.get(name, "")
    return f"exit code {code:#x}" if code > 255 else f"exit code {code}"

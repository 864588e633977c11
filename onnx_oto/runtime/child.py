"""The process that models run in: it does one job after the other until its parent is gone.

A job is a function of this package with its arguments; the reply is its result or what it raised. Before the first job
it says that it is up. Signals are the
parent's business. Output of native code goes nowhere.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any, BinaryIO, NamedTuple

import psutil

from onnx_oto.errors import OtoError
from onnx_oto.runtime.messages import receive, send

_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP")
_FIRST_VICTIM = "1000"
_PULSE = 0.5  # seconds


class Failure(NamedTuple):
    """What a job raised that is no error of ours: the name of its type and its text."""

    kind: str
    text: str


def main() -> None:
    """Serve until standard input ends."""
    for name in _IGNORED:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    _offer_to_the_system()
    requests, replies = _take_pipes()
    threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
    _load_ahead()
    with contextlib.suppress(EOFError, BrokenPipeError):
        send(replies, None)  # it is up
        while True:
            function, arguments = receive(requests)
            send(replies, _done(function, arguments))


def _done(function: Any, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    try:
        return True, function(*arguments)
    except OtoError as error:
        return False, error
    except Exception as error:
        return False, Failure(type(error).__name__, str(error))


def _end_with(parent: int) -> None:
    """End when the parent is gone, whatever is running."""
    while os.getppid() == parent and (os.name != "nt" or psutil.pid_exists(parent)):
        time.sleep(_PULSE)
    os._exit(0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the streams of requests and replies; nobody else reads standard input or writes to standard output."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)
    return requests, replies


def _load_ahead() -> None:
    """Load the runtime while the parent is still reading the model."""
    with contextlib.suppress(Exception):  # told when somebody asks for it
        import onnxruntime  # noqa: F401


def _offer_to_the_system() -> None:
    """Where memory runs out all the same, the system should take this process and not its parent."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(_FIRST_VICTIM)

"""The process that models run in: it does one job after the other until its parent is gone.

A job is a function of this package with its arguments; the reply is its result or what it raised. Signals are the
parent's business. Output of native code goes nowhere.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
from typing import Any, BinaryIO, NamedTuple

from onnx_oto.errors import OtoError
from onnx_oto.runtime.messages import opened, sealed, send

_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP")
_FIRST_VICTIM = "1000"


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
    jobs: queue.SimpleQueue[list[bytearray]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, jobs), daemon=True).start()
    _load_ahead()
    while True:
        send(replies, _done(jobs.get()))


def _done(job: list[bytearray]) -> tuple[bool, Any]:
    try:
        function, arguments = opened(job)
        return True, function(*arguments)
    except OtoError as error:
        return False, error
    except Exception as error:
        return False, Failure(type(error).__name__, str(error))


def _listen(requests: BinaryIO, jobs: queue.SimpleQueue[list[bytearray]]) -> None:
    """Hand on requests, unopened: two threads must not import. When the parent is gone, end, whatever is running."""
    try:
        while True:
            jobs.put(sealed(requests))
    except EOFError:
        pass
    finally:
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

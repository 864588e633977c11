"""The process of another interpreter that measures, seen from here: started, asked, ended."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any, cast

from onnx_oto.errors import CrashedError, LimitError, OtoError, RuntimeMissingError, one_line
from onnx_oto.runtime.worker import cause, end_process

SCRIPT = Path(__file__).with_name("bench_child.py")
START_SECONDS = 60.0
"""What Python may take to start and to import the runtime, from a cold disk too."""


class Process:
    """One process of the interpreter `python` (None: the one that runs this) that answers requests in turn.

    It ends with `end`, and when this process does, however that ends. Raises RuntimeMissingError where there is nothing
    to start.
    """

    def __init__(self, python: str | os.PathLike[str] | None) -> None:
        self.python = os.fspath(python) if python is not None else sys.executable
        self.is_own = python is None
        if not self.python:
            raise RuntimeMissingError("Python does not know its own executable, which models are run by")
        self._answered = self._is_late = False
        try:
            self._process = subprocess.Popen(
                [self.python, str(SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if os.environ.get("ONNX_OTO_DEBUG") else subprocess.DEVNULL,
                encoding="ascii",
                errors="replace",
            )
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or error
            raise RuntimeMissingError(
                f"'{self.python}', which is to serve models, cannot be started ({said}): give the path of a Python"
            ) from None

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], *, seconds: float) -> dict[str, Any]:
        """Return the answer to a request, {"done": ...} or {"error": ...}.

        Raises LimitError when it takes longer than `seconds`, CrashedError when it brings the process down, and
        RuntimeMissingError when the process never was a Python that can do this. It is not alive then.
        """
        alarm = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._stop_late)
        alarm.daemon = True
        alarm.start()
        try:
            with contextlib.suppress(BrokenPipeError):
                self._pipe("stdin").write(json.dumps(request) + "\n")
                self._pipe("stdin").flush()
            for line in self._pipe("stdout"):
                answer = _parsed(line)
                if answer is not None:
                    self._answered = True
                    return answer
        except BaseException:  # interrupted: nobody knows what comes through the pipe next
            self.kill()
            raise
        finally:
            alarm.cancel()
        raise self._death(seconds)

    def end(self) -> None:
        """End the process; when it is done with a job it goes by itself, else it is killed."""
        with contextlib.suppress(OSError, ValueError):
            self._pipe("stdin").write('{"do": "quit"}\n')
            self._pipe("stdin").close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1.0)
        self.kill()

    def kill(self) -> None:
        """End the process at once."""
        end_process(self._process)

    def _pipe(self, name: str) -> IO[str]:
        return cast(IO[str], getattr(self._process, name))

    def _stop_late(self) -> None:
        self._is_late = True
        with contextlib.suppress(OSError):
            self._process.kill()

    def _death(self, seconds: float) -> OtoError:
        with contextlib.suppress(subprocess.TimeoutExpired):  # who closes its output ends soon, or never
            self._process.wait(timeout=1.0)
        self.kill()
        code = self._process.returncode
        if self._is_late and self._answered:
            return LimitError(
                f"measuring on '{self.python}' takes longer than {seconds:.3g} s: allow more with --limit-time "
                "SECONDS, or give smaller inputs"
            )
        if not self._answered:
            did = f"did not answer for {seconds:.3g} s" if self._is_late else f"ended with {cause(code)}"
            return RuntimeMissingError(
                f"'{self.python}', which is to serve models, does not answer as Python 3.9 or newer does: it "
                f"{did}. Give the path of such a Python"
            )
        return CrashedError(f"measuring brings the runtime of '{self.python}' down ({cause(code)})")


def _parsed(line: str) -> dict[str, Any] | None:
    """Return the answer in a line, None for what somebody else printed: a wrapper of Python, or its start-up files."""
    with contextlib.suppress(ValueError):
        answer = json.loads(line)
        if isinstance(answer, dict) and ("done" in answer or "error" in answer):
            return answer
    return None


def unanswerable(process: Process, answer: dict[str, Any]) -> OtoError:
    """Return the error that {"error": "missing" | "broken", "package": ...} is, with the command that mends it."""
    package = answer["package"]
    command = f"{process.python} -m pip install"
    if answer["error"] == "broken":
        said = one_line(RuntimeError(answer["text"]))
        return RuntimeMissingError(
            f"{package} is installed for '{process.python}' but does not load ({said}): "
            f"run `{command} --force-reinstall --no-deps {package}`"
        )
    if process.is_own and package == "onnxruntime":
        return RuntimeMissingError("no ONNX Runtime is installed: run `pip install 'onnx-oto[cpu]'`")
    return RuntimeMissingError(f"'{process.python}' has no {package}: run `{command} {package}`")

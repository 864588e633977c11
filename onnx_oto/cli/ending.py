"""How the command line ends: what went wrong on stderr in one line, under --json as an object too, and a code."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import NamedTuple, NoReturn

from onnx_oto.cli.streams import PROGRESS, RESULTS, ReaderGone
from onnx_oto.cli.text import shown
from onnx_oto.errors import RuntimeMissingError
from onnx_oto.signals import Interrupted

INTERRUPTED = "Interrupted"


class Trouble(NamedTuple):
    """Why the command line ends without a result. page: what is said on stderr instead of the message, in lines."""

    code: int
    kind: str
    message: str
    page: str = ""

    @staticmethod
    def of_signal(number: int, message: str = "interrupted") -> Trouble:
        """Return what is said after a signal."""
        return Trouble(Interrupted(number).exit_code, INTERRUPTED, message)

    @staticmethod
    def of_import(error: ImportError) -> Trouble:
        """Return what is said of a package that is missing or broken."""
        message = f"a package does not load ({error}): run `pip install --force-reinstall 'onnx-oto[cpu]'`"
        return Trouble(RuntimeMissingError.exit_code, RuntimeMissingError.__name__, message)

    def report(self, *, as_json: bool) -> None:
        """Say it, as well as the streams take it; no object follows a result that has begun to come out."""
        line = self.message if self.kind == INTERRUPTED else f"error: {self.message}"
        PROGRESS.muted = False
        PROGRESS.write("\n".join(map(shown, self.page.splitlines() or [line])) + "\n")
        PROGRESS.flush()
        if as_json and not RESULTS.used:
            error = {"code": self.code, "kind": self.kind, "message": self.message}
            with contextlib.suppress(OSError, ReaderGone):  # the line on stderr has said it
                RESULTS.write(json.dumps({"schema": 1, "error": error}, indent=1) + "\n")
                RESULTS.flush()


def leave_at_once(code: int) -> NoReturn:
    """End the process and its worker, without waiting for threads or what the interpreter does at its end."""
    worker = sys.modules.get(
        "onnx_oto.runtime.worker"
    )  # which some commands do not load, or not yet to its end
    end = getattr(worker, "end_shared", None)
    if end is not None:
        end()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):
            stream.flush()
    os._exit(code)

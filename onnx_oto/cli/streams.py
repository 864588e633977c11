"""stdout and stderr of the process: ours alone, and whole whatever stands at their other end."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO


class ReaderGone(Exception):
    """Whoever reads stdout has seen enough: no error."""


def take_over(*, debug: bool) -> None:
    """Keep the streams for what we print ourselves; with `debug`, let through what libraries print.

    Native libraries write to the file descriptors 1 and 2 as they like, so these lead nowhere, and `sys.stdout` and
    `sys.stderr` go on elsewhere. A closed descriptor is opened, or the next file would get its number and whatever
    is printed. Python's warnings are shown if someone asked for them (-W, PYTHONWARNINGS). Characters that an
    encoding does not have are written as escapes.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if not debug:
        sys.stdout, sys.stderr = _elsewhere(sys.stdout), _elsewhere(sys.stderr)
        threading.excepthook = sys.unraisablehook = _say_nothing
        if not sys.warnoptions:
            warnings.showwarning = _say_nothing
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _elsewhere(stream: TextIO) -> TextIO:
    """Return a stream to where this one leads, and let its descriptor lead nowhere."""
    if stream is None:  # its descriptor was closed
        return stream
    stream.flush()
    copy = os.dup(stream.fileno())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
    return open(copy, "w", encoding=stream.encoding, buffering=1 if stream.isatty() else -1)


def _say_nothing(*_: Any, **__: Any) -> None:
    pass


@dataclass
class Stream:
    """What `sys.stdout` or `sys.stderr` is at the moment; when it takes no more, the rest goes nowhere.

    lost: gets the error. used: whether anything was written. muted: whether nothing is, because nobody wants it.
    """

    name: str
    lost: Callable[[OSError], None]
    used: bool = False
    muted: bool = False

    @property
    def encoding(self) -> str:
        return self._file.encoding if self._file else "utf-8"

    def isatty(self) -> bool:
        return self._file is not None and not self.muted and self._file.isatty()

    def fileno(self) -> int:
        return self._file.fileno() if self._file else -1

    def write(self, text: str) -> int:
        if not self.muted:
            self.used = True
            self._try(lambda file: file.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(lambda file: file.flush())

    @property
    def _file(self) -> TextIO | None:
        file: TextIO | None = getattr(sys, self.name)
        return file

    def _try(self, act: Callable[[TextIO], object]) -> None:
        file = self._file
        if file is None:
            return
        try:
            act(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, file.fileno())
                os.close(null)
            self.lost(error)


def _results_lost(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise ReaderGone from None
    raise error


RESULTS = Stream("stdout", _results_lost)
"""A result that is lost is an error."""
PROGRESS = Stream("stderr", _say_nothing)
"""Work goes on when nobody listens."""

"""Every error this package raises on purpose.

    OtoError                 1   ours: a defect of onnx-oto itself
    ├── UsageError           2   arguments that contradict each other
    ├── ModelError           3   invalid or unsafe model
    ├── UnsupportedError     4   a valid model that cannot be handled, or has nothing to prune
    ├── CrashedError         4   running the model brought the process down that runs it
    ├── LimitError           4   running the model takes more memory or time than is allowed
    ├── DataError            5   data that does not fit the model
    ├── DivergedError        6   the loss or a parameter is not finite any more
    ├── RuntimeMissingError  7   the environment lacks something, or has it twice
    ├── PeersError           7   the processes of a run are not alike, or one was lost
    └── StorageError         8   a file cannot be read or written

The number is the exit code of the command line. A message names the thing, shows the value and says what to do.
"""

from __future__ import annotations

import re
from typing import ClassVar


class OtoError(Exception):
    """Base of all errors; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 1


class UsageError(OtoError):
    """Arguments that contradict each other."""

    exit_code: ClassVar[int] = 2


class ModelError(OtoError):
    """The model file is invalid or unsafe to load."""

    exit_code: ClassVar[int] = 3


class UnsupportedError(OtoError):
    """The model is valid, but what was asked cannot be done with it."""

    exit_code: ClassVar[int] = 4


class CrashedError(OtoError):
    """Running the model brought the process down that models run in."""

    exit_code: ClassVar[int] = 4


class LimitError(OtoError):
    """Running the model takes more memory or time than is allowed."""

    exit_code: ClassVar[int] = 4


class DataError(OtoError):
    """The data do not fit the model; the message names the sample."""

    exit_code: ClassVar[int] = 5


class DivergedError(OtoError):
    """The loss or a parameter stopped being finite."""

    exit_code: ClassVar[int] = 6


class RuntimeMissingError(OtoError):
    """The environment lacks something (or has it twice); the message carries the mending command."""

    exit_code: ClassVar[int] = 7


class PeersError(OtoError):
    """The processes that train together are not alike; the message says which one, and in what."""

    exit_code: ClassVar[int] = 7


class StorageError(OtoError):
    """A file could not be read or written."""

    exit_code: ClassVar[int] = 8


def one_line(error: BaseException) -> str:
    """Return what an error says in one line, its type if it says nothing."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def first_lines(error: BaseException) -> str:
    """Return a C++ error message as one short line, without source locations."""
    text = re.sub(r"(?<!\S)\S*\.(?:cc|cpp|h):\d+:?\s*\S*:", "", str(error)[:10_000])
    text = text.split("==> Context:")[0]
    return " ".join(text.split())[:400] or type(error).__name__

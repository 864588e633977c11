"""The kinds of data, each with how it is known and opened. A new one is a file of its own and an entry here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from onnx_oto.data import npz
from onnx_oto.data.source import Opening
from onnx_oto.errors import DataError, StorageError


@dataclass(frozen=True)
class Opener:
    """text: what the data are, for help and messages. takes: whether a path is of this kind. open: headers only."""

    text: str
    takes: Callable[[Path], bool]
    open: Callable[[Path], Opening]


OPENERS: dict[str, Opener] = {
    "npz": Opener(npz.TEXT, npz.takes, npz.open_npz),
}
"""By name. They are asked in this order."""


def open_data(source: str | os.PathLike[str] | Opening) -> Opening:
    """Return what is known of the data at a path; no values are read. What is open already is returned as it is.

    Raises StorageError when it cannot be read, DataError when it is damaged or of no known kind.
    """
    if not isinstance(source, str | os.PathLike):
        return source
    path = Path(source)
    if not os.path.lexists(path):
        raise StorageError(f"cannot read '{path}': No such file or directory")
    for opener in OPENERS.values():
        if opener.takes(path):
            return opener.open(path)
    known = "; ".join(opener.text for opener in OPENERS.values())
    raise DataError(f"'{path}' is no data that can be read: give {known}")

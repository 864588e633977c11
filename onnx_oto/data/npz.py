"""Training, validation and test data in an npz file.

Keys: `x_train`, `y_train`, `x_test`, `y_test`. A model with several inputs has one pair per input instead
of x_train and x_test: `x_train__NAME`, `x_test__NAME`; so has a loss with several targets: `y_train__NAME`. The
first axis of every array counts the samples. `y_*` may be missing when the loss needs no target. `x_val`, `y_val` are
validation samples, if there are any; without `x_test` a share of the training samples is set apart to test. `w_train`
is what training samples count for in the loss.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from onnx_oto.data.archive import read_arrays, read_headers
from onnx_oto.data.dataset import Tables
from onnx_oto.data.deferred import Deferred, Unread, alike
from onnx_oto.data.fit import Stored
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET
from onnx_oto.data.table import Table
from onnx_oto.data.unpacking import Unpacked
from onnx_oto.errors import DataError, StorageError
from onnx_oto.model.files.loading import open_regular

Array = npt.NDArray[Any]

SPLITS = ("train", "val", "test")
WEIGHTS = "w_train"
EXPECTED = "expected x_train, y_train, x_test, y_test (or x_train__NAME and x_test__NAME per model input)"
TEXT = "npz file with x_train, y_train, x_test, y_test"


def takes(path: Path) -> bool:
    """Say whether this is an npz file, by its name or its first bytes."""
    if path.suffix.lower() == ".npz":
        return True
    try:
        with open_regular(path) as file:
            return zipfile.is_zipfile(file)
    except (OSError, StorageError):
        return False


def open_npz(path: str | os.PathLike[str], reading: Reading = Reading()) -> Deferred:
    """Return what the headers of an npz file say; large arrays stay in the file, or are unpacked into their own.

    Raises StorageError when it cannot be read, and DataError naming the key for anything else: damaged or
    foreign file, missing or unknown keys, arrays that are empty, hold objects or text, or disagree in
    length or shape.
    """
    unpack = Unpacked(reading.cache, (Path(path),))

    def read() -> Tables:
        def judged(blanks: Mapping[str, Array]) -> Iterable[str]:
            if not alike(tables_of(blanks, reading), opened):
                raise DataError("it was changed after it was opened: start again")
            return blanks

        return tables_of(read_arrays(path, judged, map_large=True, unpack=unpack), reading)

    blanks = {key: Unread(blank.shape, blank.dtype) for key, blank in read_headers(path).items()}
    try:
        opened = tables_of(blanks, reading)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}") from None
    return Deferred(opened, read)


def tables_of(arrays: Mapping[str, Stored], reading: Reading) -> Tables:
    """Return columns by their keys, x_train and so on, as the splits that they belong to. Raises DataError."""
    if not arrays:
        raise DataError(f"it holds no arrays: {EXPECTED}")
    used: set[str] = set()
    found: dict[str, Table | None] = {}
    for split in SPLITS:
        x, y = (_columns(arrays, f"{letter}_{split}") for letter in "xy")
        for letter, columns in (("x", x), ("y", y)):
            used |= {f"{letter}_{split}{'__' if name else ''}{name}" for name in columns}
        if not x and (y or split == "train"):
            held = ", ".join(sorted(arrays))
            raise DataError(f"'x_{split}' is missing, the file holds {held}: {EXPECTED}")
        found[split] = (
            Table(split, x, _named(y), arrays.get(WEIGHTS) if split == "train" else None) if x else None
        )
    unknown = sorted(set(arrays) - used - {WEIGHTS})
    if unknown:
        raise DataError(f"unknown array {unknown[0]!r}: {EXPECTED}")
    train = found["train"]
    assert train is not None
    return Tables(train, found["test"], found["val"], reading)


def _columns(arrays: Mapping[str, Stored], single: str) -> dict[str, Stored]:
    """Return the arrays of one letter and split by name, "" for the only one."""
    prefix = f"{single}__"
    named = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
    if single not in arrays:
        return named
    if named:
        raise DataError(f"{single!r} and {prefix + next(iter(named))!r} are both there: keep one of them")
    return {"": arrays[single]}


def _named(targets: Mapping[str, Stored]) -> dict[str, Stored]:
    return {name or TARGET: array for name, array in targets.items()}

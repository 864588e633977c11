"""Training, validation and test data in an npz file.

Keys: `x_train`, `y_train`, `x_test`, `y_test`. A model with several inputs has one pair per input instead
of x_train and x_test: `x_train__NAME`, `x_test__NAME`; so has a loss with several targets: `y_train__NAME`. The
first axis of every array counts the samples. `y_*` may be missing when the loss needs no target. `x_val`, `y_val` are
validation samples, if there are any; without `x_test` a share of the training samples is set apart to test.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.archive import read_arrays, read_headers
from onnx_oto.data.augment import Augment
from onnx_oto.data.dataset import Tables
from onnx_oto.data.fit import Pixels, Rows, Stored
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import TARGET, Dataset, Header, Input, Wanted
from onnx_oto.data.table import Table
from onnx_oto.data.unpacking import Unpacked
from onnx_oto.errors import DataError, StorageError
from onnx_oto.model.files.loading import open_regular

Array = npt.NDArray[Any]

SPLITS = ("train", "val", "test")
EXPECTED = "expected x_train, y_train, x_test, y_test (or x_train__NAME and x_test__NAME per model input)"
TEXT = "npz file with x_train, y_train, x_test, y_test"


@dataclass(frozen=True)
class Unread:
    """A column of which the header is known. Nobody asks for its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> Array:
        raise NotImplementedError("the values were not read")


@dataclass(frozen=True, eq=False)
class NpzFile:
    """An npz file whose headers were read. `blanks`: its columns, without values."""

    path: str | os.PathLike[str]
    blanks: Tables
    reading: Reading = Reading()

    @property
    def train(self) -> Header:
        return self.blanks.train

    @property
    def val(self) -> Header | None:
        return self.blanks.val

    @property
    def test(self) -> Header:
        return self.blanks.test

    def read(self) -> Tables:
        """Return the columns; large ones stay in the file, or are unpacked into files of their own."""

        def judged(blanks: Mapping[str, Array]) -> Iterable[str]:
            found = tables_of(blanks, self.reading)
            if (found.train, found.val, found.test) != (self.train, self.val, self.test):
                raise DataError("it was changed after it was opened: start again")
            return blanks

        unpack = Unpacked(self.reading.cache, (Path(self.path),))
        return tables_of(read_arrays(self.path, judged, map_large=True, unpack=unpack), self.reading)

    def fit(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        *,
        pixels: Pixels | None = None,
        augment: Augment | None = None,
        needless: Collection[str] = (),
    ) -> Dataset:
        """Return the data as a model and a loss read them (see `Opening.fit`); shapes and types are compared first."""
        self.blanks.fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)
        return self.read().fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)


def takes(path: Path) -> bool:
    """Say whether this is an npz file, by its name or its first bytes."""
    if path.suffix.lower() == ".npz":
        return True
    try:
        with open_regular(path) as file:
            return zipfile.is_zipfile(file)
    except (OSError, StorageError):
        return False


def open_npz(path: str | os.PathLike[str], reading: Reading = Reading()) -> NpzFile:
    """Return what the headers of an npz file say.

    Raises StorageError when it cannot be read, and DataError naming the key for anything else: damaged or
    foreign file, missing or unknown keys, arrays that are empty, hold objects or text, or disagree in
    length or shape.
    """
    blanks = {key: Unread(blank.shape, blank.dtype) for key, blank in read_headers(path).items()}
    try:
        return NpzFile(path, tables_of(blanks, reading), reading)
    except DataError as error:
        raise DataError(f"{str(path)!r}: {error}") from None


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
        found[split] = Table(split, x, _named(y)) if x else None
    unknown = sorted(set(arrays) - used)
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

"""Reading an npz file of training and test data.

Keys: `x_train`, `y_train`, `x_test`, `y_test`. A model with several inputs has one pair per input instead
of x_train and x_test: `x_train__NAME`, `x_test__NAME`. The first axis of every array counts the samples.
`y_*` may be missing when the loss needs no target.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from onnx_oto.data.archive import read_arrays
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]

SPLITS = ("train", "test")
EXPECTED = "expected x_train, y_train, x_test, y_test (or x_train__NAME and x_test__NAME per model input)"


@dataclass(frozen=True, eq=False)
class Table:
    """One split as stored. `inputs` by model input name, "" when the file does not name it.

    First axes are equal.
    """

    split: str
    inputs: dict[str, Array]
    target: Array | None

    def key(self, name: str) -> str:
        """Return the npz key of an input, for messages.

        >>> Table("train", {}, None).key(""), Table("test", {}, None).key("image")
        ('x_train', 'x_test__image')
        """
        return f"x_{self.split}__{name}" if name else f"x_{self.split}"


@dataclass(frozen=True, eq=False)
class Raw:
    """The content of a file: numbers, as stored, nothing converted yet."""

    train: Table
    test: Table


def load(path: str | os.PathLike[str]) -> Raw:
    """Return the arrays of an npz file.

    Raises StorageError when it cannot be read, and DataError naming the key for anything else: damaged or
    foreign file, missing or unknown keys, arrays that are empty, hold objects or text, or disagree in
    length or shape. All of that is known before any array is read.
    """

    def judged(blanks: Mapping[str, Array]) -> Iterable[str]:
        if not blanks:
            raise DataError(f"it holds no arrays: {EXPECTED}")
        train, test = (_table(blanks, split) for split in SPLITS)
        _check_pair(blanks, train, test)
        return blanks

    arrays = read_arrays(path, judged)
    train, test = (_table(arrays, split) for split in SPLITS)
    return Raw(train, test)


def _table(arrays: Mapping[str, Array], split: str) -> Table:
    single, prefix, target = f"x_{split}", f"x_{split}__", f"y_{split}"
    inputs = {key[len(prefix) :]: value for key, value in arrays.items() if key.startswith(prefix)}
    if single in arrays and inputs:
        raise DataError(f"{single!r} and {prefix + next(iter(inputs))!r} are both there: keep one of them")
    if single in arrays:
        inputs = {"": arrays[single]}
    if not inputs:
        raise DataError(f"{single!r} is missing, the file holds {', '.join(sorted(arrays))}: {EXPECTED}")
    table = Table(split, inputs, arrays.get(target))
    _check_table(table)
    return table


def _check_table(table: Table) -> None:
    columns = {table.key(name): array for name, array in table.inputs.items()}
    if table.target is not None:
        columns[f"y_{table.split}"] = table.target
    for key, array in columns.items():
        if array.dtype.kind not in "buif":
            raise DataError(f"{key} has dtype {array.dtype}: store numbers (images as uint8 or floats)")
        if array.ndim == 0 or len(array) == 0:
            raise DataError(f"{key} has shape {array.shape}: the first axis counts the samples, at least one")
        if array.size == 0:
            raise DataError(f"{key} has shape {array.shape}: its samples are empty")
    first = next(iter(columns))
    for key, array in columns.items():
        if len(array) != len(columns[first]):
            lengths = f"{first} has {len(columns[first])} samples and {key} has {len(array)}"
            raise DataError(f"{lengths}: they must agree")


def _check_pair(arrays: Mapping[str, Array], train: Table, test: Table) -> None:
    known = {split.key(name) for split in (train, test) for name in split.inputs} | {"y_train", "y_test"}
    unknown = sorted(set(arrays) - known)
    if unknown:
        raise DataError(f"unknown array {unknown[0]!r}: {EXPECTED}")
    only = sorted(set(train.inputs) ^ set(test.inputs))
    if only:
        missing = train if only[0] in test.inputs else test
        raise DataError(f"{missing.key(only[0])!r} is missing: {EXPECTED}")
    if (train.target is None) != (test.target is None):
        missing_key = "y_train" if train.target is None else "y_test"
        raise DataError(f"{missing_key!r} is missing: {EXPECTED}")
    pairs = [
        (train.key(name), test.key(name), train.inputs[name], test.inputs[name]) for name in train.inputs
    ]
    if train.target is not None and test.target is not None:
        pairs.append(("y_train", "y_test", train.target, test.target))
    for first, second, a, b in pairs:
        if a.shape[1:] != b.shape[1:]:
            raise DataError(f"samples of {first} have shape {a.shape[1:]}, those of {second} {b.shape[1:]}")
        if a.dtype != b.dtype:
            raise DataError(f"{first} is {a.dtype} and {second} is {b.dtype}: store both alike")

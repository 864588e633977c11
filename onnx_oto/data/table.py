"""Data in columns: one array of samples per input and target, or what decodes them when asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from onnx_oto.data.fit import Stored
from onnx_oto.data.source import TARGET, Header, Sample
from onnx_oto.errors import DataError

MOST_AXES = 16
"""More than any model reads, and fewer than numpy can have."""


@dataclass(frozen=True, eq=False)
class Table:
    """One split as stored. `inputs` by model input name, "" when the data do not name it; `targets` by name.

    weights: [N], what samples count for in the loss; None for all alike.
    Raises DataError when columns are empty, hold no numbers, or differ in length.
    """

    split: str
    inputs: Mapping[str, Stored]
    targets: Mapping[str, Stored] = field(default_factory=dict)
    weights: Stored | None = None

    def __post_init__(self) -> None:
        if not self.inputs:
            raise DataError(f"the {self.split} data have no inputs")
        columns = {self.key(name): column for name, column in self.inputs.items()}
        columns |= {self.target_key(name): column for name, column in self.targets.items()}
        if self.weights is not None:
            columns[self.weight_key] = self.weights
        for key, column in columns.items():
            _check_column(key, column)
        if self.weights is not None and len(self.weights.shape) != 1:
            shape = self.weights.shape
            raise DataError(f"{self.weight_key} has shape {shape}: store one number for every sample")
        first = next(iter(columns))
        for key, column in columns.items():
            if len(column) != len(columns[first]):
                lengths = f"{first} has {len(columns[first])} samples and {key} has {len(column)}"
                raise DataError(f"{lengths}: they must agree")

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def key(self, name: str) -> str:
        """Return what messages call an input; the key of an npz file.

        >>> import numpy as np
        >>> Table("test", {"": np.ones((1, 2))}).key("image")
        'x_test__image'
        """
        return f"x_{self.split}__{name}" if name else f"x_{self.split}"

    def target_key(self, name: str) -> str:
        """Return what messages call a target."""
        return f"y_{self.split}" if name == TARGET else f"y_{self.split}__{name}"

    @property
    def weight_key(self) -> str:
        """What messages call the weights."""
        return f"w_{self.split}"

    def header(self) -> Header:
        """Return what is known without reading."""
        return Header(
            len(self),
            {name: Sample(tuple(column.shape[1:]), column.dtype) for name, column in self.inputs.items()},
            {name: Sample(tuple(column.shape[1:]), column.dtype) for name, column in self.targets.items()},
            self.weights is not None,
        )


def check_alike(train: Table, test: Table) -> None:
    """Raise DataError when two splits do not have the same columns, of the same shapes and types."""
    pairs = []
    for one, other, key, other_key in (
        (train.inputs, test.inputs, train.key, test.key),
        (train.targets, test.targets, train.target_key, test.target_key),
    ):
        for name in sorted({*one, *other}):
            first, second = key(name), other_key(name)
            if name not in one or name not in other:
                there, missing = (first, second) if name in one else (second, first)
                raise DataError(f"{missing!r} is missing, {there!r} is there: both splits need it")
            pairs.append((first, second, one[name], other[name]))
    for first, second, a, b in pairs:
        if a.shape[1:] != b.shape[1:]:
            raise DataError(f"samples of {first} have shape {a.shape[1:]}, those of {second} {b.shape[1:]}")
        if a.dtype != b.dtype:
            raise DataError(f"{first} is {a.dtype} and {second} is {b.dtype}: store both alike")


def _check_column(key: str, column: Stored) -> None:
    if column.dtype.kind not in "buif":
        raise DataError(f"{key} has dtype {column.dtype}: store numbers (images as uint8 or floats)")
    if not column.shape or column.shape[0] == 0:
        raise DataError(f"{key} has shape {column.shape}: the first axis counts the samples, at least one")
    if len(column.shape) > MOST_AXES:
        raise DataError(f"{key} has {len(column.shape)} axes: store at most {MOST_AXES}")
    if 0 in column.shape:
        raise DataError(f"{key} has shape {column.shape}: its samples are empty")

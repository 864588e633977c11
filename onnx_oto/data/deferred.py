"""Data whose headers were read, and whose values are read when a model was found to fit them: an Opening."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.augment import Augment
from onnx_oto.data.dataset import Tables
from onnx_oto.data.fit import Pixels, Rows
from onnx_oto.data.source import Dataset, Header, Input, Wanted
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Unread:
    """A column of which the header is known. Nobody asks for its values."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Rows) -> Array:
        raise NotImplementedError("the values were not read")


def alike(one: Tables, other: Tables) -> bool:
    """Say whether the same is known of both without reading."""
    return (one.train, one.val, one.test) == (other.train, other.val, other.test)


@dataclass(frozen=True, eq=False)
class Deferred:
    """blanks: the columns, without values. read: returns them with values; they must be what was promised.

    remedy: what to do where the inputs that the data hold, by name, are not those of the model; "" leaves the words to
    `Tables`.
    """

    blanks: Tables
    read: Callable[[], Tables]
    remedy: str = ""

    @property
    def train(self) -> Header:
        return self.blanks.train

    @property
    def val(self) -> Header | None:
        return self.blanks.val

    @property
    def test(self) -> Header:
        return self.blanks.test

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
        if self.remedy and set(self.train.inputs) - set(needless) not in ({""}, set(inputs)):
            held, wanted = (", ".join(map(repr, names)) for names in (self.train.inputs, inputs))
            raise DataError(f"the inputs are {held}, the model reads {wanted}: {self.remedy}")
        self.blanks.fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)
        found = self.read()
        if not alike(found, self.blanks):
            raise DataError("the data were changed after they were opened: start again")
        return found.fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)

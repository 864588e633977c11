"""The seams between data and training: what a loop reads, and what is known before any value is read.

    open_data(path, reading) -> Opening   headers only; a model can be prepared, and refused, on them
    Opening.fit(...) -> Dataset           all splits as the model and the loss read them
    Source.batch(indices, rng)            samples, decoded when they are asked for

A new kind of data is one file with a function `(path, reading) -> Opening`, and one entry in `openers.py`. What can be
had as columns of samples (arrays, files that are decoded one by one) builds on `Tables` (dataset.py) and writes no
Source; so do kinds that have no test samples of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.data.arrangement import Pattern, Shape
from onnx_oto.data.augment import Augment
from onnx_oto.data.fit import Pixels, Rows
from onnx_oto.losses.loss import DATA

Array = npt.NDArray[Any]

TARGET = DATA
"""The name of the target that comes from the data; a loss may read others, from elsewhere."""
SAMPLE_WEIGHT = f"{DATA}.sample"
"""Among the targets of a training batch, where the data say so: what samples count for, float32 [n]."""


class Batch(NamedTuple):
    """inputs by model input name and targets by target name, each [n, ...]; rows int64 [n], which samples.

    The arrays belong to whoever asked for the batch.
    """

    inputs: dict[str, Array]
    targets: dict[str, Array]
    rows: Rows


class Source(Protocol):
    """One split, ready for a model and a loss. Nothing is decoded before it is asked for."""

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        """Return the samples at `indices`, in that order, as the model reads them.

        rng: decides the augmentation, if one was asked for; what comes back is a function of `indices` and the state
        of `rng` alone. None: no augmentation, for evaluation. It is called on other threads than the one that made
        the source, and on several at once where they are asked for (`--loaders`): what keeps a state between calls,
        such as the position in a file, locks it. Raises DataError naming the sample that cannot be served.
        """
        ...


@dataclass(frozen=True)
class Input:
    """What a model input reads: the shape of one sample (None = any size) and its dtype."""

    shape: Pattern
    dtype: np.dtype[Any]


class Wanted(Protocol):
    """What a loss reads.

    shape: of the whole batch, samples first (None = any size). classes: labels are integers in [0, classes), or
    `ignored`, which does not count; None: floats. low, high: bounds of float targets, where the loss has them.
    """

    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def shape(self) -> Pattern: ...
    @property
    def classes(self) -> int | None: ...
    @property
    def ignored(self) -> int | None: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


@dataclass(frozen=True)
class Sample:
    """One sample as it is stored: shape and dtype. Where samples differ in length, `shape` is of the longest.

    adapts: it is an image that gets the height, width and channels that a model reads; `shape` is its own, height,
    width and channels, for what a model leaves open. 0 stands for a height or width that is not the same in all.
    """

    shape: Shape
    dtype: np.dtype[Any]
    adapts: bool = False


@dataclass(frozen=True)
class Header:
    """What is known of a split before values are read. inputs, targets: by name, "" for the only input, unnamed.

    weighted: whether the data say what samples count for. padding: what shorter sequences are filled up with, where the
    data know that.
    """

    samples: int
    inputs: Mapping[str, Sample]
    targets: Mapping[str, Sample] = field(default_factory=dict)
    weighted: bool = False
    padding: int | None = None


@dataclass(frozen=True)
class Dataset:
    """The splits, and sentences that say what is done to the data.

    val: what choices are made by, None where nothing was set apart. classes: names of the labels, in their order, where
    the data know them. prepared: how numbers of images became what the model reads, as JSON values, for whoever runs
    it: scale, mean and std, (x * scale - mean) / std; resize, what images were brought to before their middle was cut
    out. lengths: of the training samples, int64 [N], where batches are to hold similar ones.
    """

    train: Source
    test: Source
    notes: tuple[str, ...] = ()
    val: Source | None = None
    classes: tuple[str, ...] = ()
    prepared: Mapping[str, Any] = field(default_factory=dict)
    lengths: Rows | None = None


class Opening(Protocol):
    """Data that were looked at, not read."""

    @property
    def train(self) -> Header:
        """What is known of the training data."""
        ...

    @property
    def val(self) -> Header | None:
        """What is known of the validation data, None where the data have none of their own."""
        ...

    @property
    def test(self) -> Header:
        """What is known of the test data."""
        ...

    def fit(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        *,
        pixels: Pixels | None = None,
        augment: Augment | None = None,
        needless: Collection[str] = (),
    ) -> Dataset:
        """Return the data as a model with these inputs and a loss with these targets read them.

        pixels: how numbers of images are prepared. augment: what is done to training samples where `batch` is given a
        generator. needless: inputs that the data may hold and nobody reads. What is wrong with values that can be
        looked at is found now, the rest when a batch is asked for. Raises DataError naming key and sample, StorageError
        when a file cannot be read.
        """
        ...

"""Data whose training samples come several times in an epoch, changed in another way each time."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from onnx_oto.data.augment import Augment
from onnx_oto.data.fit import Pixels, Rows
from onnx_oto.data.portions import portion_of
from onnx_oto.data.source import Batch, Dataset, Header, Input, Opening, Source, Wanted


@dataclass(frozen=True, eq=False)
class Repeated:
    """Every sample of a source `times` times; the rows of its batches are those of the source."""

    source: Source
    times: int

    def __len__(self) -> int:
        return len(self.source) * self.times

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        """Return these of the samples."""
        return self.source.batch(indices // self.times, rng)

    def portion(self, indices: Rows, rng: np.random.Generator | None, keep: Rows) -> Batch:
        """See `Divisible.portion`."""
        return portion_of(self.source, indices // self.times, rng, keep)


@dataclass(frozen=True, eq=False)
class Repeating:
    """Data whose training samples are repeated: an Opening around another, behind any split."""

    opening: Opening
    times: int

    @property
    def train(self) -> Header:
        header = self.opening.train
        return replace(header, samples=header.samples * self.times)

    @property
    def val(self) -> Header | None:
        return self.opening.val

    @property
    def test(self) -> Header:
        return self.opening.test

    def fit(
        self,
        inputs: Mapping[str, Input],
        targets: Mapping[str, Wanted],
        *,
        pixels: Pixels | None = None,
        augment: Augment | None = None,
        needless: Collection[str] = (),
    ) -> Dataset:
        """Return the data as a model and a loss read them (see `Opening.fit`)."""
        made = self.opening.fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)
        return replace(made, train=Repeated(made.train, self.times))


def repeating(opening: Opening, times: int) -> Opening:
    """Return data whose training samples come so many times in an epoch."""
    return opening if times == 1 else Repeating(opening, times)

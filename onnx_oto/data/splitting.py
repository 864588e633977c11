"""Setting samples apart: a part of a source by indices, decided by a seed alone.

What was set apart is in no other part: the indices of both are one permutation, cut in two.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnx_oto.data.augment import Augment
from onnx_oto.data.fit import Pixels, Rows
from onnx_oto.data.portions import portion_of
from onnx_oto.data.reading import Reading
from onnx_oto.data.source import Batch, Dataset, Header, Input, Opening, Source, Wanted
from onnx_oto.errors import DataError, UsageError

DEFAULT_TEST_SHARE = 0.1
"""Of all samples, where the data have no test samples of their own."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some samples of a source (see `Source`); the rows of its batches are those of the source."""

    source: Source
    rows: Rows

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        """Return these of the samples."""
        return self.source.batch(self.rows[indices], rng)

    def portion(self, indices: Rows, rng: np.random.Generator | None, keep: Rows) -> Batch:
        """See `Divisible.portion`."""
        return portion_of(self.source, self.rows[indices], rng, keep)


def chosen_of(source: Source) -> tuple[Source, Rows]:
    """Return the source that samples are chosen of, however often, and which of it: all where none were."""
    rows = np.arange(len(source))
    while isinstance(source, Chosen):
        rows = source.rows[rows]
        source = source.source
    return source, rows


def parted(samples: int, share: float, seed: int, option: str) -> tuple[Rows, Rows]:
    """Return which samples stay and which are set apart: int64, each in order. At least one sample of each.

    round(samples * share) of them are set apart, the first of a permutation that depends on `seed` alone. option: that
    gave the share, for the message of a DataError.

    >>> [rows.tolist() for rows in parted(8, 0.25, 0, "val-share")]
    [[0, 1, 3, 5, 6, 7], [2, 4]]
    """
    count = max(1, round(samples * share))
    if count >= samples:
        raise DataError(
            f"{option} is {share:g}, and there are {samples} samples: none would be left; set fewer apart"
        )
    order = np.random.default_rng(seed).permutation(samples)
    return np.sort(order[count:]), np.sort(order[:count])


def told(apart: Rows, stay: Rows, of: str, what: str, option: str, seed: int) -> str:
    """Return the sentence that says what was set apart."""
    return (
        f"{len(apart):,} of {len(apart) + len(stay):,} {of} are {what} samples, drawn at random ({option}, "
        f"--split-seed {seed})"
    )


@dataclass(frozen=True, eq=False)
class WithValidation:
    """Data of which a share of the training samples is set apart, to make choices by: an Opening around another."""

    opening: Opening
    reading: Reading

    @cached_property
    def _parted(self) -> tuple[Rows, Rows]:
        """Which samples train, and which are set apart."""
        return parted(
            self.opening.train.samples, self.reading.val_share, self.reading.split_seed, "val-share"
        )

    @property
    def train(self) -> Header:
        return replace(self.opening.train, samples=len(self._parted[0]))

    @property
    def val(self) -> Header | None:
        return replace(self.opening.train, samples=len(self._parted[1]))

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
        """Return the data as a model and a loss read them (see `Opening.fit`), with validation samples."""
        whole = self.opening.fit(inputs, targets, pixels=pixels, augment=augment, needless=needless)
        stay, apart = self._parted
        option = f"--val-share {self.reading.val_share:g}"
        note = told(apart, stay, "training samples", "validation", option, self.reading.split_seed)
        return replace(
            whole,
            train=Chosen(whole.train, stay),
            val=Chosen(whole.train, apart),
            notes=(*whole.notes, note),
        )


def with_validation(opening: Opening, reading: Reading) -> Opening:
    """Return data with validation samples, where that is asked for; UsageError where they have some of their own."""
    if not reading.val_share:
        return opening
    if opening.val is not None:
        raise UsageError(
            f"val-share is {reading.val_share:g}, and the data have {opening.val.samples} validation samples of their "
            "own: leave it out"
        )
    made = WithValidation(opening, reading)
    _ = made.val  # refused now, where nothing would be left
    return made

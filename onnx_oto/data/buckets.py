"""Sequences that are filled up: how long each is, batches of similar lengths, cut to few sizes.

A sample is as long as the place of its last entry that is not the padding. What lies behind the longest sample of a
batch is cut off, up to the next of a few sizes, because every size takes a training graph of its own; labels behind a
sample's own end become the ignored one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.dataset import Examples
from onnx_oto.data.fit import Rows
from onnx_oto.data.portions import portion_of, taken
from onnx_oto.data.source import Batch, Source
from onnx_oto.data.splitting import chosen_of

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]

MOST_SIZES = 4
STEP = 8
"""Sizes are multiples of this."""
WINDOW = 32
"""Batches whose samples are sorted together: more would make every epoch's batches alike."""
_LOT = 256


@dataclass(frozen=True)
class Along:
    """What is cut, and where. mains: the inputs that tell lengths, by entries that are not `pad`; the longest counts.

    inputs, targets: axis of one sample that is cut, by name. ignored: the label that fills targets up, by name.
    """

    mains: tuple[str, ...]
    pad: int
    inputs: Mapping[str, int]
    targets: Mapping[str, int] = field(default_factory=dict)
    ignored: Mapping[str, int] = field(default_factory=dict)

    def lengths(self, inputs: Mapping[str, Array]) -> Ints:
        """Return how long the samples of a batch are: int64 [n], at least 1."""
        each = np.stack([self._length(inputs[name], self.inputs[name]) for name in self.mains])
        return np.asarray(each.max(axis=0))

    def _length(self, values: Array, axis: int) -> Ints:
        there = np.moveaxis(values != self.pad, axis + 1, 1)
        there = there.reshape(*there.shape[:2], -1).any(axis=2)
        last = there.shape[1] - np.argmax(there[:, ::-1], axis=1)
        return np.where(there.any(axis=1), last, 1).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Bucketed:
    """A source (see `Source`) whose batches are cut to the smallest of `sizes`, in rising order, that holds them.

    known: how long all samples are, int64 [N].
    """

    source: Source
    along: Along
    sizes: tuple[int, ...]
    known: Ints | None = None

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: Rows, rng: np.random.Generator | None) -> Batch:
        """Return the samples at `indices`, cut; labels behind the end of a sample are ignored."""
        batch = self.source.batch(indices, rng)
        lengths = self.along.lengths(batch.inputs)
        return self._cut(batch, lengths, int(lengths.max()))

    def portion(self, indices: Rows, rng: np.random.Generator | None, keep: Rows) -> Batch:
        """See `Divisible.portion`: cut as the whole batch would be."""
        if self.known is None:
            return taken(self.batch(indices, rng), keep)
        batch = portion_of(self.source, indices, rng, keep)
        return self._cut(batch, self.along.lengths(batch.inputs), int(self.known[indices].max()))

    def _cut(self, batch: Batch, lengths: Ints, longest: int) -> Batch:
        along = self.along
        size = next((size for size in self.sizes if size >= longest), self.sizes[-1])
        inputs, targets = dict(batch.inputs), dict(batch.targets)
        for name, axis in along.inputs.items():
            inputs[name] = _cut(inputs[name], axis, size)
        for name, axis in along.targets.items():
            targets[name] = _cut(targets[name], axis, size)
        for name, label in along.ignored.items():
            axis = along.targets[name] + 1
            places = np.arange(targets[name].shape[axis])
            beyond = places[None] >= lengths[:, None]
            form = [
                len(lengths) if at == 0 else len(places) if at == axis else 1
                for at in range(targets[name].ndim)
            ]
            targets[name] = np.where(beyond.reshape(form), label, targets[name])
        return Batch(inputs, targets, batch.rows)


def _cut(array: Array, axis: int, size: int) -> Array:
    """Return the first `size` entries along an axis of the samples, contiguous."""
    index = (slice(None),) * (axis + 1) + (slice(size),)
    return np.ascontiguousarray(array[index])


def lengths_of(source: Source, along: Along) -> Ints:
    """Return how long all samples are: int64 [N]. Only the inputs that tell are read where the source is columns."""
    parts = [np.zeros(0, np.int64)]
    source, every = chosen_of(source)
    columns = {n: source.inputs[n] for n in along.mains} if isinstance(source, Examples) else None
    for start in range(0, len(every), _LOT):
        rows = every[start : start + _LOT]
        if columns is not None:
            inputs = {name: column.take(rows) for name, column in columns.items()}
        else:
            inputs = source.batch(rows, None).inputs
        parts.append(along.lengths(inputs))
    return np.concatenate(parts)


def sizes_for(lengths: Ints, most: int) -> tuple[int, ...]:
    """Return at most MOST_SIZES sizes, multiples of STEP or `most`, that hold samples of these lengths.

    A quarter of the samples each, as far as that goes.

    >>> sizes_for(np.array([3, 5, 9, 11, 20, 30, 40, 100]), 128)
    (16, 24, 40, 104)
    >>> sizes_for(np.array([10, 10, 10]), 12)
    (12,)
    """
    shares = np.arange(1, MOST_SIZES + 1) / MOST_SIZES
    ends = np.quantile(lengths, shares, method="higher").astype(np.int64)
    return tuple(sorted({rounded(int(end), most) for end in ends}))


def rounded(length: int, most: int) -> int:
    """Return the multiple of STEP that holds a length, or `most`."""
    return min(-(-length // STEP) * STEP, most)


def alike(order: Ints, lengths: Ints, size: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Yield the batches of an epoch, each of `size` samples of similar lengths.

    order: the samples, shuffled; what does not fill a batch was left out. WINDOW batches of it are sorted by length
    together, and all batches are shuffled then.
    """
    batches: list[Ints] = []
    for start in range(0, len(order), WINDOW * size):
        window = order[start : start + WINDOW * size]
        window = window[np.argsort(lengths[window], kind="stable")]
        batches += np.split(window, len(window) // size)
    for number in rng.permutation(len(batches)):
        yield batches[number]

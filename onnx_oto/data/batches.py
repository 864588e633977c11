"""Batches in an order that depends on seed and epoch alone, so that training can go on at any step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import numpy.typing as npt

from onnx_oto.data.buckets import alike
from onnx_oto.data.portions import portion_of
from onnx_oto.data.source import Batch, Source
from onnx_oto.errors import DataError


@dataclass(frozen=True, eq=False)
class OneByOne:
    """A source (see `Source`) whose samples differ in size: they are evaluated one by one, and never trained on."""

    source: Source

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, indices: npt.NDArray[np.int64], rng: np.random.Generator | None) -> Batch:
        """Return a sample; several only where they are of one size."""
        return self.source.batch(indices, rng)


def fit_batch(samples: int, wanted: int) -> tuple[int, str | None]:
    """Return the batch size for a split of `samples`, and a sentence when it had to shrink.

    >>> fit_batch(1000, 64)
    (64, None)
    >>> fit_batch(10, 64)
    (10, 'the training data have 10 samples: batches of 10 instead of 64')
    """
    if samples >= wanted:
        return wanted, None
    return samples, f"the training data have {samples} samples: batches of {samples} instead of {wanted}"


def shuffled(samples: int, *, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """Return the order of the samples in an epoch.

    A permutation int64 [samples] that depends on seed and epoch only.
    """
    return np.random.default_rng([seed, epoch]).permutation(samples)


Job = Callable[[], Batch]
"""Makes one batch; any number of them may run at once."""


def batches(source: Source, size: int, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
    """Yield the shuffled batches start, start+1, ... of an epoch, each of exactly `size` samples.

    The rest of the division is dropped (other samples every epoch). Batch i is the same whatever `start`
    is: the order comes from (seed, epoch), the augmentation from (seed, epoch, i). Raises DataError when
    not one batch can be filled.
    """
    return (job() for job in batch_jobs(source, size, seed=seed, epoch=epoch, start=start))


def batch_jobs(
    source: Source,
    size: int,
    *,
    seed: int,
    epoch: int,
    start: int = 0,
    lengths: npt.NDArray[np.int64] | None = None,
    keep: npt.NDArray[np.int64] | None = None,
) -> Iterator[Job]:
    """Yield what makes the batches of `batches`, in their order. keep: of each batch only these samples.

    lengths: of the samples; then those of a batch are similar (see `buckets.alike`), a function of (seed, epoch) too.
    """
    count = len(source) // size
    if count == 0:
        raise DataError(f"the training data have {len(source)} samples: not one batch of {size}")
    order = shuffled(len(source), seed=seed, epoch=epoch)[: count * size]
    every: Iterable[npt.NDArray[np.int64]] = order.reshape(count, size)
    if lengths is not None:
        every = alike(order, lengths, size, np.random.default_rng((seed, epoch, count)))
    for number, rows in islice(enumerate(every), start, None):
        yield partial(_made, source, rows, (seed, epoch, number), keep)


def _made(
    source: Source,
    rows: npt.NDArray[np.int64],
    seed: tuple[int, int, int],
    keep: npt.NDArray[np.int64] | None,
) -> Batch:
    return portion_of(source, rows, np.random.default_rng(seed), keep)


def in_order(source: Source, size: int) -> Iterator[Batch]:
    """Yield all samples in their order, not augmented, for evaluation; the last batch may be smaller."""
    return (job() for job in jobs_in_order(source, size))


def jobs_in_order(source: Source, size: int) -> Iterator[Job]:
    """Yield what makes the batches of `in_order`."""
    size = 1 if isinstance(source, OneByOne) else size
    for start in range(0, len(source), size):
        rows = np.arange(start, min(start + size, len(source)))
        yield partial(source.batch, rows, None)

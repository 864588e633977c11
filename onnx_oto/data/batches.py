"""Batches in an order that depends on seed and epoch alone, so that training can go on at any step."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from onnx_oto.data.source import Batch, Source
from onnx_oto.errors import DataError


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


def batches(source: Source, size: int, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
    """Yield the shuffled batches start, start+1, ... of an epoch, each of exactly `size` samples.

    The rest of the division is dropped (other samples every epoch). Batch i is the same whatever `start`
    is: the order comes from (seed, epoch), the augmentation from (seed, epoch, i). Raises DataError when
    not one batch can be filled.
    """
    count = len(source) // size
    if count == 0:
        raise DataError(f"the training data have {len(source)} samples: not one batch of {size}")
    order = shuffled(len(source), seed=seed, epoch=epoch)
    for number in range(start, count):
        rows = order[number * size : (number + 1) * size]
        yield source.batch(rows, np.random.default_rng((seed, epoch, number)))


def in_order(source: Source, size: int) -> Iterator[Batch]:
    """Yield all samples in their order, not augmented, for evaluation; the last batch may be smaller."""
    for start in range(0, len(source), size):
        yield source.batch(np.arange(start, min(start + size, len(source))), None)

"""Batches in an order that depends on seed and epoch alone, so that training can go on at any step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.data.augment import Augment
from onnx_oto.data.dataset import Examples
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]


class Batch(NamedTuple):
    """inputs by model input name, [n, ...]; target [n, ...] or None; rows int64 [n], which samples."""

    inputs: dict[str, Array]
    target: Array | None
    rows: npt.NDArray[np.int64]


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


def batches(
    examples: Examples, size: int, *, seed: int, epoch: int, start: int = 0, augment: Augment | None = None
) -> Iterator[Batch]:
    """Yield the shuffled batches start, start+1, ... of an epoch, each of exactly `size` samples.

    The rest of the division is dropped (other samples every epoch). Batch i is the same whatever `start`
    is: the order comes from (seed, epoch), the augmentation from (seed, epoch, i). Raises DataError when
    not one batch can be filled.
    """
    count = len(examples) // size
    if count == 0:
        raise DataError(f"the training data have {len(examples)} samples: not one batch of {size}")
    order = shuffled(len(examples), seed=seed, epoch=epoch)
    for number in range(start, count):
        rows = order[number * size : (number + 1) * size]
        inputs, target = examples.take(rows, augment=augment, seed=(seed, epoch, number))
        yield Batch(inputs, target, rows)


def in_order(examples: Examples, size: int) -> Iterator[Batch]:
    """Yield all samples in their order, for evaluation; the last batch may be smaller."""
    for start in range(0, len(examples), size):
        rows = np.arange(start, min(start + size, len(examples)))
        inputs, target = examples.take(slice(start, start + size))
        yield Batch(inputs, target, rows)

"""Numbers that are all different, so that each is found again by its value; and numbers that are rounded otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

SIGN = 0x80000000


def distinct(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return float32 [N] as close to `values` as can be with no two alike: equal ones move by units in the last place.

    >>> distinct(np.float32([2, 1, 1, 2])) - np.float32([2, 1, 1, 2])
    array([0.0000000e+00, 0.0000000e+00, 1.1920929e-07, 2.3841858e-07],
          dtype=float32)
    """
    bits = values.view(np.int32).astype(np.int64)
    keys = np.where(bits < 0, -(bits & (SIGN - 1)), bits)  # integers in the order of the numbers
    order = np.argsort(keys, kind="stable")
    steps = np.arange(len(keys))
    keys[order] = np.maximum.accumulate(keys[order] - steps) + steps
    result: npt.NDArray[Any] = np.where(keys < 0, -keys | SIGN, keys).astype(np.uint32).view(np.float32)
    return result


def nudged(values: npt.NDArray[Any], seed: int) -> npt.NDArray[Any]:
    """Return float32 of which half, drawn at random, are the next larger number."""
    up = np.random.default_rng(seed).random(values.shape) < 0.5
    return np.where(up, np.nextafter(values, np.float32(np.inf)), values)

"""Weights of convolutions, turned round for the gradient of their inputs: compiled, without the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from onnx_oto.runtime.compiled import pointer

Ints = NDArray[np.int64]

COLUMNS = ("weight", "turned", "groups", "filters", "channels", "taps")
"""Of a table of weights: two addresses, and sizes; filters of a group, channels that each reads."""
_TILE = 16  # filters and channels: a tile of nine taps fits into the first cache
_SQUARE = 9  # taps of most kernels: a loop of known length is unrolled


@njit(nogil=True, cache=True)
def turn(table: Ints, first: int, last: int) -> None:
    """Write weights [groups * filters, channels, taps] as [groups * channels, filters, taps], taps backwards.

    table: int64 [weights, 6], see COLUMNS. Of all slices of 16 filters, counted through the table, those from `first`
    to `last` are written, so that threads can share the work.
    """
    done = 0
    for row in range(table.shape[0]):
        groups, filters, channels, taps = table[row, 2], table[row, 3], table[row, 4], table[row, 5]
        slices = -(-filters // _TILE)
        if done + groups * slices > first and done < last:
            size = groups * filters * channels * taps
            source = carray(pointer(table[row, 0]), (size,), np.float32)
            target = carray(pointer(table[row, 1]), (size,), np.float32)
            for each in range(max(first - done, 0), min(last - done, groups * slices)):
                group, start = each // slices, each % slices * _TILE
                stop = min(start + _TILE, filters)
                here = group * filters * channels * taps
                _turn_slice(source[here:], target[here:], start, stop, filters, channels, taps)
        done += groups * slices


@njit(nogil=True, cache=True)
def _turn_slice(
    source: Any, target: Any, start: int, stop: int, filters: int, channels: int, taps: int
) -> None:
    for left in range(0, channels, _TILE):
        for channel in range(left, min(left + _TILE, channels)):
            for one in range(start, stop):
                there, here = (channel * filters + one) * taps, (one * channels + channel) * taps
                if taps == 1:
                    target[there] = source[here]
                elif taps == _SQUARE:
                    for tap in range(_SQUARE):
                        target[there + tap] = source[here + _SQUARE - 1 - tap]
                else:
                    for tap in range(taps):
                        target[there + tap] = source[here + taps - 1 - tap]


def slices(table: Ints) -> int:
    """Return how many slices a table has."""
    return int((table[:, 2] * -(-table[:, 3] // _TILE)).sum())

"""Weights of convolutions in other orders: compiled, without the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from onnx_oto.runtime.compiled import native, pointer

Ints = NDArray[np.int64]

COLUMNS = ("weight", "made", "groups", "filters", "channels", "taps", "block", "turned")
"""Of a table of weights: two addresses; filters of a group, channels that each reads, taps of the kernel; the length of
blocks, 0 for none; whether taps run backwards and channels change places with filters."""
_TILE = 16  # filters and channels: a tile of nine taps fits into the first cache
_SQUARE = 9  # taps of most kernels: a loop of known length is unrolled


@native()
def make(table: Ints, first: int, last: int) -> None:
    """Write weights [groups * filters, channels, taps] in the orders of a table: int64 [weights, 8], see COLUMNS.

    turned: [groups * channels, filters, taps]. In blocks: [filters / b, channels / b, taps, b channels, b filters];
    turned and in blocks: [channels / b, filters / b, taps, b filters, b channels]. Of all slices of filters, counted
    through the table, those from `first` to `last` are written, so that threads can share the work.
    """
    done = 0
    for row in range(table.shape[0]):
        groups, filters, channels, taps = table[row, 2], table[row, 3], table[row, 4], table[row, 5]
        block, turned = table[row, 6], table[row, 7]
        tile = block if block else _TILE
        slices = -(-filters // tile)
        if done + groups * slices > first and done < last:
            size = groups * filters * channels * taps
            source = carray(pointer(table[row, 0]), (size,), np.float32)
            target = carray(pointer(table[row, 1]), (size,), np.float32)
            for each in range(max(first - done, 0), min(last - done, groups * slices)):
                if block:
                    _block_slice(source, target, each, filters, channels, taps, block, turned)
                    continue
                group, start = each // slices, each % slices * tile
                stop = min(start + tile, filters)
                here = group * filters * channels * taps
                _turn_slice(source[here:], target[here:], start, stop, filters, channels, taps)
        done += groups * slices


@native()
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


@native()
def _block_slice(
    source: Any, target: Any, row: int, filters: int, channels: int, taps: int, block: int, turned: int
) -> None:
    """Write the blocks of one block of filters."""
    size = taps * block * block
    for column in range(channels // block):
        at = row * (channels // block) + column
        if turned:
            at = column * (filters // block) + row
        for tap in range(taps):
            there = at * size + (taps - 1 - tap if turned else tap) * block * block
            here = (row * block * channels + column * block) * taps + tap
            for one in range(block):
                for other in range(block):
                    if turned:
                        target[there + one * block + other] = source[here + (one * channels + other) * taps]
                    else:
                        target[there + one * block + other] = source[here + (other * channels + one) * taps]


def shares(table: Ints, count: int) -> list[int]:
    """Return where the shares of so many threads begin, in slices of about as many elements, and the end of the last.

    >>> shares(np.array([[0, 0, 1, 64, 3, 1, 0, 1], [0, 0, 1, 32, 90, 1, 0, 1]]), 2)
    [0, 5, 6]
    """
    tiles = np.where(table[:, 6] > 0, table[:, 6], _TILE)
    slices = table[:, 2] * -(-table[:, 3] // tiles)
    elements = np.repeat(tiles * table[:, 4] * table[:, 5], slices).cumsum()
    inner = np.searchsorted(elements, elements[-1] * np.arange(1, count) / count) + 1
    return [0, *(int(each) for each in inner), len(elements)]

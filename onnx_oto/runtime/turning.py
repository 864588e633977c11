"""Weights of convolutions in other orders: compiled, without the interpreter's lock."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from onnx_oto.runtime.compiled import native, pointer

Ints = NDArray[np.int64]

COLUMNS = ("weight", "made", "groups", "filters", "channels", "taps", "block", "turned", "tile")
"""Of a table of weights: two addresses; filters of a group, channels that each reads, taps of the kernel; the length of
blocks, 0 for none; whether taps run backwards and channels change places with filters; the width of tiles or 0."""
_TILE = 16  # filters and channels: a tile of nine taps fits into the first cache
_SQUARE = 9  # taps of most kernels: a loop of known length is unrolled


@native()
def make(table: Ints, first: int, last: int) -> None:
    """Write weights [groups * filters, channels, taps] in the orders of a table: int64 [weights, 9], see COLUMNS.

    turned: [groups * channels, filters, taps]. In blocks: [filters / b, channels / b, taps, b channels, b filters];
    turned and in blocks: [channels / b, filters / b, taps, b filters, b channels]. In tiles of t filters: [tiles, taps,
    channels, t], of those that are not zero, and behind them how many these are, their numbers, those of the others;
    turned: of channels, all of them, [tiles, taps, filters, t], taps in their order. Of all slices of filters, counted
    through the table, those from `first` to `last` are written, so that threads can share the work.
    """
    done = 0
    for row in range(table.shape[0]):
        groups, filters, channels, taps = table[row, 2], table[row, 3], table[row, 4], table[row, 5]
        block, turned, width = table[row, 6], table[row, 7], table[row, 8]
        tile = width if width else block if block else _TILE
        slices = -(-(channels if width and turned else filters) // tile)
        if done + groups * slices > first and done < last:
            size = groups * filters * channels * taps
            source = carray(pointer(table[row, 0]), (size,), np.float32)
            room = slices * width * taps * (filters if turned else channels)
            target = carray(pointer(table[row, 1]), (room if width else size,), np.float32)
            made = channels if turned else filters
            order = carray(pointer(table[row, 1] + 4 * room), (1 + made if width else 0,), np.float32)
            numbers = _live_first(source, made, 0 if turned else channels * taps if width else 0)
            for each in range(max(first - done, 0), min(last - done, groups * slices)):
                if width:
                    if each == 0:
                        for number in range(order.size):
                            order[number] = numbers[number]
                    _tile(source, target, each, numbers, filters, channels, taps, width, turned)
                    continue
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


@native()
def _live_first(source: Any, count: int, size: int) -> Any:
    """Return how many rows of this size are not zero, their numbers, and those of the others.

    Where the size is 0 all count as such.
    """
    order, alive = np.empty(1 + count, np.int32), 0
    for kind in range(2):
        for row in range(count):
            is_zero = size > 0
            for index in range(row * size, (row + 1) * size):
                if source[index] != 0.0:
                    is_zero = False
                    break
            if is_zero == (kind == 1):
                alive += 1
                order[alive] = row
        if kind == 0:
            order[0] = alive
    return order


@native()
def _tile(
    source: Any,
    target: Any,
    number: int,
    order: Any,
    filters: int,
    channels: int,
    taps: int,
    width: int,
    turned: int,
) -> None:
    """Write a tile: the last one is filled up with its last filter."""
    read, at = (filters if turned else channels), number * width * taps * (filters if turned else channels)
    if number * width >= order[0]:
        return
    for one in range(read):
        for column in range(width):
            other = order[1 + min(number * width + column, order[0] - 1)]
            here = ((one * channels + other) if turned else (other * channels + one)) * taps
            there = at + one * width + column
            for tap in range(taps):
                target[there + tap * read * width] = source[here + tap]


def shares(table: Ints, count: int) -> list[int]:
    """Return where the shares of so many threads begin, in slices of about as many elements, and the end of the last.

    >>> shares(np.array([[0, 0, 1, 64, 3, 1, 0, 1, 0], [0, 0, 1, 32, 90, 1, 0, 1, 0]]), 2)
    [0, 5, 6]
    """
    tiled = table[:, 8] > 0
    tiles = np.where(tiled, table[:, 8], np.where(table[:, 6] > 0, table[:, 6], _TILE))
    made = np.where(tiled & (table[:, 7] > 0), table[:, 4], table[:, 3])
    read = table[:, 3] + table[:, 4] - made
    slices = table[:, 2] * -(-made // tiles)
    elements = np.repeat(tiles * read * table[:, 5], slices).cumsum()
    inner = np.searchsorted(elements, elements[-1] * np.arange(1, count) / count) + 1
    return [0, *(int(each) for each in inner), len(elements)]

"""Convolutions and pools of stacked tensors: compiled, on one thread, as `door` calls them.

A tensor of N samples [N, C, H, W] is *stacked* when it lies in memory as [C, H, W, N]. Then a vector holds one place of
several samples: whatever the number of channels and the size of images, all lanes of a vector are used, and a weight is
read once for many samples. What is computed of which place stands in tables (`gradients/backends/stacked_tables.py`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import binding
from numba import carray

from onnx_oto.runtime.compiled import clear, copy, native, pointer
from onnx_oto.runtime.rooms import BYTES, FLOATS, data, give_back, place_of, take, tensor
from onnx_oto.runtime.tiles import convolution_tile, pool_tile, slope_tile, unpool_tile

LANES = 16 if binding.get_host_cpu_features().get("avx512f") else 8
"""Samples of a vector."""
PLACES = 4 if LANES > 8 else 3
"""Places of a tile of a convolution."""
COLUMNS = (6, 5, 4) if LANES > 8 else (4,)
"""Filters of a tile of a convolution."""
FILTERS, TERMS = (4, 6) if LANES > 8 else (3, 4)
"""Filters and weights of a tile of a gradient of weights."""
_HELD = (
    1 << 18
)  # bytes of weights that are read again for every tile of places: they stay in the second cache

_four, _five, _six = (convolution_tile(LANES, PLACES, columns) for columns in (4, 5, 6))
_slopes_of = slope_tile(LANES, FILTERS, TERMS)
_pool_of, _unpool_of = pool_tile(LANES), unpool_tile(LANES)


@native()
def _shape(settings: Any, first: int) -> Any:
    return settings[first : first + 4]


@native()
def _is_zero(address: int, size: int) -> bool:
    """Return whether so many bytes are floats that are all zero, of either sign."""
    words, found = carray(pointer(address), (size // 8,), np.uint64), np.uint64(0)
    for begin in range(0, words.size, 512):
        for word in words[begin : begin + 512]:
            found |= word
        if found & np.uint64(0x7FFFFFFF7FFFFFFF):
            return False
    return True


@native()
def _live(address: int, channels: int, plane: int, step: int) -> Any:
    """Return where channels lie that are not zero at every place, int64 [channels, 2], and how many they are.

    Columns: plane and step, times the number of the channel.
    """
    found, count = np.empty((channels, 2), np.int64), 0
    for channel in range(channels):
        if not _is_zero(address + channel * plane, plane):
            found[count, 0], found[count, 1] = channel * plane, channel * step
            count += 1
    return found, count


@native()
def convolve(room: int, settings: Any, given: Any) -> int:
    """Return y[f, place] = bias[f] + sum of weights and what the table says that they meet.

    Channels that are zero everywhere and filters that are zero cost nothing: groups that are to be cut become so.

    settings: filters of a tile, taps, channels, filters, bytes of a channel of x and of y, tiles of places, the shape
    of y. given: the table int32 [tiles, taps, PLACES], where places lie int32 [tiles, PLACES], x, weights in tiles
    (`Order.tile`), bias, zeros.
    """
    columns, taps, channels, filters = settings[0], settings[1], settings[2], settings[3]
    plane, y_plane, tiles = settings[4], settings[5], settings[6]
    table, places, x = place_of(given[0]), place_of(given[1]), place_of(given[2])
    weights, bias, zeros = place_of(given[3]), place_of(given[4]), place_of(given[5])
    result = tensor(room, FLOATS, _shape(settings, 7))
    y, step = place_of(result), 4 * channels * columns
    size, groups = taps * step, -(-filters // columns)
    told = carray(pointer(weights + groups * size), (1 + filters,), np.float32)
    order = np.empty(1 + filters, np.int64)
    for number in range(1 + filters):
        order[number] = int(told[number])
    live, count = _live(x, channels, plane, 4 * columns)
    alive = order[0] if count > 0 else 0
    for number in range(alive, filters):
        _fill(y + order[1 + number] * y_plane, y_plane, bias + 4 * order[1 + number])
    groups = -(-alive // columns)
    made = np.empty((groups * columns, 2), np.int64)
    for number in range(groups * columns):
        f = order[1 + min(number, alive - 1)]
        made[number, 0], made[number, 1] = bias + 4 * f, f * y_plane
    together = max(1, _HELD // size)
    for begin in range(0, groups, together):
        for tile in range(tiles):
            entry, place = table + tile * taps * PLACES * 4, places + tile * PLACES * 4
            for group in range(begin, min(begin + together, groups)):
                own, out = weights + group * size, made.ctypes.data + 16 * group * columns
                if columns == 6:
                    _six(x, zeros, entry, taps, live.ctypes.data, count, own, step, out, y, place)
                elif columns == 5:
                    _five(x, zeros, entry, taps, live.ctypes.data, count, own, step, out, y, place)
                else:
                    _four(x, zeros, entry, taps, live.ctypes.data, count, own, step, out, y, place)
    return result


@native()
def _fill(address: int, size: int, value: int) -> None:
    carray(pointer(address), (size // 4,), np.float32)[:] = carray(pointer(value), (1,), np.float32)[0]


@native()
def slopes(room: int, settings: Any, given: Any) -> int:
    """Return the gradient of weights, or a tensor of one float when it is written to where it is wanted.

    settings: filters, terms, rows and columns of dy, samples, phases down and across, pads above and left, height of
    x, height and width of a phase of it, channels, 0 where x is spread or else 1, width of x, axes of what is returned
    and their sizes (four places), strides down and across. given: offsets int32 [terms], dy, x, and where it is wanted:
    floats [filters, terms].
    """
    filters, terms, rows, columns, samples = settings[0], settings[1], settings[2], settings[3], settings[4]
    height, width, channels = settings[10], settings[11], settings[12]
    offsets, dy, x = place_of(given[0]), place_of(given[1]), place_of(given[2])
    result = tensor(room, FLOATS, settings[16 : 16 + settings[15]])
    dw = place_of(given[3]) if given.size > 3 else place_of(result)
    y_row, x_row = 4 * columns * samples, 4 * width * samples
    made, alive = _live(dy, filters, rows * y_row, 4 * terms)
    live, count = _live(x, channels, 4 * settings[9] * settings[14] * samples, 1)
    if alive < filters or count < channels:
        clear(dw, 4 * filters * terms)
    if alive == 0 or count == 0:
        return result
    spread, size = 0, 0
    if settings[13] == 0:
        size = 4 * channels * settings[5] * settings[6] * height * width * samples
        spread = take(room, size)
        _spread(x, data(spread), settings, live[:count, 1])
        x = data(spread)
    rows_of, read = _padded(made, alive, FILTERS), _terms(offsets, live[:count, 1], terms // channels)
    rows_of[:, 1] += dw
    for f in range(0, len(rows_of), FILTERS):
        for t in range(0, len(read), TERMS):
            out, there = rows_of.ctypes.data + 16 * f, read.ctypes.data + 16 * t
            _slopes_of(dy, out, y_row, x, there, x_row, rows, columns * samples // LANES)
    if spread != 0:
        give_back(room, spread, size)
    return result


@native()
def _terms(offsets: int, live: Any, taps: int) -> Any:
    """Return bytes from x and in a row of dw for the terms of the channels that are not zero."""
    table = carray(pointer(offsets), ((live[-1] + 1) * taps,), np.int32)
    found = np.empty((len(live) * taps, 2), np.int64)
    for number in range(len(live)):
        for tap in range(taps):
            term = live[number] * taps + tap
            found[number * taps + tap, 0], found[number * taps + tap, 1] = table[term], 4 * term
    return _padded(found, len(found), TERMS)


@native()
def _padded(rows: Any, count: int, tile: int) -> Any:
    """Return the first rows, the last of them repeated until tiles are full."""
    found = np.empty((-(-count // tile) * tile, 2), np.int64)
    for number in range(len(found)):
        found[number] = rows[min(number, count - 1)]
    return found


@native()
def _spread(source: int, target: int, settings: Any, live: Any) -> None:
    """Write channels of x with zeros around them, every phase of strides apart.

    target: floats [channels, down, across, height, width, samples].
    """
    one, down, across, above, left = 4 * settings[4], settings[5], settings[6], settings[7], settings[8]
    tall, height, width = settings[9], settings[10], settings[11]
    wide, stride, other_stride = settings[14], settings[20], settings[21]
    for channel in live:
        there = target + channel * down * across * height * width * one
        for phase in range(down):
            for other in range(across):
                # Columns from `first` to `stop` of a phase are columns of x.
                first = max(0, -(-(left - other) // other_stride))
                stop = max(first, min(width, (wide - 1 + left - other) // other_stride + 1))
                for row in range(height):
                    at = row * stride + phase - above
                    here = source + (channel * tall + at) * wide * one
                    if at < 0 or at >= tall:
                        clear(there, width * one)
                    else:
                        clear(there, first * one)
                        column = here + (first * other_stride + other - left) * one
                        if other_stride == 1:
                            copy(there + first * one, column, (stop - first) * one)
                        else:
                            for each in range(first, stop):
                                copy(there + each * one, column, one)
                                column += other_stride * one
                        clear(there + stop * one, (width - stop) * one)
                    there += width * one


@native()
def pool(room: int, settings: Any, given: Any, made: Any) -> None:
    """Make the largest of every window, and the taps at which they were found, bytes.

    settings: taps, channels, vectors of a channel of y, bytes of a channel of x, the shape of y. given: the table int32
    [vectors, taps], x.
    """
    taps, channels, vectors, plane = settings[0], settings[1], settings[2], settings[3]
    table, x = place_of(given[0]), place_of(given[1])
    made[0] = tensor(room, FLOATS, _shape(settings, 4))
    made[1] = tensor(room, BYTES, _shape(settings, 4))
    y, taken = place_of(made[0]), place_of(made[1])
    for channel in range(channels):
        for vector in range(vectors):
            at = (channel * vectors + vector) * LANES
            _pool_of(x + channel * plane, table + 4 * vector * taps, taps, y + 4 * at, taken + at)


@native()
def unpool(room: int, settings: Any, given: Any) -> int:
    """Return the gradient of what was pooled. settings: as of `pool`, with the shape of x. given: table, dy, taken."""
    taps, channels, vectors, plane = settings[0], settings[1], settings[2], settings[3]
    table, dy, taken = place_of(given[0]), place_of(given[1]), place_of(given[2])
    made = tensor(room, FLOATS, _shape(settings, 4))
    dx = place_of(made)
    for channel in range(channels):
        clear(dx + channel * plane, plane)
        for vector in range(vectors):
            at = (channel * vectors + vector) * LANES
            _unpool_of(dy + 4 * at, taken + at, table + 4 * vector * taps, taps, dx + channel * plane)
    return made

"""Convolutions that threads divide among themselves by weights, not by samples: compiled, as `door` calls them.

Where a layer has many weights and few places, the time goes into reading weights: every thread reads all of them for
its samples, makes a gradient of all of them, and adds it to that of the threads before. Here threads meet
(`meeting.py`) and tell each other where their tensors lie. Then each takes a share of the filters (back: of the
channels too) for the samples of all, writes what it found into the tensors of all, and they meet again. So a weight is
read once, as it lies, and its gradient is written once, where the optimizer reads it. The order of sums does not depend
on how many threads there are. Filters that are zero, and gradients of them that are, cost nothing.

settings of both functions: filters, channels, taps, places of an image of x and of y, samples of this thread, the
number of the place in the graph, whether there is a bias (back: a gradient of x), and the shape of what is made. given:
the thread's `Meeting.member` and the table, int32 [taps, places of y], that tells which place of x meets which of y, -1
for none; the rest as each says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from onnx_oto.runtime.compiled import clear, native, pointer
from onnx_oto.runtime.meeting import index_of, tell, wait_for_all
from onnx_oto.runtime.product_tiles import outer_tile, product_tile
from onnx_oto.runtime.rooms import FLOATS, data, give_back, place_of, take, tensor
from onnx_oto.runtime.stacked import LANES

ROWS = 8 if LANES > 8 else 4
"""Filters of a tile."""
WIDEST = 3
"""Vectors of a tile at the most; there are tiles of two, too."""
_CHUNK = 512  # weights of a filter whose gradients by places stay in a cache while all filters are read
_X, _Y, _DX = 1, 2, 3
"""Columns of what threads tell each other, behind the number of their samples: where tensors lie."""

_two, _three = (product_tile(LANES, ROWS, wide) for wide in (2, WIDEST))
_outer_two, _outer_three = (outer_tile(LANES, ROWS, wide) for wide in (2, WIDEST))


@native()
def convolve(room: int, settings: Any, given: Any) -> int:
    """Return y for the samples of this thread. given, further: x, the weight, and the bias or what stands for it."""
    filters, terms, made = settings[0], settings[1] * settings[2], settings[4]
    x, weight, bias = place_of(given[2]), place_of(given[3]), place_of(given[4])
    result: int = tensor(room, FLOATS, settings[8:12])
    told = tell(place_of(given[0]), settings[6], (settings[5], x, place_of(result), 0))
    if len(told) == 0:
        return result
    wide = _padded(told[:, 0].sum() * made)
    size = 4 * wide * (terms + filters)
    place = take(room, size)
    seen, found = data(place), data(place) + 4 * wide * terms
    _unfold(told, settings, place_of(given[1]), seen, False, wide)
    rows, live = _live_first(weight, filters, terms)
    own, idle = _shares(rows, live, place_of(given[0]), len(told))
    for f in idle:
        clear(found + 4 * f * wide, 4 * wide)
    _multiply(weight, 4 * terms, own, seen, 4 * wide, terms, found, wide // LANES)
    _scatter(told, found, wide, own, settings, bias)
    _scatter(told, found, wide, idle, settings, bias)
    wait_for_all(place_of(given[0]), settings[6])
    give_back(room, place, size)
    return result


@native()
def slopes(room: int, settings: Any, given: Any, wanted: Any) -> None:
    """Make the gradient of x for the samples of this thread, and write its share of the weight's where it is wanted.

    given, further: dy, x, the weight, and where its gradient is wanted. wanted: the gradient of x if there is one, and
    a tensor of one float.
    """
    filters, channels, taps, made = settings[0], settings[1], settings[2], settings[4]
    terms, back, dx, member = channels * taps, settings[7] != 0, 0, place_of(given[0])
    if back:
        wanted[0] = tensor(room, FLOATS, settings[8:12])
        dx = place_of(wanted[0])
    wanted[1 if back else 0] = tensor(room, FLOATS, settings[12:13])
    told = tell(member, settings[6], (settings[5], place_of(given[3]), place_of(given[2]), dx))
    if len(told) == 0:
        return
    count = told[:, 0].sum() * made
    wide = _padded(count)
    size = 4 * (wide * filters + terms * max(count, wide))
    place = take(room, size)
    dy, rest = data(place), data(place) + 4 * wide * filters
    _collect(told, _Y, carray(pointer(dy), (filters, wide), np.float32), made)
    _unfold(told, settings, place_of(given[1]), rest, True, count)
    rows, live = _live_first(dy, filters, wide)
    own, idle = _shares(rows, live, member, len(told))
    dw = place_of(given[5])
    for f in idle:
        clear(dw + 4 * f * terms, 4 * terms)
    _multiply(dy, 4 * wide, own, rest, 4 * terms, count, dw, terms // LANES)
    if back:
        left, right = _part(channels, member, len(told))
        weight = place_of(given[4]) + 4 * left * taps
        _multiply_back(weight, 4 * terms, (right - left) * taps, rows[:live], dy, rest, wide)
        _fold(told, settings, place_of(given[1]), rest, wide, left, right)
    wait_for_all(member, settings[6])
    give_back(room, place, size)


@native()
def _padded(count: int) -> int:
    """Return the columns of rows with so many places: whole vectors, two of them or more."""
    return max(2, -(-count // LANES)) * LANES


@native()
def _part(count: int, member: int, threads: int) -> Any:
    """Return the first of so many that a thread takes, and the first of the next thread's."""
    own = index_of(member)
    return count * own // threads, count * (own + 1) // threads


@native()
def _live_first(address: int, count: int, size: int) -> Any:
    """Return the numbers of rows of floats, first those that are not zero, and how many these are."""
    rows, order, live = carray(pointer(address), (count, size), np.float32), np.empty(count, np.int64), 0
    dead = count
    for row in range(count):
        at = 0
        while at < size and rows[row, at] == 0.0:
            at += 1
        if at < size:
            order[live] = row
            live += 1
        else:
            dead -= 1
            order[dead] = row
    return order, live


@native()
def _shares(rows: Any, live: int, member: int, threads: int) -> Any:
    """Return a thread's share of the rows that are not zero, and of those that are."""
    first, last = _part(live, member, threads)
    left, right = _part(len(rows) - live, member, threads)
    return rows[first:last], rows[live + left : live + right]


@native()
def _places(rows: Any, first: int, one: int, one_row: int, other: int, other_row: int, spare: int) -> Any:
    """Return where the rows of a tile lie, int64 [ROWS, 2]: of two matrices, those that are too few as `spare` says.

    spare: where a row of the second matrix lies that may stand for any, 0 for the last row itself.
    """
    found = np.empty((ROWS, 2), np.int64)
    for at in range(ROWS):
        row = rows[min(first + at, len(rows) - 1)]
        found[at, 0] = one + row * one_row
        found[at, 1] = spare if spare and first + at >= len(rows) else other + row * other_row
    return found


@native()
def _multiply(a: int, a_row: int, rows: Any, b: int, b_row: int, terms: int, y: int, vectors: int) -> None:
    """Write some rows of y = a b: so many vectors of each. a_row, b_row: bytes of a row; y lies as b does."""
    for first in range(0, len(rows), ROWS):
        places = _places(rows, first, a, a_row, y, b_row, 0)
        done = 0
        while done < vectors:
            left = vectors - done
            if left == 2 or left == 4 or vectors < WIDEST:
                at = 4 * LANES * done
                _two(places.ctypes.data, at, b + at, b_row, terms)
                done += 2
            else:
                at = 4 * LANES * (done if left >= WIDEST else vectors - WIDEST)
                _three(places.ctypes.data, at, b + at, b_row, terms)
                done += WIDEST


@native()
def _multiply_back(weight: int, row: int, terms: int, filters: Any, dy: int, found: int, wide: int) -> None:
    """Write found [terms, wide] = sum over some filters of weight [filter, terms] dy [filter, wide].

    row: bytes from one filter of weights to the next.
    """
    clear(found, 4 * terms * wide)
    nothing = np.zeros(wide, np.float32)
    tiles = -(-len(filters) // ROWS)
    places = np.empty((tiles, ROWS, 2), np.int64)
    for tile in range(tiles):
        places[tile] = _places(filters, tile * ROWS, weight, row, dy, 4 * wide, nothing.ctypes.data)
    for start in range(0, terms, _CHUNK):
        count, done = min(_CHUNK, terms - start), 0
        while done < wide:
            vectors = 2 if wide - done == 2 * LANES or wide - done == 4 * LANES else WIDEST
            at = found + 4 * (start * wide + done)
            for tile in range(tiles):
                there = places.ctypes.data + 16 * ROWS * tile
                if vectors == 2:
                    _outer_two(there, 4 * start, 4 * done, count, at, 4 * wide)
                else:
                    _outer_three(there, 4 * start, 4 * done, count, at, 4 * wide)
            done += vectors * LANES
    nothing[0] = 0.0  # it is read until here


@native()
def _collect(told: Any, which: int, rows: Any, size: int) -> None:
    """Write what all samples have, each [rows, size], side by side into rows, with zeros behind.

    which: the column of `told` that says where the samples of a thread lie.
    """
    begin = 0
    for thread in range(len(told)):
        samples = told[thread, 0]
        there = carray(pointer(told[thread, which]), (samples, len(rows), size), np.float32)
        for sample in range(samples):
            for row in range(len(rows)):
                for one in range(size):
                    rows[row, begin + one] = there[sample, row, one]
            begin += size
    for row in range(len(rows)):
        rows[row, begin:] = 0.0


@native()
def _scatter(told: Any, source: int, wide: int, chosen: Any, settings: Any, bias: int) -> None:
    """Write some filters of y for all samples."""
    filters, made = settings[0], settings[4]
    rows, begin = carray(pointer(source), (filters, wide), np.float32), 0
    offsets = carray(pointer(bias), (filters if settings[7] else 1,), np.float32)
    for thread in range(len(told)):
        samples = told[thread, 0]
        there = carray(pointer(told[thread, _Y]), (samples, filters, made), np.float32)
        for sample in range(samples):
            for f in chosen:
                offset = offsets[f] if settings[7] else np.float32(0.0)
                for one in range(made):
                    there[sample, f, one] = rows[f, begin + one] + offset
            begin += made


@native()
def _unfold(told: Any, settings: Any, table: int, target: int, by_place: bool, count: int) -> None:
    """Write what each weight of a filter (term) meets at each place of all samples, zeros where that is nothing.

    target: floats [terms, count], by place [count, terms]; behind the places of samples stand zeros.
    """
    channels, taps, read, made = settings[1], settings[2], settings[3], settings[4]
    samples = told[:, 0].sum()
    meets = carray(pointer(table), (taps, made), np.int32)
    lines = np.empty((channels, samples * read + 1), np.float32)  # with a zero behind, for what meets nothing
    _collect(told, _X, lines, read)
    places = np.full((taps, count), samples * read, np.int32)
    for tap in range(taps):
        for sample in range(samples):
            for one in range(made):
                if meets[tap, one] >= 0:
                    places[tap, sample * made + one] = sample * read + meets[tap, one]
    found, at = carray(pointer(target), (channels * taps * count,), np.float32), 0
    if by_place:
        for one in range(count):
            for channel in range(channels):
                for tap in range(taps):
                    found[at] = lines[channel, places[tap, one]]
                    at += 1
    else:
        for channel in range(channels):
            for tap in range(taps):
                for one in range(count):
                    found[at + one] = lines[channel, places[tap, one]]
                at += count


@native()
def _fold(told: Any, settings: Any, table: int, source: int, wide: int, left: int, right: int) -> None:
    """Write some channels of dx for all samples: sums of what their terms [terms of these channels, wide] found."""
    channels, taps, read, made = settings[1], settings[2], settings[3], settings[4]
    meets = carray(pointer(table), (taps, made), np.int32)
    rows = carray(pointer(source), ((right - left) * taps, wide), np.float32)
    begin = 0
    for thread in range(len(told)):
        size = told[thread, 0]
        there = carray(pointer(told[thread, _DX]), (size, channels, read), np.float32)
        for sample in range(size):
            for channel in range(left, right):
                plane = there[sample, channel]
                plane[:] = 0.0
                for tap in range(taps):
                    row = rows[(channel - left) * taps + tap]
                    for one in range(made):
                        if meets[tap, one] >= 0:
                            plane[meets[tap, one]] += row[begin + one]
            begin += made

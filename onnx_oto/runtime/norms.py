"""BatchNormalization in training and its gradient, over tensors [outer, channels, inner]: compiled, as `door` calls it.

outer are the samples, inner the places of an image; of stacked tensors outer is 1. Each thread takes the moments of
its own samples; threads that share a batch tell them each other (`meeting`). What a Relu behind the norm does is done
in the same pass. Sums of at most `_CHUNK` elements are float32, and those are added up in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from onnx_oto.runtime.compiled import native, pointer
from onnx_oto.runtime.meeting import add_up, join_moments
from onnx_oto.runtime.rooms import FLOATS, place_of, tensor

Floats = NDArray[np.float32]

_CHUNK = 2048
_LANES = 64
"""Sums that are made side by side, so that they are vectors. In which order is written out: code that may choose it
(`fastmath`) is compiled otherwise beside other code, and a run would not repeat."""


@native()
def _together(sums: Any) -> Any:
    """Return the sum of what the lanes have."""
    width = _LANES // 2
    while width:
        for lane in range(width):
            sums[lane] += sums[lane + width]
        width //= 2
    return sums[0]


@native()
def _sum_few(row: Any, sums: Any) -> None:
    whole = row.size - row.size % _LANES
    for begin in range(0, whole, _LANES):
        for lane in range(_LANES):
            sums[lane] += row[begin + lane]
    for lane in range(row.size - whole):
        sums[lane] += row[whole + lane]


@native()
def _squares_of_few(row: Any, mean: Any, sums: Any) -> None:
    whole = row.size - row.size % _LANES
    for begin in range(0, whole, _LANES):
        for lane in range(_LANES):
            apart = row[begin + lane] - mean
            sums[lane] += apart * apart
    for lane in range(row.size - whole):
        apart = row[whole + lane] - mean
        sums[lane] += apart * apart


@native()
def _products_of_few(row: Any, other: Any, mean: Any, sums: Any, turned: Any) -> None:
    whole = row.size - row.size % _LANES
    for begin in range(0, whole, _LANES):
        for lane in range(_LANES):
            value = row[begin + lane]
            sums[lane] += value
            turned[lane] += value * (other[begin + lane] - mean)
    for lane in range(row.size - whole):
        value = row[whole + lane]
        sums[lane] += value
        turned[lane] += value * (other[whole + lane] - mean)


@native()
def _products_above_of_few(row: Any, other: Any, mean: Any, made: Any, sums: Any, turned: Any) -> None:
    nothing = np.float32(0.0)
    whole = row.size - row.size % _LANES
    for begin in range(0, whole, _LANES):
        for lane in range(_LANES):
            value = row[begin + lane] if made[begin + lane] > nothing else nothing
            sums[lane] += value
            turned[lane] += value * (other[begin + lane] - mean)
    for lane in range(row.size - whole):
        value = row[whole + lane] if made[whole + lane] > nothing else nothing
        sums[lane] += value
        turned[lane] += value * (other[whole + lane] - mean)


@native()
def _total(rows: Any, c: int, mean: Any, squared: Any, sums: Any) -> float:
    """Return the sum of a channel of x [outer, channels, inner], or of the squares of how far it is from its mean.

    sums: room for what lanes have.
    """
    total, held = 0.0, 0
    sums[:] = np.float32(0.0)
    for o in range(rows.shape[0]):
        for begin in range(0, rows.shape[2], _CHUNK):
            few = rows[o, c, begin : begin + _CHUNK]
            if held + few.size > _CHUNK:
                total += _together(sums)
                sums[:] = np.float32(0.0)
                held = 0
            if squared:
                _squares_of_few(few, mean, sums)
            else:
                _sum_few(few, sums)
            held += few.size
    return total + _together(sums)


@native()
def _products(
    rows: Any, others: Any, c: int, mean: Any, made: Any, above: Any, sums: Any, turned: Any
) -> tuple[float, float]:
    """Return the sum of a channel of `rows`, and that of its products with how far `others` are from their mean.

    above: only of what is where `made` is above 0. sums, turned: room for what lanes have.
    """
    total, products, held = 0.0, 0.0, 0
    sums[:] = np.float32(0.0)
    turned[:] = np.float32(0.0)
    for o in range(rows.shape[0]):
        for begin in range(0, rows.shape[2], _CHUNK):
            end = begin + _CHUNK
            few, other = rows[o, c, begin:end], others[o, c, begin:end]
            if held + few.size > _CHUNK:
                total += _together(sums)
                products += _together(turned)
                sums[:] = np.float32(0.0)
                turned[:] = np.float32(0.0)
                held = 0
            if above:
                _products_above_of_few(few, other, mean, made[o, c, begin:end], sums, turned)
            else:
                _products_of_few(few, other, mean, sums, turned)
            held += few.size
    return total + _together(sums), products + _together(turned)


@native()
def _scale(row: Any, out: Any, middle: Any, slope: Any, start: Any) -> None:
    for i in range(row.size):
        out[i] = (row[i] - middle) * slope + start


@native()
def _scale_and_floor(row: Any, out: Any, middle: Any, slope: Any, start: Any) -> None:
    nothing = np.float32(0.0)
    for i in range(row.size):
        value = (row[i] - middle) * slope + start
        out[i] = nothing if value < nothing else value  # what is no number stays none


@native()
def _tilt(row: Any, read: Any, out: Any, middle: Any, slope: Any, less: Any, tilt: Any) -> None:
    for i in range(row.size):
        out[i] = slope * row[i] - less - tilt * (read[i] - middle)


@native()
def _tilt_above(
    row: Any, read: Any, out: Any, made: Any, middle: Any, slope: Any, less: Any, tilt: Any
) -> None:
    nothing = np.float32(0.0)
    for i in range(row.size):
        value = row[i] if made[i] > nothing else nothing
        out[i] = slope * value - less - tilt * (read[i] - middle)


@native()
def _tensor(structure: int, settings: Any) -> Any:
    return carray(pointer(structure), (settings[0], settings[1], settings[2]), np.float32)


@native()
def _vector(structure: int, channels: int) -> Any:
    return carray(pointer(place_of(structure)), (channels,), np.float32)


@native()
def normalise(room: int, settings: Any, given: Any, made: Any) -> None:
    """Make y, running mean, running variance, mean and 1 / deviation.

    settings: outer, channels, inner, whether a Relu follows, axes of y and their sizes. given: the member, settings of
    `meeting.join_moments`, x, scale, shift, running mean and variance.
    """
    channels, relu = settings[1], settings[3]
    words, index = _member(given[0])
    chosen = carray(pointer(place_of(given[1])), (4,), np.float64)
    x = _tensor(place_of(given[2]), settings)
    scale, shift = _vector(given[3], channels), _vector(given[4], channels)
    own_mean, own_variance = np.zeros(channels), np.zeros(channels)
    count = settings[0] * settings[2]
    sums = np.zeros(_LANES, np.float32)
    for c in range(channels):
        own_mean[c] = _total(x, c, np.float32(0.0), False, sums) / count
        own_variance[c] = _total(x, c, np.float32(own_mean[c]), True, sums) / count
        rounded = own_mean[c] - np.float32(own_mean[c])  # what is squared is apart from the rounded mean
        own_variance[c] = max(own_variance[c] - rounded * rounded, 0.0)
    made[0] = tensor(room, FLOATS, settings[5 : 5 + settings[4]])
    for each in range(1, 5):
        made[each] = tensor(room, FLOATS, settings[1:2])
    mean, inverse = _vector(made[3], channels), _vector(made[4], channels)
    join_moments(
        words,
        index,
        chosen,
        (own_mean, own_variance, _vector(given[5], channels), _vector(given[6], channels)),
        (_vector(made[1], channels), _vector(made[2], channels), mean, inverse),
    )
    y = _tensor(place_of(made[0]), settings)
    for o in range(settings[0]):
        for c in range(channels):
            middle, slope, start = mean[c], inverse[c] * scale[c], shift[c]
            row, out = x[o, c], y[o, c]
            if relu:
                _scale_and_floor(row, out, middle, slope, start)
            else:
                _scale(row, out, middle, slope, start)


@native()
def _member(structure: int) -> tuple[int, int]:
    member = carray(pointer(place_of(structure)), (2,), np.int64)
    return member[0], member[1]


@native()
def denormalise(room: int, settings: Any, given: Any, made: Any) -> None:
    """Make the gradients of x, scale and shift; of the last two those by this thread's samples.

    settings: as of `normalise`. given: the member, its settings, dy, x, scale, mean, 1 / deviation, and y where a Relu
    follows.
    """
    channels, relu = settings[1], settings[3]
    words, index = _member(given[0])
    chosen = carray(pointer(place_of(given[1])), (4,), np.float64)
    dy, x = _tensor(place_of(given[2]), settings), _tensor(place_of(given[3]), settings)
    scale, mean, inverse = (
        _vector(given[4], channels),
        _vector(given[5], channels),
        _vector(given[6], channels),
    )
    y = _tensor(place_of(given[7]), settings) if relu else x
    moved, turned = np.zeros(channels), np.zeros(channels)
    sums, products = np.zeros(_LANES, np.float32), np.zeros(_LANES, np.float32)
    for c in range(channels):
        moved[c], other = _products(dy, x, c, mean[c], y, relu, sums, products)
        turned[c] = other * inverse[c]
    made[0] = tensor(room, FLOATS, settings[5 : 5 + settings[4]])
    made[1], made[2] = tensor(room, FLOATS, settings[1:2]), tensor(room, FLOATS, settings[1:2])
    for c in range(channels):
        _vector(made[1], channels)[c] = turned[c]
        _vector(made[2], channels)[c] = moved[c]
    whole = add_up(words, index, chosen, moved, turned)
    dx = _tensor(place_of(made[0]), settings)
    for o in range(settings[0]):
        for c in range(channels):
            slope = scale[c] * inverse[c]
            less = np.float32(slope * moved[c] / whole)
            tilt = np.float32(slope * inverse[c] * turned[c] / whole)
            row, read, out, kept, middle = dy[o, c], x[o, c], dx[o, c], y[o, c], mean[c]
            if relu:
                _tilt_above(row, read, out, kept, middle, slope, less, tilt)
            else:
                _tilt(row, read, out, middle, slope, less, tilt)

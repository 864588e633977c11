"""Threads that each run a graph over some samples of a batch, and tell each other statistics in the middle of it.

The node that does (see `joining`) calls `ask`, compiled code that takes no lock of the interpreter's, with its tensors
as DLPack structures (dlpack.h 0.x).

Moments are combined after Chan, Golub and LeVeque (1983): the variance of the whole is the mean variance of the parts
plus the variance of their means, which loses nothing to cancellation. Every thread computes the same numbers in the
same order, so all have the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from onnx_oto.runtime.compiled import address_of_free, allocate, give_way, load, native, pointer, store

Ints = NDArray[np.int64]

_PATIENCE = 20_000
"""Looks at the others before the core is offered to other threads: some twenty microseconds."""
_LINE = 8  # words of a cache line
_COUNT, _LEFT, _TOLD, _ROOM, _SHARES = range(5)
"""Words of a meeting: threads, whether one left, where they tell, floats of a thread's room there, their shares."""
_CROSSED = 2
"""What stands where `_LEFT` is when threads met at different places."""
_HEAD = 128  # bytes in front of a vector that is given to the runtime: its structure, shape and stride


class Meeting:
    """shares: of the batch, in the order of the threads; their sum is 1. channels: of the widest vector.

    Its memory is read by address: it must be kept as long as a graph runs.
    """

    def __init__(self, shares: Sequence[float], channels: int) -> None:
        count = len(shares)
        self._shares = np.array(shares, np.float64)
        self._told = np.zeros((2, count, 2 * channels + 1), np.float64)
        self._words = np.zeros((count + 2) * _LINE, np.int64)
        self._words[_COUNT] = count
        self._words[_TOLD] = self._told.ctypes.data
        self._words[_ROOM] = 2 * channels + 1
        self._words[_SHARES] = self._shares.ctypes.data

    def member(self, index: int) -> Ints:
        """Return what the graph of a thread is fed, int64 [2]."""
        return np.array([self._words.ctypes.data, index], np.int64)

    def begin(self) -> None:
        """Forget who left; nobody may be in the meeting."""
        self._words[_LEFT] = 0
        self._words[_LINE:] = 0

    def leave(self) -> None:
        """Let nobody wait any longer: whoever does or will goes on with nonsense."""
        self._words[_LEFT] = 1

    @property
    def missed(self) -> bool:
        """Whether threads met that were at different places of their graphs; what they computed is nonsense."""
        return bool(self._words[_LEFT] == _CROSSED)


@native()
def _wait(words: int, index: int) -> int:
    """Tell the others that this thread told them something, and wait until all have; return the turn, 0 or 1."""
    own = words + 8 * _LINE * (index + 1)
    turn = load(own)
    store(own, turn + 1)
    for other in range(load(words + 8 * _COUNT)):
        place, looks = words + 8 * _LINE * (other + 1), 0
        while load(place) <= turn and load(words + 8 * _LEFT) == 0:
            looks += 1
            if looks > _PATIENCE:
                give_way()
    return turn & 1


@native()
def _room(words: int, turn: int, index: int) -> Any:
    """Return where a thread tells in a turn: nobody is two turns ahead."""
    count, size = load(words + 8 * _COUNT), load(words + 8 * _ROOM)
    place = load(words + 8 * _TOLD) + 8 * size * (turn * count + index)
    return carray(pointer(place), (size,), np.float64)


@native()
def _own(words: int, index: int) -> Any:
    """Return where a thread tells next."""
    return _room(words, load(words + 8 * _LINE * (index + 1)) & 1, index)


@native()
def _meet(words: int, index: int, place: float) -> int:
    """Wait for the others at a place of the graph, a number; return the turn."""
    _own(words, index)[-1] = place
    turn = _wait(words, index)
    for thread in range(load(words + 8 * _COUNT)):
        if _room(words, turn, thread)[-1] != place and load(words + 8 * _LEFT) == 0:
            store(words + 8 * _LEFT, _CROSSED)
    return turn


@native()
def tell(member: int, place: float, numbers: Any) -> Any:
    """Tell the others some whole numbers, below 2 ** 53; return those of all, int64 [threads, numbers].

    member: where a thread's `Meeting.member` lies; of zeros if it is alone. None at all where somebody left or is
    elsewhere: then no thread gets any, and nobody is where the others may be read. Until `wait_for_all` all are.
    """
    words, index = _member(member)
    count = 1 if words == 0 else load(words + 8 * _COUNT)
    found = np.empty((count, len(numbers)), np.int64)
    if words == 0:
        for column, number in enumerate(numbers):
            found[0, column] = number
        return found
    own = _own(words, index)
    for column, number in enumerate(numbers):
        own[column] = number
    turn = _meet(words, index, place)
    if load(words + 8 * _LEFT) != 0:
        return found[:0]
    for thread in range(count):
        told = _room(words, turn, thread)
        for column in range(len(numbers)):
            found[thread, column] = np.int64(told[column])
    return found


@native()
def wait_for_all(member: int, place: float) -> None:
    """Wait until all threads are here."""
    words, index = _member(member)
    if words != 0:
        _meet(words, index, place)


@native()
def index_of(member: int) -> int:
    """Return which of the threads this is."""
    index: int = _member(member)[1]
    return index


@native()
def _member(member: int) -> Any:
    place = carray(pointer(member), (2,), np.int64)
    return place[0], place[1]


@native()
def _unbiased(count: float) -> float:
    return count / (count - 1.0) if count > 1.0 else 1.0


@native()
def _pooled(words: int, index: int, settings: Any, channels: int) -> Any:
    """Return mean and variance of the whole batch, and what makes its variance unbiased as this thread counts.

    Each thread has told means and, behind them, variances (see `_own`); settings: as of `_moments`.
    """
    turn, count = _meet(words, index, settings[3]), load(words + 8 * _COUNT)
    shares = carray(pointer(load(words + 8 * _SHARES)), (count,), np.float64)
    measure = _unbiased(settings[0] / shares[index]) / _unbiased(settings[0])
    means, variances = np.zeros(channels), np.zeros(channels)
    for thread in range(count):
        told, share = _room(words, turn, thread), shares[thread]
        for c in range(channels):
            means[c] += share * told[c]
    for thread in range(count):
        told, share = _room(words, turn, thread), shares[thread]
        for c in range(channels):
            apart = told[c] - means[c]
            variances[c] += share * (told[channels + c] + apart * apart)
    return means, variances, measure


@native()
def _moments(words: int, index: int, settings: Any, inputs: Any, outputs: Any) -> None:
    """Running mean, running variance, mean, 1 / deviation and variance of the whole batch.

    settings: elements of a channel that this thread has, epsilon, momentum, the place. inputs: mean and 1 / deviation
    of this thread's samples, running mean and variance so far. The running variance is in the measure of this thread,
    whose own count makes it an unbiased one.
    """
    own_mean, own_inverse, running_mean, running_variance = inputs
    channels = own_mean.size
    own = _own(words, index)
    for c in range(channels):
        inverse = np.float64(own_inverse[c])
        own[c] = own_mean[c]
        own[channels + c] = 1.0 / (inverse * inverse)
    epsilon, kept = settings[1], settings[2]
    means, totals, measure = _pooled(words, index, settings, channels)
    for c in range(channels):
        variance = totals[c] - epsilon
        outputs[0][c] = kept * running_mean[c] + (1.0 - kept) * means[c]
        outputs[1][c] = kept * running_variance[c] + (1.0 - kept) * measure * variance
        outputs[2][c] = means[c]
        outputs[3][c] = 1.0 / np.sqrt(totals[c])
        outputs[4][c] = variance


@native()
def join_moments(words: int, index: int, settings: Any, inputs: Any, outputs: Any) -> None:
    """Running mean, running variance, mean and 1 / deviation of the whole batch, of one thread's where it is alone.

    inputs: mean and variance of this thread's samples in float64, running mean and variance so far; see `_moments`.
    """
    own_mean, own_variance, running_mean, running_variance = inputs
    channels, epsilon, kept = own_mean.size, settings[1], settings[2]
    means, variances, measure = own_mean, own_variance, 1.0
    if words != 0:
        own = _own(words, index)
        for c in range(channels):
            own[c], own[channels + c] = own_mean[c], own_variance[c]
        means, variances, measure = _pooled(words, index, settings, channels)
    for c in range(channels):
        outputs[0][c] = kept * running_mean[c] + (1.0 - kept) * means[c]
        outputs[1][c] = kept * running_variance[c] + (1.0 - kept) * measure * variances[c]
        outputs[2][c] = means[c]
        outputs[3][c] = 1.0 / np.sqrt(variances[c] + epsilon)


@native()
def add_up(words: int, index: int, settings: Any, first: Any, second: Any) -> float:
    """Make two vectors, in place, the sums of those of all threads; return how many elements a channel has in all."""
    if words == 0:
        return settings[0]
    channels, own = first.size, _own(words, index)
    for c in range(channels):
        own[c], own[channels + c] = first[c], second[c]
    turn, count = _meet(words, index, settings[3]), load(words + 8 * _COUNT)
    shares = carray(pointer(load(words + 8 * _SHARES)), (count,), np.float64)
    first[:] = 0.0
    second[:] = 0.0
    for thread in range(count):
        told = _room(words, turn, thread)
        for c in range(channels):
            first[c] += told[c]
            second[c] += told[channels + c]
    return settings[0] / shares[index]


@native()
def _slopes(words: int, index: int, settings: Any, inputs: Any, outputs: Any) -> None:
    """Factor and offset of x that this thread's gradient of x lacks.

    settings: as above. inputs: gradients of scale and shift by this thread's samples; scale, mean, 1 / deviation.
    With d = scale / deviation, the kernel subtracted d (shift' + (x - mean) scale' / deviation) / elements of its own.
    """
    own_turned, own_moved, scale, mean, inverse = inputs
    channels = own_turned.size
    own = _own(words, index)
    for c in range(channels):
        own[c] = own_turned[c]
        own[channels + c] = own_moved[c]
    turn, count = _meet(words, index, settings[3]), load(words + 8 * _COUNT)
    shares = carray(pointer(load(words + 8 * _SHARES)), (count,), np.float64)
    whole = settings[0] / shares[index]
    turned, moved = np.zeros(channels), np.zeros(channels)
    for thread in range(count):
        told = _room(words, turn, thread)
        for c in range(channels):
            turned[c] += told[c]
            moved[c] += told[channels + c]
    for c in range(channels):
        slope = scale[c] * np.float64(inverse[c])
        factor = slope * inverse[c] * (own_turned[c] / settings[0] - turned[c] / whole)
        outputs[0][c] = factor
        outputs[1][c] = slope * (own_moved[c] / settings[0] - moved[c] / whole) - mean[c] * factor


@native()
def _vector(structure: int, kind: Any) -> Any:
    """Return the elements of a DLManagedTensor with one axis."""
    words = carray(pointer(structure), (8,), np.int64)
    length = carray(pointer(words[3]), (1,), np.int64)[0]
    return carray(pointer(words[0] + words[5]), (length,), kind)


@native()
def _given(length: int) -> Any:
    """Return the address of a new DLManagedTensor of float32 [length], one block of memory, and its elements."""
    place = allocate(_HEAD + 4 * length)
    words = carray(pointer(place), (_HEAD // 8,), np.int64)
    words[0] = place + _HEAD
    words[1] = 1  # device: CPU
    words[2] = 1 | (2 << 32) | (32 << 40) | (1 << 48)  # one axis of single floats of 32 bits
    words[3], words[4] = place + 64, place + 72
    words[5] = words[6] = 0
    words[7] = address_of_free()
    words[8], words[9] = length, 1  # shape, stride
    return place, carray(pointer(place + _HEAD), (length,), np.float32)


@native()
def ask(function: int, given: Any, wanted: Any) -> None:
    """Tell the others what is given, and make the tensors that are wanted: MOMENTS 0 or SLOPES 1, see `joining`."""
    place = _vector(given[0], np.int64)
    words, index = place[0], place[1]
    settings = _vector(given[1], np.float64)
    first, second = _vector(given[2], np.float32), _vector(given[3], np.float32)
    third, fourth = _vector(given[4], np.float32), _vector(given[5], np.float32)
    wanted[0], one = _given(first.size)
    wanted[1], two = _given(first.size)
    if function == 0:
        wanted[2], three = _given(first.size)
        wanted[3], four = _given(first.size)
        wanted[4], five = _given(first.size)
        if words != 0:
            _moments(words, index, settings, (first, second, third, fourth), (one, two, three, four, five))
        else:
            for c in range(first.size):
                one[c], two[c], three[c] = third[c], fourth[c], first[c]
                four[c], five[c] = second[c], 1.0
    elif words != 0:
        fifth = _vector(given[6], np.float32)
        _slopes(words, index, settings, (first, second, third, fourth, fifth), (one, two))
    else:
        one[:] = 0.0
        two[:] = 0.0

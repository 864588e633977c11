"""Memory that compiled functions make tensors in, for a runtime that takes them over: DLPack structures (dlpack.h 0.x).

A room keeps what the runtime gives back, so that the next step finds memory that the system has made ready: new pages
cost more than what is written to them. A room is one thread's. It is an int64 array, whose address is told to graphs as
that of an input; with zeros in it nothing is kept.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from onnx_oto.runtime.compiled import address_of_free, allocate, ask_2, ask_5, call, native, pointer
from onnx_oto.runtime.joining import ROOM_WORDS

Ints = NDArray[np.int64]

HEAD = 192
"""Bytes in front of a tensor: its structure of 8 words, shape and strides of 4 each, and what is allocated in all."""
_SIZE_AT = 16  # word of the head that holds the bytes behind it
_LINE = 64
_RELEASE, _USED, _FIRST = 0, 1, 8
"""Words of a room: the address of what takes a tensor back, how many it keeps, the first of those: size, address."""
DESK, DESK_WORDS = 2, 5
"""The word of a room where a desk lies, 0 for none, and its words: the node's context, the addresses of the runtime's
functions that give memory for an output and tell where it lies (`KernelContext_GetOutput`, `GetTensorMutableData`), how
many outputs have theirs, and the first status that is none of success."""
FLOATS, BYTES = 2 << 32 | 32 << 40 | 1 << 48, 1 << 32 | 8 << 40 | 1 << 48
"""Kinds of elements, as a structure spells them: float32, uint8."""
WORDS = ROOM_WORDS
_SLOTS = (WORDS - _FIRST) // 2


class Room:
    """words: what graphs are told of it. What it keeps is freed with it."""

    def __init__(self) -> None:
        self.words: Ints = np.zeros(WORDS, np.int64)
        self.words[_RELEASE] = _release.address
        weakref.finalize(self, _clear, self.words).atexit = False


def _clear(words: Ints) -> None:
    _free_all(words.ctypes.data)


@native()
def _free_all(room: int) -> None:
    words = carray(pointer(room), (WORDS,), np.int64)
    for slot in range(words[_USED]):
        call(address_of_free(), words[_FIRST + 2 * slot + 1])
    words[_USED] = 0


@native()
def take(room: int, size: int) -> int:
    """Return the address of a head and so many bytes behind it, at a multiple of 64."""
    words = carray(pointer(room), (WORDS,), np.int64)
    if words[_RELEASE] != 0:
        for slot in range(words[_USED] - 1, -1, -1):  # the last one may be in a cache still
            if words[_FIRST + 2 * slot] == size:
                place = words[_FIRST + 2 * slot + 1]
                words[_USED] -= 1
                for later in range(_FIRST + 2 * slot, _FIRST + 2 * words[_USED]):
                    words[later] = words[later + 2]
                return place
    return allocate(HEAD + size + _LINE)


@native()
def give_back(room: int, place: int, size: int) -> None:
    """Take back what `take` returned."""
    words = carray(pointer(room), (WORDS,), np.int64)
    if words[_RELEASE] == 0 or words[_USED] == _SLOTS:
        call(address_of_free(), place)
        return
    slot = _FIRST + 2 * words[_USED]
    words[slot], words[slot + 1] = size, place
    words[_USED] += 1


@native()
def data(place: int) -> int:
    """Return the address behind a head."""
    return (place + HEAD + _LINE - 1) & -_LINE


@native("void(intp)", callback=True)
def _release(structure: int) -> None:
    words = carray(pointer(structure), (_SIZE_AT + 1,), np.int64)
    give_back(words[6], structure, words[_SIZE_AT])


@native()
def give(desk: int, shape: int, axes: int) -> int:
    """Return where the runtime gives memory for the next output, 0 where it has none. shape: where sizes lie."""
    words, found = carray(pointer(desk), (DESK_WORDS,), np.int64), np.zeros(2, np.int64)
    at = found.ctypes.data
    status = ask_5(words[1], words[0], words[3], shape, axes, at)
    words[3] += 1
    if status == 0:
        status = ask_2(words[2], found[0], at + 8)
    if status != 0 and words[4] == 0:
        words[4] = status
    return found[1]


@native()
def tensor(room: int, kind: int, shape: Any) -> int:
    """Return a new DLManagedTensor: the address of its structure. kind: FLOATS or BYTES. shape: at most four sizes.

    A node makes its outputs in their order.
    """
    size = 1
    for axis in range(shape.size):
        size *= shape[axis]
    size *= 4 if kind == FLOATS else 1
    kept = carray(pointer(room), (WORDS,), np.int64)
    there = give(kept[DESK], shape.ctypes.data, shape.size) if kept[DESK] != 0 else 0
    size = 0 if there != 0 else size
    place = take(room, size)
    words = carray(pointer(place), (_SIZE_AT + 1,), np.int64)
    words[0], words[1] = there if there != 0 else data(place), 1  # on device 1: the CPU
    words[2] = shape.size | kind
    words[3], words[4], words[5], words[6] = place + 64, place + 96, 0, room
    words[7] = kept[_RELEASE] if kept[_RELEASE] != 0 else address_of_free()
    stride = 1
    for axis in range(shape.size - 1, -1, -1):
        words[8 + axis], words[12 + axis] = shape[axis], stride
        stride *= shape[axis]
    words[_SIZE_AT] = size
    return place


@native()
def place_of(structure: int) -> int:
    """Return where the elements of a DLManagedTensor lie."""
    words = carray(pointer(structure), (8,), np.int64)
    return words[0] + words[5]


@native()
def let_go(structure: int) -> None:
    """Give a DLManagedTensor back to who made it."""
    call(carray(pointer(structure), (8,), np.int64)[7], structure)

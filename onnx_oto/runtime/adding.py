"""Threads that add up their gradients while they run graphs, in the order of the threads, in one buffer for all.

A gradient comes as soon as a graph has made it, while it is in a cache still, and its own tensor is free from then on.
Each place of the buffer counts the threads that have been there. The first one writes, the others wait for those before
them: they run the same graph over as many samples, so what they wait is what they are ahead. The sums are those of
whole buffers, one after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray
from numpy.typing import NDArray

from onnx_oto.runtime.compiled import copy, give_way, load, native, pointer, store
from onnx_oto.runtime.rooms import FLOATS, place_of, tensor

_PATIENCE = 20_000
"""Looks at the one before until the core is offered to other threads, as in a meeting."""
_FIRST = 8
"""Word of the first place. Word 0: whether a thread left."""


class Turns:
    """How many threads have added at each place. Its memory is read by address: keep it as long as a graph runs."""

    def __init__(self, places: int) -> None:
        self._words = np.zeros(_FIRST + places, np.int64)

    def member(self, index: int) -> NDArray[np.int64]:
        """Return what the graph of a thread is fed, int64 [2]."""
        return np.array([self._words.ctypes.data, index], np.int64)

    def begin(self) -> None:
        """Begin at all places again; nobody may be there."""
        self._words[:] = 0

    def leave(self) -> None:
        """Let nobody wait any longer: whoever does or will goes on with nonsense."""
        self._words[0] = 1


@native()
def add(room: int, settings: Any, given: Any) -> int:
    """Add a gradient to those of the threads before this one; return a tensor of one float.

    settings: the place, and elements. given: the thread's `member`, the gradient, and where they are added up. Where
    the member is zeros, it is alone.
    """
    member = carray(pointer(place_of(given[0])), (2,), np.int64)
    words, index, size = member[0], member[1], settings[1]
    source, target = place_of(given[1]), place_of(given[2])
    place = words + 8 * (_FIRST + settings[0])
    if index == 0 or words == 0:
        copy(target, source, 4 * size)
    else:
        looks = 0
        while load(place) < index and load(words) == 0:
            looks += 1
            if looks > _PATIENCE:
                give_way()
        total = carray(pointer(target), (size,), np.float32)
        own = carray(pointer(source), (size,), np.float32)
        for element in range(size):
            total[element] += own[element]
    if words != 0:
        store(place, index + 1)
    done: int = tensor(room, FLOATS, settings[2:3])
    return done

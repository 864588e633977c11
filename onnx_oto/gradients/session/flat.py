"""Flat float32 buffers: many named arrays, one after the other, in one aligned block of memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_ALIGNMENT = 64  # bytes: a cache line, and what ONNX Runtime's own allocator gives
_APART = (
    64  # elements, 256 bytes: what allocators of devices give, and more than any vectorised load asks for
)
_WHOLE = 1024  # elements: a buffer can be cut into equal rows


@dataclass(frozen=True)
class FlatLayout:
    """Where each array lies: name -> (offset in elements, shape), in order."""

    slices: dict[str, tuple[int, tuple[int, ...]]]
    size: int

    def views(self, flat: Floats) -> dict[str, Floats]:
        """Return the arrays as views into a flat buffer, which the caller must keep alive."""
        return {
            name: flat[offset : offset + int(np.prod(shape))].reshape(shape)
            for name, (offset, shape) in self.slices.items()
        }

    def pack(self, values: Mapping[str, Floats]) -> Floats:
        """Return a new flat buffer with copies of `values`."""
        flat = aligned_zeros(self.size)
        for name, view in self.views(flat).items():
            view[...] = values[name]
        return flat


def layout(values: Mapping[str, Floats], *, apart: bool = False) -> FlatLayout:
    """Return the layout of the given arrays, in their order.

    apart: as devices want it: every array begins where their memory is aligned, and behind the last one, too, there is
    an element that is none's. What lies between stays 0.
    """
    slices: dict[str, tuple[int, tuple[int, ...]]] = {}
    offset = 0
    for name, value in values.items():
        slices[name] = (offset, value.shape)
        offset += value.size
        if apart:
            offset = _up(offset, _APART)
    return FlatLayout(slices, _up(offset + 1, _WHOLE) if apart else offset)


def _up(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def padded(size: int) -> int:
    """Return the least number of elements, not less than `size`, behind which another aligned array may begin."""
    return _up(size, _ALIGNMENT // 4)


def aligned_zeros(size: int) -> Floats:
    """Return float32 zeros [size] whose address is a multiple of 64 bytes."""
    extra = _ALIGNMENT // 4
    block = np.zeros(size + extra, np.float32)
    start = (-block.ctypes.data % _ALIGNMENT) // 4
    return block[start : start + size]

"""Bringing stored samples into the shape a model reads: a view, never a guess about values.

The ways, tried in this order; the first that gives the model's shape is taken and named:

    as stored                          [C, H, W] for [C, H, W]
    channel axis added                 [H, W] for [1, H, W] or [H, W, 1]
    channel axis dropped               [1, H, W] or [H, W, 1] for [H, W]
    channels last moved to first       [H, W, C] for [C, H, W]
    channels first moved to last       [C, H, W] for [H, W, C]
    flattened in C order               [H, W] or [C, H, W] for [H * W] or [C * H * W]
    unflattened, one channel           [H * W] for [1, H, W], [H, W, 1] or [H, W]
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Pattern = Sequence[int | None]

# Numbers of channels an image can have; used only to find height and width in three-axis samples.
_CHANNELS = (1, 3, 4)
MOST_CHANNELS = max(_CHANNELS)


@dataclass(frozen=True)
class Arrangement:
    """How samples are rearranged: axes of one sample permuted, then reshaped to `shape`; `text` says it."""

    axes: tuple[int, ...]
    shape: Shape
    text: str

    def apply(self, samples: Array) -> Array:
        """Return samples [N, *stored] as [N, *shape], a view where numpy can make one."""
        moved = np.transpose(samples, (0, *(axis + 1 for axis in self.axes)))
        return moved.reshape(len(samples), *self.shape)

    def as_stored(self, served: Array, stored: Shape) -> Array:
        """Return contiguous [N, *shape] seen as [N, *stored]: a view, to write samples into as they are stored."""
        moved = served.reshape(len(served), *(stored[axis] for axis in self.axes))
        return np.transpose(moved, (0, *(1 + int(axis) for axis in np.argsort(self.axes))))


def find_layout(stored: Shape, wanted: Pattern) -> Arrangement | None:
    """Return the first way from sample shape `stored` to `wanted` (None = any size); None: there is none.

    >>> find_layout((28, 28), (1, 28, 28)).text
    'channel axis added'
    >>> find_layout((32, 32, 3), (3, None, None)).shape
    (3, 32, 32)
    >>> find_layout((28, 28), (1, 32, 32)) is None
    True
    """
    return next((way for way in _ways(stored, wanted) if _matches(way.shape, wanted)), None)


def spatial_axes(stored: Shape) -> tuple[int, int] | None:
    """Return the axes of height and width in a stored sample, or None when that is not clear.

    Of three axes, the one with as many entries as images have channels goes; where that does not tell, the two
    neighbours of one size are height and width.

    >>> spatial_axes((28, 28)), spatial_axes((32, 32, 3)), spatial_axes((3, 32, 32)), spatial_axes((784,))
    ((0, 1), (0, 1), (1, 2), None)
    >>> spatial_axes((12, 64, 64)), spatial_axes((12, 64, 48))
    ((1, 2), None)
    """
    if len(stored) == 2:
        return (0, 1)
    if len(stored) != 3:
        return None
    if (stored[0] in _CHANNELS) != (stored[2] in _CHANNELS):
        return (1, 2) if stored[0] in _CHANNELS else (0, 1)
    if (stored[0] == stored[1]) == (stored[1] == stored[2]):
        return None
    return (1, 2) if stored[1] == stored[2] else (0, 1)


def _matches(shape: Shape, wanted: Pattern) -> bool:
    return len(shape) == len(wanted) and all(w in (None, s) for s, w in zip(shape, wanted, strict=True))


def _ways(stored: Shape, wanted: Pattern) -> Iterator[Arrangement]:
    rank = len(stored)
    same = tuple(range(rank))
    yield Arrangement(same, stored, "as stored")
    if rank == 2:
        yield Arrangement(same, (1, *stored), "channel axis added")
        yield Arrangement(same, (*stored, 1), "channel axis added")
    if rank == 3 and stored[0] == 1:
        yield Arrangement(same, stored[1:], "channel axis dropped")
    if rank == 3 and stored[2] == 1:
        yield Arrangement(same, stored[:2], "channel axis dropped")
    if rank == 3:
        yield Arrangement((2, 0, 1), (stored[2], *stored[:2]), "channels last moved to first")
        yield Arrangement((1, 2, 0), (*stored[1:], stored[0]), "channels first moved to last")
    if rank > 1:
        yield Arrangement(same, (math.prod(stored),), "flattened")
    sizes = tuple(size for size in wanted if size is not None)
    one_channel = len(sizes) == len(wanted) and sum(size > 1 for size in sizes) <= 2
    if rank == 1 and one_channel and math.prod(sizes) == stored[0]:
        yield Arrangement(same, sizes, "rows read as images in C order")

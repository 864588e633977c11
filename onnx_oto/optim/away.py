"""Flat buffers that are not numpy's, because they lie on a device (`runtime/resident`).

Optimizers do not know them. What they ask of whole buffers, elementwise, such a buffer computes where it is; what they
ask of groups goes through `GroupIndex`, which asks for sums and spreads factors by the index arrays that are made here.
Decisions are made of a number for every group, here, whatever the buffers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int32]

WIDTH = 128
"""Elements that are summed in one go: longer rows leave less to do side by side, shorter ones more rows."""


class Away(Protocol):
    """A flat float32 buffer that numpy's elementwise functions work on, `np.copyto` and `np.asarray`, and these."""

    def beside(self, array: Array) -> Any:
        """Return a copy of an array, float32 or bool, where this one is."""
        ...

    def spread(self, values: Array, labels: Ints) -> Any:
        """Return values[labels]: few values, float32 or bool, for every element."""
        ...

    def sums(self, pairs: Sequence[tuple[Any, Any]], levels: Sequence[Ints]) -> npt.NDArray[np.float64]:
        """Return sums of products over rows: float64 [pairs, R]. levels: see `Segments`."""
        ...

    def square_norm(self) -> float:
        """Return <x, x>, summed in float32; not finite where an element is not, or where it overflows."""
        ...


def away(x: Any) -> Away | None:
    """Return a buffer that lies elsewhere, None for an array of numpy."""
    found: Away | None = None if isinstance(x, np.ndarray) else x
    return found


@dataclass(frozen=True, eq=False)
class Segments:
    """The elements of K groups as index arrays.

    labels: int32 [P], the group of every element, K for none. levels: int32 [R, WIDTH] each: which elements a row adds
    up, each row of one group, then which of these sums a row of the next level does, until a group has one row; rows
    are filled up with the place behind all there is. groups: int64 [R], of the rows of the last level.
    """

    labels: Ints
    levels: tuple[Ints, ...]
    groups: npt.NDArray[np.int64]

    @staticmethod
    def of(labels: Ints, count: int, *, width: int = WIDTH) -> Segments:
        """Return the segments of `count` groups, in buffers whose last element is 0.0 and, as OtoError says, of none.

        >>> found = Segments.of(np.array([1, 0, 1, 1, 2], np.int32), 2, width=2)
        >>> [level.tolist() for level in found.levels], found.groups.tolist()
        ([[[1, 4], [0, 2], [3, 4]], [[0, 3], [1, 2]]], [0, 1])
        """
        if not len(labels) or labels[-1] != count:
            raise OtoError("the last element of a buffer on a device belongs to a group: leave one behind it")
        levels: list[Ints] = []
        inside, behind = labels, len(labels) - 1
        while not levels or len(np.unique(inside)) < len(inside):
            level, inside = _rows(inside, count, behind, width)
            levels.append(level)
            behind = len(inside)
        return Segments(labels, tuple(levels), inside.astype(np.int64))


def _rows(labels: Ints, count: int, behind: int, width: int) -> tuple[Ints, Ints]:
    """Return rows of the elements of each group [R, width], in order, and the group of each row [R]."""
    members = np.flatnonzero(labels < count)
    members = members[np.argsort(labels[members], kind="stable")]
    sizes = np.bincount(labels[members], minlength=count)
    rows = -(-sizes // width)
    firsts, starts = np.cumsum(rows) - rows, np.cumsum(sizes) - sizes
    group = labels[members]
    places = firsts[group] * width + np.arange(len(members)) - starts[group]
    level = np.full(int(rows.sum()) * width, behind, np.int32)
    level[places] = members
    return level.reshape(-1, width), np.repeat(np.arange(count, dtype=np.int32), rows)

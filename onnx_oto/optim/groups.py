"""Where every zero-invariant group (ZIG) lies in the flat parameter buffer; sums and edits over groups.

A parameter occupies one stretch of the flat buffer. Seen as [outer, size, inner] in C order, index i of its
middle axis belongs to the ZIG `groups[i]`, or to none (-1). Several indices and several parameters may
belong to one ZIG: a conv filter, its bias and the scale and shift of the BatchNormalization behind it, or
the rows of one attention head.

All work is a loop over cache-sized pieces of the parameters with vectorised numpy inside; there is no loop
over groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError
from onnx_oto.optim.workers import PIECE, default_threads, spread

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Stretch:
    """The producer slices of one parameter.

    Elements [offset, offset + outer*size*inner) of the flat buffer.
    """

    offset: int
    outer: int
    size: int
    inner: int
    groups: npt.NDArray[np.int32]  # [size], the ZIG of index i of the middle axis, or -1

    @property
    def stop(self) -> int:
        """The first element behind the parameter."""
        return self.offset + self.outer * self.size * self.inner


class Piece(NamedTuple):
    """A contiguous part of a block, [outer, size, inner] at `start`.

    Its `size` rows own the slots [low, high).
    """

    start: int
    outer: int
    size: int
    inner: int
    low: int
    high: int

    def view(self, x: Array) -> Array:
        """Return this piece of the flat array as a view [outer, size, inner]."""
        stop = self.start + self.outer * self.size * self.inner
        return x[self.start : stop].reshape(self.outer, self.size, self.inner)


class Moments(NamedTuple):
    """Per group, float64 [K]: <x, x>, <x, y> and <y, y>."""

    xx: npt.NDArray[np.float64]
    xy: npt.NDArray[np.float64]
    yy: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GroupIndex:
    """The blocks and the number `count` = K of groups; a group is named by its number 0..K-1.

    Raises OtoError when a label is outside [-1, K), a label array does not fit its block, or two blocks
    overlap (the groups of a model are disjoint, so a parameter has one block).
    """

    blocks: tuple[Stretch, ...]
    count: int
    threads: int = field(default_factory=default_threads)

    def __post_init__(self) -> None:
        for number, block in enumerate(self.blocks):
            if block.groups.shape != (block.size,):
                raise OtoError(
                    f"block {number}: labels of shape {block.groups.shape} for {block.size} indices"
                )
            if block.size and not (block.groups.min() >= -1 and block.groups.max() < self.count):
                span = f"{block.groups.min()}..{block.groups.max()}"
                raise OtoError(f"block {number}: labels {span}, expected -1..{self.count - 1}")
        ordered = sorted(self.blocks, key=lambda block: block.offset)
        for before, after in pairwise(ordered):
            if after.offset < before.stop:
                raise OtoError(
                    f"blocks at {before.offset} and {after.offset} overlap: one block per parameter"
                )

    @cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Elements per group: int64 [K]."""
        total = np.zeros(self.count, np.int64)
        for block in self.blocks:
            rows = np.bincount(block.groups + 1, minlength=self.count + 1)[1:]
            total += rows * (block.outer * block.inner)
        return total

    def subset(self, which: npt.NDArray[np.bool_]) -> GroupIndex:
        """Return the index of the groups in `which` (bool [K]) alone.

        Same numbering, blocks without them left out.
        """
        kept = []
        for block in self.blocks:
            chosen = np.where((block.groups >= 0) & which[block.groups], block.groups, -1)
            if np.any(chosen >= 0):
                kept.append(replace(block, groups=chosen.astype(np.int32)))
        return GroupIndex(tuple(kept), self.count, self.threads)

    def square_norms(self, x: Array) -> npt.NDArray[np.float64]:
        """Return ||x_g||^2 per group: float64 [K], 0 for a group without elements."""
        return self.dots(x, x)

    def dots(self, x: Array, y: Array) -> npt.NDArray[np.float64]:
        """Return <x_g, y_g> per group: float64 [K].

        Sums run in the dtype of x within a piece, in float64 across.
        """
        sums = np.zeros((1, len(self._slots)))

        def work(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                _row_dots(piece.view(x), piece.view(y), sums[0, piece.low : piece.high])

        spread(work, self._pieces, self.threads)
        return self._gather(sums[0])

    def moments(self, x: Array, y: Array) -> Moments:
        """Return <x,x>, <x,y> and <y,y> per group in one sweep that reads memory once."""
        sums = np.zeros((3, len(self._slots)))

        def work(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                a, b, at = piece.view(x), piece.view(y), slice(piece.low, piece.high)
                _row_dots(a, a, sums[0, at])
                _row_dots(a, b, sums[1, at])
                _row_dots(b, b, sums[2, at])

        spread(work, self._pieces, self.threads)
        return Moments(*(self._gather(row) for row in sums))

    def scale(self, x: Array, factor: npt.NDArray[np.float64]) -> None:
        """Multiply each group of `x` by its factor [K], in place.

        Elements of no group stay as they are, bit for bit.
        """
        factors = np.append(factor, 1.0)[self._slots].astype(x.dtype)

        def work(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                rows = factors[piece.low : piece.high]
                if np.any(rows != 1.0):
                    view = piece.view(x)
                    np.multiply(view, rows[:, None], out=view)

        spread(work, self._pieces, self.threads)

    def zero(self, x: Array, which: npt.NDArray[np.bool_]) -> None:
        """Set the groups in `which` (bool [K]) of `x` to exactly 0.0 in place, even where it is NaN."""
        if not np.any(which):
            return
        marked = np.append(which, False)[self._slots]

        def work(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                rows = marked[piece.low : piece.high]
                if np.any(rows):
                    piece.view(x)[:, rows] = 0.0

        spread(work, self._pieces, self.threads)

    @cached_property
    def _layout(self) -> tuple[list[Piece], npt.NDArray[np.int64]]:
        """The pieces, and the group of every slot (K stands for no group)."""
        pieces: list[Piece] = []
        slots: list[npt.NDArray[np.int32]] = []
        used = 0
        for block in self.blocks:
            for start, outer, first, rows in _cut(block):
                pieces.append(Piece(start, outer, rows, block.inner, used, used + rows))
                slots.append(block.groups[first : first + rows])
                used += rows
        labels = np.concatenate(slots).astype(np.int64) if slots else np.zeros(0, np.int64)
        return pieces, np.where(labels < 0, self.count, labels)

    @property
    def _pieces(self) -> list[Piece]:
        return self._layout[0]

    @property
    def _slots(self) -> npt.NDArray[np.int64]:
        return self._layout[1]

    def _gather(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up slots [S] into groups [K]."""
        totals = np.bincount(self._slots, weights=sums, minlength=self.count + 1)
        return totals[: self.count].astype(np.float64, copy=False)


def _row_dots(a: Array, b: Array, out: npt.NDArray[np.float64]) -> None:
    """Write sum over outer and inner of a*b, for a and b [outer, size, inner], into out [size]."""
    if a.shape[0] == 1:
        out[:] = np.einsum("ki,ki->k", a[0], b[0])
    else:
        out[:] = np.einsum("oki,oki->k", a, b)


def _cut(block: Stretch) -> list[tuple[int, int, int, int]]:
    """Return (start, outer, first row, rows) of contiguous parts of about `PIECE` elements."""
    if block.outer * block.size * block.inner == 0:
        return []
    plane = block.size * block.inner
    if plane <= PIECE:
        lot = PIECE // plane
        return [
            (block.offset + o * plane, min(lot, block.outer - o), 0, block.size)
            for o in range(0, block.outer, lot)
        ]
    lot = max(1, PIECE // block.inner)
    return [
        (block.offset + o * plane + r * block.inner, 1, r, min(lot, block.size - r))
        for o in range(block.outer)
        for r in range(0, block.size, lot)
    ]

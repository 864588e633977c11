"""Where every zero-invariant group (ZIG) lies in the flat parameter buffer; sums and edits over groups.

A parameter occupies one stretch of the flat buffer. Seen as [outer, size, inner] in C order, index i of its
middle axis belongs to the ZIG `groups[i]`, or to none (-1). Several indices and several parameters may
belong to one ZIG: a conv filter, its bias and the scale and shift of the BatchNormalization behind it, or
the rows of one attention head.

All work is a loop over cache-sized pieces of the parameters with vectorised numpy inside; there is no loop
over groups. What is as long as the rows of all pieces is made once and used again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import OtoError
from onnx_oto.optim.away import Away, Segments, away
from onnx_oto.optim.workers import MOST_THREADS, PIECE, compiles, default_threads, spread

if TYPE_CHECKING:
    from onnx_oto.optim.rows import Rows

Array = npt.NDArray[Any]

SHORT, LONG = 64, 8192
"""Rows between these lengths are multiplied by BLAS."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """The producer slices of one parameter.

    Elements [offset, offset + outer*size*inner) of the flat buffer. is_scale: whether a norm multiplies by it.
    """

    offset: int
    outer: int
    size: int
    inner: int
    groups: npt.NDArray[np.int32]  # [size], the ZIG of index i of the middle axis, or -1
    is_scale: bool = False

    @property
    def stop(self) -> int:
        """The first element behind the parameter."""
        return self.offset + self.outer * self.size * self.inner


class Piece(NamedTuple):
    """Parts of a block over the same rows, and the slots [low, high) of these rows.

    parts: (start, outer) of each, contiguous as [outer, size, inner].
    """

    parts: tuple[tuple[int, int], ...]
    size: int
    inner: int
    low: int
    high: int

    def views(self, x: Array) -> Iterator[Array]:
        """Yield the parts of the flat array as views [outer, size, inner]."""
        for start, outer in self.parts:
            yield x[start : start + outer * self.size * self.inner].reshape(outer, self.size, self.inner)

    @property
    def elements(self) -> int:
        """How many elements lie in it."""
        return sum(outer for _, outer in self.parts) * self.size * self.inner


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
    whole: GroupIndex | None = None
    """What this is a subset of, by groups: on a device the index arrays of that serve for both."""

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

    @cached_property
    def _scales(self) -> GroupIndex:
        """The scales of norms alone."""
        return GroupIndex(tuple(b for b in self.blocks if b.is_scale), self.count, self.threads)

    def norm_scales(self, x: Array) -> npt.NDArray[np.float64]:
        """Return the root mean square of the norm scales of each group: float64 [K], nan where there are none."""
        sizes = self._scales.sizes
        squares = self._scales.square_norms(x)
        mean = np.divide(squares, sizes, out=np.full(self.count, np.nan), where=sizes > 0)
        root: npt.NDArray[np.float64] = np.sqrt(mean)
        return root

    def outside(self, stretches: Sequence[slice]) -> GroupIndex:
        """Return the index without the parameters that lie in these stretches of the buffer. Same numbering."""
        inside = [any(at.start <= b.offset and b.stop <= at.stop for at in stretches) for b in self.blocks]
        kept = tuple(b for b, is_inside in zip(self.blocks, inside, strict=True) if not is_inside)
        return GroupIndex(kept, self.count, self.threads)

    def subset(self, which: npt.NDArray[np.bool_]) -> GroupIndex:
        """Return the index of the groups in `which` (bool [K]) alone.

        Same numbering, blocks without them left out.
        """
        kept = []
        for block in self.blocks:
            chosen = np.where((block.groups >= 0) & which[block.groups], block.groups, -1)
            if np.any(chosen >= 0):
                kept.append(replace(block, groups=chosen.astype(np.int32)))
        return GroupIndex(tuple(kept), self.count, self.threads, self.whole or self)

    def square_norms(self, x: Array) -> npt.NDArray[np.float64]:
        """Return ||x_g||^2 per group: float64 [K], 0 for a group without elements."""
        return self.dots(x, x)

    def root_mean_squares(self, x: Array) -> npt.NDArray[np.float64]:
        """Return ||x_g|| / sqrt(elements) per group: float64 [K], 0 for a group without elements."""
        root: npt.NDArray[np.float64] = np.sqrt(self.square_norms(x) / np.maximum(self.sizes, 1))
        return root

    def dots(self, x: Array, y: Array) -> npt.NDArray[np.float64]:
        """Return <x_g, y_g> per group: float64 [K].

        Sums run in the dtype of x within a piece, in float64 across.
        """
        if there := away(x):
            (found,) = self._sums_away(there, ((x, y),))
            return np.asarray(found)
        sums = self._sums[0]

        def work(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                out = sums[piece.low : piece.high]
                out[:] = 0.0
                for a, b in zip(piece.views(x), piece.views(y), strict=True):
                    out += _row_dots(a, b)

        self._over_pieces(work)
        return self._gather(sums)

    def moments(self, x: Array, y: Array) -> Moments:
        """Return <x,x>, <x,y> and <y,y> per group in one sweep that reads memory once."""
        if there := away(x):
            return Moments(*self._sums_away(there, ((x, x), (x, y), (y, y))))
        sums = self._sums

        def work(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                out = sums[:, piece.low : piece.high]
                out[:] = 0.0
                for a, b in zip(piece.views(x), piece.views(y), strict=True):
                    out[0] += _row_dots(a, a)
                    out[1] += _row_dots(a, b)
                    out[2] += _row_dots(b, b)

        self._over_pieces(work)
        return Moments(*(self._gather(row) for row in sums))

    def scale(self, x: Array, factor: npt.NDArray[np.float64]) -> None:
        """Multiply each group of `x` by its factor [K], in place.

        Elements of no group stay as they are, bit for bit.
        """
        if there := away(x):
            own = np.append(np.where(self._members, factor, 1.0), 1.0).astype(np.float32)
            np.multiply(x, there.spread(own, self._segments(len(x)).labels), out=x)
            return
        factors = self._spread_out(np.append(factor, 1.0).astype(x.dtype))

        def work(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                rows = factors[piece.low : piece.high]
                if np.any(rows != 1.0):
                    for view in piece.views(x):
                        np.multiply(view, rows[:, None], out=view)

        self._over_pieces(work)

    def zero(self, x: Array, which: npt.NDArray[np.bool_]) -> None:
        """Set the groups in `which` (bool [K]) of `x` to exactly 0.0 in place, even where it is NaN."""
        if not np.any(which):
            return
        if there := away(x):
            chosen = np.append(which & self._members, False)
            np.copyto(x, 0.0, where=there.spread(chosen, self._segments(len(x)).labels))
            return
        marked = self._spread_out(np.append(which, False))
        if compiles(x):
            from onnx_oto.optim.sweeps import zero_chosen  # loads the compiler

            rows = self.rows(len(x))
            rows.over(
                lambda low, high: zero_chosen(x, rows.table, low, high, marked), self.threads, inside=True
            )
            return

        def work(pieces: Sequence[Piece]) -> None:
            for piece in pieces:
                rows = marked[piece.low : piece.high]
                if np.any(rows):
                    for view in piece.views(x):
                        view[:, rows] = 0.0

        self._over_pieces(work)

    def _sums_away(self, x: Away, pairs: Sequence[tuple[Array, Array]]) -> npt.NDArray[np.float64]:
        """Return <a_g, b_g> per group for pairs of buffers that lie with x: float64 [pairs, K]."""
        found = np.zeros((len(pairs), self.count))
        segments = self._segments(len(pairs[0][0]))
        if len(segments.groups):
            found[:, segments.groups] = x.sums(pairs, segments.levels)
        return np.where(self._members, found, 0.0)

    @cached_property
    def _members(self) -> npt.NDArray[np.bool_]:
        """Which groups have elements here: bool [K]."""
        return self.sizes > 0

    def _segments(self, size: int) -> Segments:
        """Return the elements of all groups, in buffers of a size whose last element is of none, as index arrays."""
        if self.whole is not None:
            return self.whole._segments(size)
        if size not in self._known_segments:
            labels = np.full(size, self.count, np.int32)
            for block in self.blocks:
                inside = labels[block.offset : block.stop].reshape(block.outer, block.size, block.inner)
                inside[:] = np.where(block.groups < 0, self.count, block.groups)[None, :, None]
            self._known_segments[size] = Segments.of(labels, self.count)
        return self._known_segments[size]

    @cached_property
    def _known_segments(self) -> dict[int, Segments]:
        return {}

    def rows(self, size: int) -> Rows:
        """Return the rows of a buffer of this size, as compiled sweeps take them."""
        from onnx_oto.optim.rows import Rows  # reads this module

        if size not in self._rows:
            self._rows[size] = Rows(size, self)
        return self._rows[size]

    @cached_property
    def _rows(self) -> dict[int, Rows]:
        return {}

    @cached_property
    def layout(self) -> tuple[list[Piece], npt.NDArray[np.int64]]:
        """The pieces, and the group of every slot (K stands for no group)."""
        pieces: list[Piece] = []
        slots: list[npt.NDArray[np.int32]] = []
        used = 0
        for block in self.blocks:
            for parts, first, rows in _cut(block):
                pieces.append(Piece(parts, rows, block.inner, used, used + rows))
                slots.append(block.groups[first : first + rows])
                used += rows
        labels = np.concatenate(slots).astype(np.int64) if slots else np.zeros(0, np.int64)
        return pieces, np.where(labels < 0, self.count, labels)

    def _over_pieces(self, work: Callable[[Sequence[Piece]], None]) -> None:
        spread(work, self.layout[0], self.threads, self._weights)

    @cached_property
    def _weights(self) -> list[int]:
        """The elements of every piece."""
        return [piece.elements for piece in self.layout[0]]

    @property
    def _slots(self) -> npt.NDArray[np.int64]:
        return self.layout[1]

    @cached_property
    def _sums(self) -> npt.NDArray[np.float64]:
        """Room for three sums of every slot: float64 [3, S]. Every slot is written before it is read."""
        return np.zeros((3, len(self._slots)))

    @cached_property
    def _room(self) -> dict[np.dtype[Any], Array]:
        """Room for a value of every slot, by dtype."""
        return {}

    def _spread_out(self, values: Array) -> Array:
        """Return the value of the group of every slot, [S], of values [K + 1], the last one for no group."""
        if values.dtype not in self._room:
            self._room[values.dtype] = np.empty(len(self._slots), values.dtype)
        return np.take(values, self._slots, out=self._room[values.dtype], mode="clip")

    def _gather(self, sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add up slots [S] into groups [K]."""
        totals = np.bincount(self._slots, weights=sums, minlength=self.count + 1)
        return totals[: self.count].astype(np.float64, copy=False)


def _row_dots(a: Array, b: Array) -> Array:
    """Return the sum over outer and inner of a*b, for a and b [outer, size, inner]: [size].

    Rows of a filter's length are products of BLAS, in half the time of a sum by numpy (64 Ki elements in rows of 576 to
    4608: 4 us against 8). Longer ones it would share out among threads of its own.
    """
    if len(a) > 1:
        return np.asarray(np.einsum("oki,oki->k", a, b))
    x, y = a[0], b[0]
    if SHORT <= x.shape[1] <= LONG:
        return np.asarray(np.matmul(x[:, None, :], y[:, :, None])[:, 0, 0])
    return np.asarray(np.einsum("ki,ki->k", x, y))


def _cut(block: Stretch) -> list[tuple[tuple[tuple[int, int], ...], int, int]]:
    """Return (parts, first row, rows) of pieces; a part has about `PIECE` elements.

    A block has few pieces over the same rows, as many as can be worked on at a time: there is a sum for every row of
    every piece.
    """
    if block.outer * block.size * block.inner == 0:
        return []
    plane = block.size * block.inner
    if plane <= PIECE:
        lot = PIECE // plane
        parts = [(block.offset + o * plane, min(lot, block.outer - o)) for o in range(0, block.outer, lot)]
        count = -(-len(parts) // MOST_THREADS)
        return [(tuple(parts[at : at + count]), 0, block.size) for at in range(0, len(parts), count)]
    lot = max(1, PIECE // block.inner)
    return [
        (
            tuple((block.offset + o * plane + r * block.inner, 1) for o in range(block.outer)),
            r,
            min(lot, block.size - r),
        )
        for r in range(0, block.size, lot)
    ]

"""The flat buffer as rows for compiled sweeps (`sweeps`): those of an index of groups, and all else between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from onnx_oto.optim.groups import GroupIndex
from onnx_oto.optim.workers import PIECE, spread

Lines = tuple[int, int]


class Rows:
    """Lines of a table that cover a buffer of `size` elements.

    table: int64 [T, 5], see `sweeps`. labels: int64 [S], the group of every slot, K for none; the last slot is that of
    all lines between blocks. chosen: bool [S]. sums: room for three sums of every slot.
    """

    def __init__(self, size: int, index: GroupIndex) -> None:
        pieces, labels = index.layout
        lines: list[tuple[int, int, int, int, int]] = []
        self._lots: list[Lines] = []
        self._weights: list[int] = []
        last = len(labels)

        def add(*more: tuple[int, int, int, int, int]) -> None:
            self._lots.append((len(lines), len(lines) + len(more)))
            self._weights.append(sum(outer * rows * inner for _, outer, rows, inner, _ in more))
            lines.extend(more)

        for piece in pieces:
            add(*((start, outer, piece.size, piece.inner, piece.low) for start, outer in piece.parts))
        self.inside = len(self._lots)
        covered = sorted((block.offset, block.stop) for block in index.blocks)
        for low, high in zip(
            [0, *(stop for _, stop in covered)], [*(s for s, _ in covered), size], strict=True
        ):
            for start in range(low, high, PIECE):
                add((start, 1, 1, min(PIECE, high - start), last))
        self.table = np.array(lines, np.int64).reshape(-1, 5)
        self.labels = np.append(labels, index.count)
        self.chosen = self.labels < index.count
        self.sums = np.zeros((3, last + 1))

    def over(self, work: Callable[[int, int], None], threads: int, *, inside: bool = False) -> None:
        """Call `work` with the first and last line of each thread's share. inside: of blocks alone."""
        stop = self.inside if inside else len(self._lots)

        def share(lots: Sequence[Lines]) -> None:
            if lots:
                work(lots[0][0], lots[-1][1])

        spread(share, self._lots[:stop], threads, self._weights[:stop])

    def gathered(self, groups: int) -> npt.NDArray[np.float64]:
        """Return the sums of groups, float64 [3, K]."""
        totals = np.zeros((3, groups))
        for total, sums in zip(totals, self.sums, strict=True):
            total[:] = np.bincount(self.labels, weights=sums, minlength=groups + 1)[:groups]
        return totals

"""The innermost loops of products of matrices whose rows lie apart, see `divided`: a rectangle of sums in registers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from onnx_oto.runtime.tiles import Code, compiled

_WORD, _FLOAT = ir.IntType(64), ir.FloatType()


def product_tile(lanes: int, rows: int, vectors: int) -> Any:
    """Return tile(places, behind, b, b_row, terms), for so many rows of a and vectors of columns of b.

    y[row, column] = sum of a[row, term] b[term, column] over the terms. places: int64 [rows, 2], where rows of a and of
    y lie, these so many bytes in front of the columns; b: an address; b_row: bytes from one row to the next.
    """

    def write(code: Code, arguments: Sequence[Any]) -> None:
        places, behind, b, b_row, terms = arguments
        builder = code.builder
        sums = [[code.slot(code.vector, code.zeros) for _ in range(vectors)] for _ in range(rows)]
        starts = [code.load(places, _WORD, 16 * row) for row in range(rows)]
        there = code.slot(_WORD, b)
        with cgutils.for_range(builder, terms) as loop:
            done = builder.shl(loop.index, code.word(2))
            here = builder.load(there)
            values = [code.load(here, code.vector, 4 * code.lanes * one) for one in range(vectors)]
            for row, start in enumerate(starts):
                factor = code.splat(code.load(builder.add(start, done), _FLOAT))
                for one, value in enumerate(values):
                    code.add_product(sums[row][one], value, factor)
            code.advance(there, b_row)
        for row in range(rows):
            start = builder.add(code.load(places, _WORD, 16 * row + 8), behind)
            for one in range(vectors):
                place = builder.add(start, code.word(4 * code.lanes * one))
                builder.store(builder.load(sums[row][one]), code.pointer(place, code.vector), align=4)

    def tile(context: Any, places: Any, behind: Any, b: Any, b_row: Any, terms: Any) -> Any:
        return compiled(lanes, 5, write)

    return intrinsic(tile)


def outer_tile(lanes: int, rows: int, vectors: int) -> Any:
    """Return tile(places, start, behind, terms, y, y_row), for so many rows of a and b and vectors of columns of b.

    y[term, column] is raised by the sum of a[row, term] b[row, column] over the rows: a is read once, row by row, as it
    lies. places: int64 [rows, 2], where rows of a and of b lie, so many bytes in front of the terms and the columns; y:
    an address; y_row: bytes from one row to the next.
    """

    def write(code: Code, arguments: Sequence[Any]) -> None:
        places, start, behind, terms, y, y_row = arguments
        builder = code.builder
        starts = [builder.add(code.load(places, _WORD, 16 * row), start) for row in range(rows)]
        others = [builder.add(code.load(places, _WORD, 16 * row + 8), behind) for row in range(rows)]
        values = [
            [code.load(other, code.vector, 4 * code.lanes * one) for one in range(vectors)]
            for other in others
        ]
        there = code.slot(_WORD, y)
        sums = [code.slot(code.vector) for _ in range(vectors)]
        with cgutils.for_range(builder, terms) as loop:
            done = builder.shl(loop.index, code.word(2))
            here = builder.load(there)
            made = [builder.add(here, code.word(4 * code.lanes * one)) for one in range(vectors)]
            for one, place in enumerate(made):
                builder.store(code.load(place, code.vector), sums[one])
            for row, first in enumerate(starts):
                factor = code.splat(code.load(builder.add(first, done), _FLOAT))
                for one in range(vectors):
                    code.add_product(sums[one], values[row][one], factor)
            for one, place in enumerate(made):
                builder.store(builder.load(sums[one]), code.pointer(place, code.vector), align=4)
            code.advance(there, y_row)

    def tile(context: Any, places: Any, start: Any, behind: Any, terms: Any, y: Any, y_row: Any) -> Any:
        return compiled(lanes, 6, write)

    return intrinsic(tile)

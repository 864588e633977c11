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
    """Return tile(a, a_row, b, b_row, terms, y, y_row), for so many rows of a and vectors of columns of b.

    y[row, column] = sum of a[row, term] b[term, column] over the terms. a, b, y: addresses; a_row, b_row, y_row: bytes
    from one row to the next.
    """

    def write(code: Code, arguments: Sequence[Any]) -> None:
        a, a_row, b, b_row, terms, y, y_row = arguments
        builder = code.builder
        sums = [[code.slot(code.vector, code.zeros) for _ in range(vectors)] for _ in range(rows)]
        starts = _rows(code, a, a_row, rows)
        there = code.slot(_WORD, b)
        with cgutils.for_range(builder, terms) as loop:
            behind = builder.shl(loop.index, code.word(2))
            here = builder.load(there)
            values = [code.load(here, code.vector, 4 * code.lanes * one) for one in range(vectors)]
            for row, start in enumerate(starts):
                factor = code.splat(code.load(builder.add(start, behind), _FLOAT))
                for one, value in enumerate(values):
                    code.add_product(sums[row][one], value, factor)
            code.advance(there, b_row)
        for row, start in enumerate(_rows(code, y, y_row, rows)):
            for one in range(vectors):
                place = builder.add(start, code.word(4 * code.lanes * one))
                builder.store(builder.load(sums[row][one]), code.pointer(place, code.vector), align=4)

    def tile(
        context: Any, a: Any, a_row: Any, b: Any, b_row: Any, terms: Any, y: Any, y_row: Any
    ) -> Any:
        return compiled(lanes, 7, write)

    return intrinsic(tile)


def outer_tile(lanes: int, rows: int, vectors: int) -> Any:
    """Return tile(a, a_row, terms, b, b_row, y, y_row), for so many rows of a and b and vectors of columns of b.

    y[term, column] is raised by the sum of a[row, term] b[row, column] over the rows: a is read once, row by row, as it
    lies. Arguments as of `product_tile`.
    """

    def write(code: Code, arguments: Sequence[Any]) -> None:
        a, a_row, terms, b, b_row, y, y_row = arguments
        builder = code.builder
        values = [
            [code.load(start, code.vector, 4 * code.lanes * one) for one in range(vectors)]
            for start in _rows(code, b, b_row, rows)
        ]
        starts = _rows(code, a, a_row, rows)
        there = code.slot(_WORD, y)
        sums = [code.slot(code.vector) for _ in range(vectors)]
        with cgutils.for_range(builder, terms) as loop:
            behind = builder.shl(loop.index, code.word(2))
            here = builder.load(there)
            places = [builder.add(here, code.word(4 * code.lanes * one)) for one in range(vectors)]
            for one, place in enumerate(places):
                builder.store(code.load(place, code.vector), sums[one])
            for row, start in enumerate(starts):
                factor = code.splat(code.load(builder.add(start, behind), _FLOAT))
                for one in range(vectors):
                    code.add_product(sums[one], values[row][one], factor)
            for one, place in enumerate(places):
                builder.store(builder.load(sums[one]), code.pointer(place, code.vector), align=4)
            code.advance(there, y_row)

    def tile(
        context: Any, a: Any, a_row: Any, terms: Any, b: Any, b_row: Any, y: Any, y_row: Any
    ) -> Any:
        return compiled(lanes, 7, write)

    return intrinsic(tile)


def _rows(code: Code, first: Any, row: Any, count: int) -> list[Any]:
    """Return the addresses of so many rows."""
    return [code.builder.add(first, code.builder.mul(row, code.word(index))) for index in range(count)]

"""The innermost loops of convolutions of stacked tensors (`stacked`), written in LLVM's language for vectors.

A tile keeps a rectangle of sums in registers: places by filters, or filters by weights. Everything it reads from
memory is used by a whole row or column of it. On one thread with AVX-512: 120 to 140 G multiplications/s, 160 at the
most, where plain kernels of ONNX Runtime do 83.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD, _INT, _FLOAT = ir.IntType(64), ir.IntType(32), ir.FloatType()
_NOTHING = ir.Constant(ir.PointerType(ir.IntType(8)), None)


def convolution_tile(lanes: int, rows: int, columns: int) -> Any:
    """Return tile(x, zeros, table, taps, live, count, weights, step, made, y, places).

    y[f, place] = bias[f] + sum over taps and channels of x[channel, table[tap, place]] weights[tap, channel, f], for
    `rows` places and `columns` filters. All arguments are addresses or numbers. table: int32 [taps, rows], bytes from
    x, negative for what is outside; places: int32 [rows], bytes from y; live: int64 [count, 2], bytes to the channels
    that count, in x and in weights; step: bytes of the weights of a tap; made: int64 [columns, 2], the address of the
    bias of a filter and bytes from y; zeros: a vector of them.
    """

    def write(code: Code, arguments: Sequence[Any]) -> None:
        x, zeros, table, taps, live, count, weights, step, made, y, places = arguments
        b = code.builder
        sums = [[code.slot(code.vector) for _ in range(columns)] for _ in range(rows)]
        for column in range(columns):
            start = code.splat(code.load(code.load(made, _WORD, 16 * column), _FLOAT))
            for row in range(rows):
                b.store(start, sums[row][column])
        weight, entry, channel = code.slot(_WORD, weights), code.slot(_WORD, table), code.slot(_WORD)

        def multiply(addresses: Callable[[Any], Sequence[Any]]) -> None:
            b.store(live, channel)
            with cgutils.for_range(b, count):
                here = b.load(channel)
                factors_at = b.add(b.load(weight), code.load(here, _WORD, 8))
                factors = [code.splat(code.load(factors_at, _FLOAT, 4 * column)) for column in range(columns)]
                for row, address in enumerate(addresses(code.load(here, _WORD))):
                    value = code.load(address, code.vector)
                    for column, factor in enumerate(factors):
                        code.add_product(sums[row][column], value, factor)
                code.advance(channel, code.word(16))

        with cgutils.for_range(b, taps):
            here = b.load(entry)
            offsets = [code.load(here, _INT, 4 * row) for row in range(rows)]
            code.advance(entry, code.word(4 * rows))
            none, some = offsets[0], offsets[0]
            for offset in offsets[1:]:
                none, some = b.and_(none, offset), b.or_(some, offset)
            with (
                b.if_then(b.not_(code.is_negative(none))),
                b.if_else(code.is_negative(some)) as (
                    at_border,
                    within,
                ),
            ):
                with at_border:
                    out = [code.is_negative(offset) for offset in offsets]
                    begin = [
                        b.select(bad, zeros, b.add(x, b.zext(offset, _WORD)))
                        for bad, offset in zip(out, offsets, strict=True)
                    ]
                    masks = [b.select(bad, code.word(0), code.word(-1)) for bad in out]
                    multiply(
                        lambda behind: [
                            b.add(first, b.and_(mask, behind))
                            for first, mask in zip(begin, masks, strict=True)
                        ]
                    )
                with within:
                    inside = [b.add(x, b.zext(offset, _WORD)) for offset in offsets]
                    multiply(lambda behind: [b.add(first, behind) for first in inside])
            code.advance(weight, step)
        for row in range(rows):
            place = b.add(y, b.zext(code.load(places, _INT, 4 * row), _WORD))
            for column in range(columns):
                there = b.add(place, code.load(made, _WORD, 16 * column + 8))
                b.store(b.load(sums[row][column]), code.pointer(there, code.vector), align=4)

    def tile(
        context: Any,
        x: Any,
        zeros: Any,
        table: Any,
        taps: Any,
        live: Any,
        count: Any,
        weights: Any,
        step: Any,
        made: Any,
        y: Any,
        places: Any,
    ) -> Any:
        return compiled(lanes, 11, write)

    return intrinsic(tile)


def slope_tile(lanes: int, filters: int, terms: int) -> Any:
    """Return tile(dy, made, dy_row, x, read, x_row, rows, columns).

    dw[f, t] = sum over rows and columns of vectors of dy[f] x[t], for so many filters and terms. made: int64
    [filters, 2], bytes from dy, and the address of a row of dw; read: int64 [terms, 2], bytes from x and in a row of
    dw; dy_row, x_row: bytes from one row to the next.
    """

    def write(code: Code, arguments: Sequence[Any]) -> None:
        dy, made, dy_row, x, read, x_row, rows, columns = arguments
        b = code.builder
        sums = [[code.slot(code.vector, code.zeros) for _ in range(terms)] for _ in range(filters)]
        behind = [code.load(read, _WORD, 16 * term) for term in range(terms)]
        planes = [code.load(made, _WORD, 16 * f) for f in range(filters)]
        left, other_left = code.slot(_WORD, dy), code.slot(_WORD, x)
        at, other = code.slot(_WORD), code.slot(_WORD)
        with cgutils.for_range(b, rows):
            b.store(b.load(left), at)
            b.store(b.load(other_left), other)
            with cgutils.for_range(b, columns):
                here, there = b.load(at), b.load(other)
                factors = [code.load(b.add(here, plane), code.vector) for plane in planes]
                for term in range(terms):
                    value = code.load(b.add(there, behind[term]), code.vector)
                    for f, factor in enumerate(factors):
                        code.add_product(sums[f][term], value, factor)
                code.advance(at, code.word(4 * lanes))
                code.advance(other, code.word(4 * lanes))
            code.advance(left, dy_row)
            code.advance(other_left, x_row)
        found = [b.load(each) for of_filter in sums for each in of_filter]
        for first in range(0, len(found), lanes):
            some = found[first : first + lanes]
            totals = code.add_up([*some, *[code.zeros] * (lanes - len(some))])
            for lane in range(len(some)):
                f, term = divmod(first + lane, terms)
                there = b.add(code.load(made, _WORD, 16 * f + 8), code.load(read, _WORD, 16 * term + 8))
                total = b.extract_element(totals, ir.Constant(_INT, lane))
                b.store(total, code.pointer(there, _FLOAT), align=4)

    def tile(
        context: Any,
        dy: Any,
        made: Any,
        dy_row: Any,
        x: Any,
        read: Any,
        x_row: Any,
        rows: Any,
        columns: Any,
    ) -> Any:
        return compiled(lanes, 8, write)

    return intrinsic(tile)


def pool_tile(lanes: int) -> Any:
    """Return tile(x, table, taps, y, taken): the largest of a window, and the tap at which it was found.

    table: int32 [taps], bytes from x, negative for what is outside; y: floats; taken: bytes. One vector of each.
    """

    def write(code: Code, arguments: Sequence[Any]) -> None:
        x, table, taps, y, taken = arguments
        b = code.builder
        most = code.slot(code.vector, ir.Constant(code.vector, [float("-inf")] * lanes))
        which = code.slot(code.whole, code.same(-1))
        with cgutils.for_range(b, taps) as loop:
            offset = code.load(b.add(table, b.mul(loop.index, code.word(4))), _INT)
            with b.if_then(b.not_(code.is_negative(offset))):
                value, so_far = code.load(b.add(x, b.zext(offset, _WORD)), code.vector), b.load(most)
                is_more = b.fcmp_ordered(">", value, so_far)
                tap = code.splat_whole(b.trunc(loop.index, _INT))
                b.store(b.select(is_more, value, so_far), most)
                b.store(b.select(is_more, tap, b.load(which)), which)
        b.store(b.load(most), code.pointer(y, code.vector), align=4)
        narrow = ir.VectorType(ir.IntType(8), lanes)
        b.store(b.trunc(b.load(which), narrow), code.pointer(taken, narrow), align=1)

    def tile(context: Any, x: Any, table: Any, taps: Any, y: Any, taken: Any) -> Any:
        return compiled(lanes, 5, write)

    return intrinsic(tile)


def unpool_tile(lanes: int) -> Any:
    """Return tile(dy, taken, table, taps, dx), which adds a vector of dy to dx where it was taken; see `pool_tile`."""

    def write(code: Code, arguments: Sequence[Any]) -> None:
        dy, taken, table, taps, dx = arguments
        b = code.builder
        value = code.load(dy, code.vector)
        narrow = b.load(code.pointer(taken, ir.VectorType(ir.IntType(8), lanes)), align=1)
        which = b.zext(narrow, code.whole)
        with cgutils.for_range(b, taps) as loop:
            offset = code.load(b.add(table, b.mul(loop.index, code.word(4))), _INT)
            with b.if_then(b.not_(code.is_negative(offset))):
                there = code.pointer(b.add(dx, b.zext(offset, _WORD)), code.vector)
                tap = code.splat_whole(b.trunc(loop.index, _INT))
                part = b.select(b.icmp_signed("==", which, tap), value, code.zeros)
                b.store(b.fadd(b.load(there, align=4), part), there, align=4)

    def tile(context: Any, dy: Any, taken: Any, table: Any, taps: Any, dx: Any) -> Any:
        return compiled(lanes, 5, write)

    return intrinsic(tile)


def compiled(lanes: int, count: int, write: Callable[[Code, Sequence[Any]], None]) -> tuple[Any, Any]:
    """Return what numba asks of an intrinsic of `count` whole numbers: its signature, and what writes its body."""

    def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
        write(Code(builder, lanes), arguments)
        return _NOTHING

    return types.void(*[types.int64] * count), generate


class Code:
    """Where instructions are written, and how those that are needed here are spelled. lanes: floats of a vector."""

    def __init__(self, builder: Any, lanes: int) -> None:
        self.builder = builder
        self.lanes = lanes
        self.vector = ir.VectorType(_FLOAT, lanes)
        self.whole = ir.VectorType(_INT, lanes)
        self.zeros = ir.Constant(self.vector, [0.0] * lanes)
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        self._fused = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{lanes}f32")

    def word(self, number: int) -> Any:
        return ir.Constant(_WORD, number)

    def slot(self, kind: Any, value: Any = None) -> Any:
        """Return a variable, which becomes a register."""
        place = cgutils.alloca_once(self.builder, kind)
        if value is not None:
            self.builder.store(value, place)
        return place

    def pointer(self, address: Any, kind: Any) -> Any:
        return self.builder.inttoptr(address, ir.PointerType(kind))

    def load(self, address: Any, kind: Any, behind: int = 0) -> Any:
        """Return what is so many bytes behind an address, which is a multiple of 4."""
        place = self.builder.add(address, self.word(behind)) if behind else address
        return self.builder.load(self.pointer(place, kind), align=4)

    def advance(self, slot: Any, by: Any) -> None:
        self.builder.store(self.builder.add(self.builder.load(slot), by), slot)

    def is_negative(self, number: Any) -> Any:
        return self.builder.icmp_signed("<", number, ir.Constant(_INT, 0))

    def same(self, number: int) -> Any:
        return ir.Constant(self.whole, [number] * self.lanes)

    def splat(self, value: Any) -> Any:
        """Return a vector of one float."""
        return self._spread(value, self.vector)

    def splat_whole(self, value: Any) -> Any:
        """Return a vector of one whole number of 32 bits."""
        return self._spread(value, self.whole)

    def _spread(self, value: Any, kind: Any) -> Any:
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(_INT, 0))
        return self.builder.shuffle_vector(first, nothing, self._places([0] * self.lanes))

    def add_product(self, slot: Any, one: Any, other: Any) -> None:
        self.builder.store(self.builder.call(self._fused, [one, other, self.builder.load(slot)]), slot)

    def add_up(self, vectors: Sequence[Any]) -> Any:
        """Return a vector whose lane i is the sum of vector i; there are as many vectors as lanes, a power of two.

        In each round two vectors become one, their halves added up: 15 additions instead of 64 for 16 vectors.
        """
        lanes, width = self.lanes, self.lanes
        found, sources = list(vectors), [[lane] for lane in range(lanes)]
        while len(found) > 1:
            low: list[int] = []
            high: list[int] = []
            for start in range(0, 2 * lanes, width):
                low += range(start, start + width // 2)
                high += range(start + width // 2, start + width)
            pairs = list(_pairs(found))
            found = [
                self.builder.fadd(*(self.builder.shuffle_vector(*pair, self._places(p)) for p in (low, high)))
                for pair in pairs
            ]
            sources = [[*one, *other] for one, other in _pairs(sources)]
            width //= 2
        order = [sources[0].index(lane) for lane in range(lanes)]
        return self.builder.shuffle_vector(found[0], found[0], self._places(order))

    def _places(self, lanes: Sequence[int]) -> Any:
        return ir.Constant(ir.VectorType(_INT, len(lanes)), list(lanes))


def _pairs(items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield the first of both halves, then the second of both.

    >>> list(_pairs("abcd"))
    [('a', 'c'), ('b', 'd')]
    """
    half = len(items) // 2
    return zip(items[:half], items[half:], strict=True)

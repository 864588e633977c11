"""One step in as few readings of memory as can be: compiled, without the interpreter's lock.

A sweep runs over rows of the flat buffers. It turns a gradient into a direction while the row is in a cache, and
then, for a row of a group that is asked for, adds up the moments, and for any other takes the step. What is left for
the groups that were asked for is their own step, when it is known how much shorter they get.

The arithmetic of single elements is that of `directions`, operation by operation; sums of a row are in its own type, of
at most `_CHUNK` elements, and in float64 across.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_oto.optim.directions import SGD
from onnx_oto.runtime.compiled import native

START, OUTER, ROWS, INNER, SLOT = range(5)
"""Columns of a table of rows: elements [outer, rows, inner] from start, whose rows have the slots from `slot`."""

_CHUNK = 4096  # elements: three arrays of them stay in the first or second cache


@native()
def sweep(
    x: Any,
    g: Any,
    first: Any,
    second: Any,
    table: Any,
    begin: int,
    end: int,
    chosen: Any,
    sums: Any,
    kind: int,
    constants: Any,
    decay: float,
    behind: bool,
    starts: Any,
    stops: Any,
    lr: float,
) -> None:
    """Overwrite g with the direction, step where a slot is not `chosen`, and add <x,x>, <x,v>, <v,v> up where it is.

    x, g, first, second: [P], parameters, gradients, and state arrays (empty where there are none). table: int64 [T, 5];
    its rows from `begin` to `end` are worked on. chosen: bool [S]; sums: float64 [3, S], zero before. starts, stops:
    int64, stretches that are decayed. constants: float64, see `_turn`. No step is taken with lr = 0.
    """
    step = x.dtype.type(lr)
    for line in range(begin, end):
        rows, inner, slot = table[line, ROWS], table[line, INNER], table[line, SLOT]
        lot = max(1, _CHUNK // inner)
        for outer in range(table[line, OUTER]):
            plane = table[line, START] + outer * rows * inner
            for low in range(0, rows, lot):
                high = min(low + lot, rows)
                for a in range(plane + low * inner, plane + high * inner, _CHUNK):
                    b = min(a + _CHUNK, plane + high * inner)
                    xs, gs = x[a:b], g[a:b]
                    if decay != 0.0 and not behind:
                        _decay(xs, gs, a, decay, starts, stops)
                    _turn(gs, first[a:b], second[a:b], kind, constants)
                    if decay != 0.0 and behind:
                        _decay(xs, gs, a, decay, starts, stops)
                    if inner == 1:
                        _columns(
                            xs, gs, chosen[slot + low : slot + high], sums[:, slot + low : slot + high], step
                        )
                    elif lot == 1:
                        _rows(xs, gs, b - a, chosen, sums, slot + low, 1, step)
                    else:
                        _rows(xs, gs, inner, chosen, sums, slot + low, high - low, step)


@native()
def _rows(x: Any, v: Any, inner: int, chosen: Any, sums: Any, slot: int, rows: int, step: Any) -> None:
    """Step in rows that are not chosen, several in one go; add up in those that are."""
    row = 0
    while row < rows:
        last = row + 1
        if chosen[slot + row]:
            _moments(x[row * inner : last * inner], v[row * inner : last * inner], sums, slot + row)
        else:
            while last < rows and not chosen[slot + last]:
                last += 1
            if step != 0.0:
                _descend(x[row * inner : last * inner], v[row * inner : last * inner], step)
        row = last


@native()
def _columns(x: Any, v: Any, chosen: Any, sums: Any, step: Any) -> None:
    """The same where every row is one element. Sums of rows that are not chosen are added up and never read."""
    zero = x.dtype.type(0.0)
    xx, xv, vv = sums[0], sums[1], sums[2]
    for i in range(len(x)):
        xx[i] += x[i] * x[i]
        xv[i] += x[i] * v[i]
        vv[i] += v[i] * v[i]
    for i in range(len(x)):
        x[i] -= (zero if chosen[i] else step) * v[i]


@native()
def descend_chosen(
    x: Any, v: Any, table: Any, begin: int, end: int, chosen: Any, factors: Any, lr: float
) -> None:
    """Overwrite x with factor * x - lr * v in the rows of chosen slots. factors: [S], of the type of x."""
    step = x.dtype.type(lr)
    for line in range(begin, end):
        rows, inner, slot = table[line, ROWS], table[line, INNER], table[line, SLOT]
        for outer in range(table[line, OUTER]):
            plane = table[line, START] + outer * rows * inner
            if inner == 1:
                a, b = plane, plane + rows
                _shorten_columns(
                    x[a:b], v[a:b], chosen[slot : slot + rows], factors[slot : slot + rows], step
                )
                continue
            for row in range(rows):
                if chosen[slot + row]:
                    a, b = plane + row * inner, plane + (row + 1) * inner
                    _shorten(x[a:b], v[a:b], factors[slot + row], step)


@native()
def zero_chosen(x: Any, table: Any, begin: int, end: int, chosen: Any) -> None:
    """Set x to 0 in the rows of chosen slots."""
    for line in range(begin, end):
        rows, inner, slot = table[line, ROWS], table[line, INNER], table[line, SLOT]
        for outer in range(table[line, OUTER]):
            plane = table[line, START] + outer * rows * inner
            for row in range(rows):
                if chosen[slot + row]:
                    x[plane + row * inner : plane + (row + 1) * inner] = 0.0


@native()
def _decay(x: Any, g: Any, a: int, decay: float, starts: Any, stops: Any) -> None:
    """g += decay * x where the stretches are; x and g begin at `a` of the buffer."""
    share, b = x.dtype.type(decay), a + len(x)
    for each in range(np.searchsorted(stops, a, "right"), len(starts)):
        if starts[each] >= b:
            break
        low, high = max(a, starts[each]) - a, min(b, stops[each]) - a
        _descend(g[low:high], x[low:high], -share)


@native()
def _turn(g: Any, first: Any, second: Any, kind: int, constants: Any) -> None:
    """SGD: momentum, and 1 for Nesterov's. Adam: b1, 1 - b1, b2, 1 - b2, eps and factor of the whole (`_adaptive`)."""
    real = g.dtype.type
    if kind == SGD:
        momentum = real(constants[0])
        if len(first) == 0:
            return
        if constants[1] == 0.0:
            for i in range(len(g)):
                first[i] = first[i] * momentum + g[i]
                g[i] = first[i]
        else:
            for i in range(len(g)):
                first[i] = first[i] * momentum + g[i]
                g[i] += first[i] * momentum
        return
    b1, c1, b2, c2 = real(constants[0]), real(constants[1]), real(constants[2]), real(constants[3])
    eps, factor = real(constants[4]), real(constants[5])
    for i in range(len(g)):
        first[i] = first[i] * b1 + g[i] * c1
        second[i] = second[i] * b2 + g[i] * g[i] * c2
        g[i] = first[i] / (np.sqrt(second[i]) + eps) * factor


@native()
def _descend(x: Any, v: Any, lr: Any) -> None:
    for i in range(len(x)):
        x[i] -= lr * v[i]


@native()
def _shorten(x: Any, v: Any, factor: Any, lr: Any) -> None:
    for i in range(len(x)):
        x[i] = x[i] * factor - lr * v[i]


@native()
def _shorten_columns(x: Any, v: Any, chosen: Any, factors: Any, lr: Any) -> None:
    one, zero = x.dtype.type(1.0), x.dtype.type(0.0)
    for i in range(len(x)):
        x[i] = x[i] * (factors[i] if chosen[i] else one) - (lr if chosen[i] else zero) * v[i]


@native(fastmath={"reassoc"})
def _moments(x: Any, v: Any, sums: Any, slot: int) -> None:
    xx, xv, vv = x.dtype.type(0.0), x.dtype.type(0.0), x.dtype.type(0.0)
    for i in range(len(x)):
        xx += x[i] * x[i]
        xv += x[i] * v[i]
        vv += v[i] * v[i]
    sums[0, slot] += xx
    sums[1, slot] += xv
    sums[2, slot] += vv

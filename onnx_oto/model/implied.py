"""Sizes of open axes that a graph says: what is multiplied, added or convolved with a constant must fit it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.dims import Shape, product, symbols, value_at
from onnx_oto.model.view import Graph

BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Where", "PRelu", "Mod"})
PER_CHANNEL = frozenset({"BatchNormalization", "InstanceNormalization"})
MOST_SOLVED = 4096
"""Sizes that are tried where an open axis stands in an expression."""
RECURRENT = frozenset({"LSTM", "GRU", "RNN"})

Pair = tuple[int | str | None, int | str | None]


def implied_sizes(view: Graph) -> dict[str, int]:
    """Return symbol -> size, for the symbols of open axes that some operator wants to have a size that is known.

    An axis that is broadcast could be 1 too, and what Reshape takes apart could lie in other rows: they are good
    guesses. Nodes in bodies say nothing: they may not run.
    """
    found: dict[str, int] = {}
    open_sizes = {
        size for name in view.inputs for size in view.shapes.get(name) or () if isinstance(size, str)
    }
    for node in view.nodes:
        if node.domain or node.within:
            continue
        shapes = [view.shapes.get(name) if name else None for name in node.inputs]
        for one, other in (*_meetings(node, shapes), *_rows(node, shapes, view)):
            for size, wanted in ((one, other), (other, one)):
                if isinstance(size, str) and isinstance(wanted, int) and wanted > 1:
                    _solve(size, wanted, open_sizes, found)
    return found


def _solve(size: str, wanted: int, open_sizes: set[str], found: dict[str, int]) -> None:
    """Note which size the only open axis in an expression must have for that to be what is wanted."""
    names = symbols(size)
    if len(names) != 1 or not names <= open_sizes or (name := next(iter(names))) in found:
        return
    if size == name:
        found[name] = wanted
        return
    for guess in range(1, MOST_SOLVED):
        if value_at(size, {name: guess}) == wanted:
            found[name] = guess
            return


def _rows(node: Node, shapes: list[Shape | None], view: Graph) -> Iterator[Pair]:
    """Yield what is in a row of what Reshape reads and makes, where it makes an unknown number of rows."""
    target = view.constant(node.inputs[1]) if node.op == "Reshape" and node.input(1) else None
    if target is not None and shapes[0] and target.size > 1 and target[0] == -1 and (target[1:] > 0).all():
        yield product(shapes[0][1:]), int(np.prod(target[1:]))


def _meetings(node: Node, shapes: list[Shape | None]) -> Iterator[Pair]:
    """Yield the sizes of two inputs that must be equal."""
    if node.op in BROADCASTING:
        known = [shape for shape in shapes if shape]
        for shape in known[1:]:
            yield from zip(reversed(known[0]), reversed(shape), strict=False)
        return
    x, w = (*shapes, None, None)[:2]
    if not x or not w:
        return
    if node.op == "MatMul":
        yield x[-1], w[-2 if len(w) > 1 else 0]
    elif node.op == "Gemm" and len(x) == len(w) == 2:
        yield x[0 if node.attrs.get("transA") else 1], w[1 if node.attrs.get("transB") else 0]
    elif node.op == "Conv" and len(x) > 2 and len(w) > 2:
        channels, group = w[1], int(node.attrs.get("group", 1))
        yield x[1], channels * group if isinstance(channels, int) else None
    elif (node.op == "ConvTranspose" and len(x) > 2) or (node.op in PER_CHANNEL and len(x) > 1):
        yield x[1], w[0]
    elif node.op in RECURRENT and len(x) == len(w) == 3:
        yield x[2], w[2]

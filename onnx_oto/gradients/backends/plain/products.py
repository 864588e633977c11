"""Gradients of products of matrices."""

from __future__ import annotations

import math

from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.table import Parts, gradient


@gradient("MatMul", any_size=True)
def matmul(node: Back, dy: str) -> Parts:
    """y = a b: da = dy b', db = a' dy, summed over axes that were broadcast; of many matrices with one b as of one."""
    a, b = node.inputs
    if not node.knows(a, b):
        return _of_any_size(node, dy)
    left, right = node.shape(a), node.shape(b)
    row, column = (1, *left) if len(left) == 1 else left, (*right, 1) if len(right) == 1 else right
    a = a if row == left else node.reshape(a, row)
    b = b if column == right else node.reshape(b, column)
    k, n = column[-2:]
    if len(column) == 2:
        m = math.prod(row[:-1])
        dy = node.reshape(dy, (m, n))
        a = node.reshape(a, (m, k))
        da, db = node.emit("Gemm", dy, b, transB=1), node.emit("Gemm", a, dy, transA=1)
        return [node.reshape(da, left), db if column == right else node.reshape(db, right)]
    outer = node.shape(node.outputs[0])
    lead = outer[: max(len(row), len(column)) - 2]
    full = (*lead, row[-2], n)
    dy = dy if full == outer else node.reshape(dy, full)
    da = node.emit("MatMul", dy, _turned(node, b, len(column)))
    db = node.emit("MatMul", _turned(node, a, len(row)), dy)
    return [_fit(node, da, (*lead, *row[-2:]), row, left), _fit(node, db, (*lead, k, n), column, right)]


def _of_any_size(node: Back, dy: str) -> Parts:
    a, b = node.inputs
    left, right = node.rank(a), node.rank(b)
    row = node.emit("Unsqueeze", a, axes=[0]) if left == 1 else a
    column = node.emit("Unsqueeze", b, axes=[1]) if right == 1 else b
    if left == 1:
        dy = node.emit("Unsqueeze", dy, axes=[-2 if right > 1 else 0])
    if right == 1:
        dy = node.emit("Unsqueeze", dy, axes=[-1])
    m, n = max(left, 2), max(right, 2)
    most = max(m, n)
    if n == 2:
        row, dy = (node.emit("Flatten", x, axis=most - 1) for x in (row, dy))
        da, db = node.emit("Gemm", dy, column, transB=1), node.emit("Gemm", row, dy, transA=1)
        return [node.reshape_as(da, a), node.reshape_as(db, b)]
    da = node.emit("MatMul", dy, _turned(node, column, n))
    db = node.emit("MatMul", _turned(node, row, m), dy)
    return [node.sum_as(da, most, a), node.sum_as(db, most, b)]


def _turned(node: Back, x: str, rank: int) -> str:
    return node.transpose(x, [*range(rank - 2), rank - 1, rank - 2])


def _fit(node: Back, x: str, shape: tuple[int, ...], own: tuple[int, ...], asked: tuple[int, ...]) -> str:
    """Return x of `shape` summed to `own`, which is broadcast to it, and in the shape asked for."""
    lead = len(shape) - len(own)
    axes = [*range(lead), *(i + lead for i, size in enumerate(own) if size == 1 != shape[i + lead])]
    total = node.sum(x, axes)
    return total if not axes and asked == shape else node.reshape(total, asked)


@gradient("Gemm", any_size=True)
def gemm(node: Back, dy: str) -> Parts:
    """y = alpha A B + beta c with A = a or a', B = b or b': dA = alpha dy B', dB = alpha A' dy, dc = beta dy."""
    a, b = node.inputs[:2]
    alpha, beta = node.attrs.get("alpha", 1.0), node.attrs.get("beta", 1.0)
    left, right = node.attrs.get("transA", 0), node.attrs.get("transB", 0)

    def product(x: str, y: str, turn_x: int, turn_y: int) -> str:
        return node.emit("Gemm", x, y, alpha=alpha, transA=int(turn_x), transB=int(turn_y))

    da = product(b, dy, right, 1) if left else product(dy, b, 0, not right)
    db = product(dy, a, 1, left) if right else product(a, dy, not left, 0)
    if not node.input(2):
        return [da, db]
    c = node.inputs[2]
    return [da, db, node.scaled(node.fit(dy, node.outputs[0], c), beta, c)]

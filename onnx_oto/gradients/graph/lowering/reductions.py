"""Reductions from those with a right gradient (ReduceSum, ReduceMean), and running sums."""

from __future__ import annotations

import numpy as np

from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register
from onnx_oto.gradients.graph.lowering.slopes import detached


def _axes(node: Site) -> list[int] | None:
    """Return the reduced axes, or None when the node leaves its input as it is (noop_with_empty_axes)."""
    rank = len(node.shape(node.inputs[0]))
    given = node.attribute("axes")
    if given is None:
        value = node.constant(1, "axes")
        given = None if value is None else value.tolist()
    if given:
        return sorted(axis % rank for axis in given)
    return None if node.attribute("noop_with_empty_axes", 0) else list(range(rank))


def _keepdims(node: Site) -> int:
    return int(node.attribute("keepdims", 1))


@register("ReduceSum", "ReduceMean")
def plain(node: Site) -> Outcome:
    """ORT's own gradient is right, but for the case that reduces nothing."""
    return node.emit("Identity", node.inputs[0]) if _axes(node) is None else None


@register("ReduceLogSumExp")
def log_sum_exp(node: Site) -> Outcome:
    """m + log sum exp(x - m), m near the largest x: a number, so that no gradient flows through it."""
    x, axes = node.inputs[0], _axes(node)
    if axes is None:
        return node.emit("Identity", x)
    most = detached(node, node.reduce("ReduceMax", x, axes))
    powers = node.emit("Exp", node.emit("Sub", x, most))
    total = node.emit("Log", node.reduce("ReduceSum", powers, axes))
    result = node.emit("Add", total, most)
    kept = [size for axis, size in enumerate(node.shape(x)) if axis not in axes]
    return result if _keepdims(node) else node.reshape(result, kept)


@register("ReduceSumSquare")
def sum_square(node: Site) -> Outcome:
    """sum x^2."""
    return _sum(node, node.emit("Mul", node.inputs[0], node.inputs[0]))


@register("ReduceL1")
def l1(node: Site) -> Outcome:
    """sum |x|."""
    return _sum(node, node.emit("Abs", node.inputs[0]))


@register("ReduceLogSum")
def log_sum(node: Site) -> Outcome:
    """log sum x."""
    return node.emit("Log", _sum(node, node.inputs[0]))


@register("ReduceL2")
def l2(node: Site) -> Outcome:
    """sqrt(sum x^2), with derivative 0 (not NaN) where x is all zeros."""
    return root(node, _sum(node, node.emit("Mul", node.inputs[0], node.inputs[0])))


def root(node: Site, square: str) -> str:
    """sqrt(s) for s >= 0, with derivative 0 where s = 0: the square root of 1 there, masked out."""
    x = node.inputs[0]
    zero, one = node.number(0.0, x), node.number(1.0, x)
    positive = node.emit("Greater", square, zero)
    safe = node.emit("Sqrt", node.emit("Where", positive, square, one))
    return node.emit("Where", positive, safe, zero)


def _sum(node: Site, x: str) -> str:
    axes = _axes(node)
    return x if axes is None else node.reduce("ReduceSum", x, axes, keepdims=_keepdims(node))


@register("ReduceMax", "ReduceMin")
def extreme(node: Site) -> Outcome:
    """The mean of the entries equal to the extreme value, so that ties share the gradient evenly."""
    x, axes = node.inputs[0], _axes(node)
    if axes is None:
        return node.emit("Identity", x)
    zero, one = node.number(0.0, x), node.number(1.0, x)
    best = node.emit("Equal", x, node.reduce(node.op, x, axes))
    chosen = node.reduce("ReduceSum", node.emit("Where", best, x, zero), axes, keepdims=_keepdims(node))
    count = node.reduce("ReduceSum", node.emit("Where", best, one, zero), axes, keepdims=_keepdims(node))
    return node.emit("Div", chosen, count)


@register("ReduceProd")
def product(node: Site) -> Outcome:
    """One half of the factors times the other, until one is left: log2(n) Muls along one flattened axis."""
    x, axes = node.inputs[0], _axes(node)
    if axes is None:
        return node.emit("Identity", x)
    shape = node.shape(x)
    count = int(np.prod([shape[axis] for axis in axes]))
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    if count == 0:
        return node.number(np.ones(kept if _keepdims(node) else [shape[axis] for axis in rest]), x)
    result = node.reshape(node.emit("Transpose", x, perm=[*axes, *rest]), [count, -1])
    while count > 1:
        half = count // 2
        sizes = [half, half, *([1] if count % 2 else [])]
        first, second, *odd = node.emit_many("Split", [result, node.ints(sizes)], len(sizes), axis=0)
        result = node.emit("Mul", first, second)
        if odd:
            result = node.emit("Concat", result, *odd, axis=0)
        count = half + count % 2
    return node.reshape(result, kept if _keepdims(node) else [shape[axis] for axis in rest])


@register("CumSum")
def running_sum(node: Site) -> Outcome:
    """x times a fixed triangular matrix along the axis, which is moved to the end and back."""
    x = node.inputs[0]
    shape = node.shape(x)
    axis_value = node.constant(1, "axis")
    axis = int(np.asarray(axis_value).reshape(())) % len(shape)
    size = shape[axis]
    matrix = np.triu(np.ones((size, size)), 1 if node.attribute("exclusive", 0) else 0)
    if node.attribute("reverse", 0):
        matrix = matrix[::-1, ::-1]
    order = [*(a for a in range(len(shape)) if a != axis), axis]
    moved = node.emit("Transpose", x, perm=order)
    return node.emit(
        "Transpose", node.emit("MatMul", moved, node.number(matrix, x)), perm=np.argsort(order).tolist()
    )

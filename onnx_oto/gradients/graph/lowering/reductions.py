"""Reductions from those with a right gradient (ReduceSum, ReduceMean, ReduceLogSumExp), and running sums."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.registry import Outcome, Site, register

_LONGEST_PRODUCT = 64  # factors of a ReduceProd that are written out


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


@register("ReduceSum", "ReduceMean", "ReduceLogSumExp")
def plain(node: Site) -> Outcome:
    """ORT's own gradient is right, but for the case that reduces nothing."""
    axes = _axes(node)
    if axes is None:
        same = node.emit("Identity", node.inputs[0])
        return node.emit("Log", node.emit("Exp", same)) if node.op == "ReduceLogSumExp" else same
    return None


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
    """The product written out, factor by factor, along one flattened axis."""
    x, axes = node.inputs[0], _axes(node)
    if axes is None:
        return node.emit("Identity", x)
    shape = node.shape(x)
    count = int(np.prod([shape[axis] for axis in axes]))
    if count > _LONGEST_PRODUCT:
        raise UnsupportedError(
            f"it multiplies {count} numbers, training writes out {_LONGEST_PRODUCT}: take exp(sum(log))"
        )
    rest = [axis for axis in range(len(shape)) if axis not in axes]
    flat = node.reshape(node.emit("Transpose", x, perm=[*axes, *rest]), [count, -1])
    factors = [node.emit("Gather", flat, node.value(i, np.int64), axis=0) for i in range(count)]
    result = factors[0]
    for factor in factors[1:]:
        result = node.emit("Mul", result, factor)
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
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

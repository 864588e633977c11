"""Elementwise arithmetic and matrix products where ORT's gradient is missing or has the wrong shape."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register

_FLOAT_TO_INT = 7  # TensorProto.INT64: gradient never flows through an integer tensor


@register("Sum")
def total(node: Site) -> Outcome:
    """y = x0 + x1 + ..."""
    return _added(node)


@register("Mean")
def mean(node: Site) -> Outcome:
    """y = (x0 + x1 + ...) / n."""
    return node.emit("Mul", _added(node), node.number(1.0 / len(node.inputs), node.inputs[0]))


def _added(node: Site) -> str:
    result = node.inputs[0]
    for other in node.inputs[1:]:
        result = node.emit("Add", result, other)
    return result if len(node.inputs) > 1 else node.emit("Identity", result)


@register("Pow")
def power(node: Site) -> Outcome:
    """x^p: an integer exponent is cast, x broadcast; a trained exponent becomes exp(p log x), which needs x > 0."""
    x, p = node.inputs
    if node.carries(p):
        return node.emit("Exp", node.emit("Mul", p, node.emit("Log", x)))
    if node.dtype(p) != node.dtype(x):
        return node.emit("Pow", x, node.cast_like(p, x))
    shape = node.shape(node.outputs[0])
    return None if node.shape(x) == shape else node.emit("Pow", node.emit("Expand", x, node.ints(shape)), p)


@register("Where")
def where(node: Site) -> Outcome:
    """Operands broadcast beforehand, scalars as [1]: ORT's gradient has the shape of the result, or [1]."""
    condition, a, b = node.inputs
    shape = np.broadcast_shapes(*(node.shape(name) for name in node.inputs))
    if shape == ():
        one = node.emit("Where", condition, node.reshape(a, [1]), node.reshape(b, [1]))
        return node.reshape(one, [])
    wide = {name: _expanded(node, name, shape) for name in (a, b)}
    if all(name == new for name, new in wide.items()):
        return None
    return node.emit("Where", condition, wide[a], wide[b])


def _expanded(node: Site, name: str, shape: tuple[int, ...]) -> str:
    if node.shape(name) == shape or not node.carries(name):
        return name
    return node.emit("Expand", name, node.ints(shape))


@register("Clip")
def clip(node: Site) -> Outcome:
    """max(x, low), then min(., high)."""
    result = node.inputs[0]
    for index, op in ((1, "Max"), (2, "Min")):
        if node.has_input(index):
            result = node.emit(op, result, node.inputs[index])
    return result


@register("Gemm")
def gemm(node: Site) -> Outcome:
    """A scalar C is added apart: its gradient would have shape [1]."""
    if not node.has_input(2) or node.shape(node.inputs[2]) != ():
        return None
    a, b, c = node.inputs
    rest = {k: v for k, v in node.attributes.items() if k != "beta"}
    beta = node.number(node.attribute("beta", 1.0), a)
    return node.emit("Add", node.emit("Gemm", a, b, **rest), node.emit("Mul", c, beta))


@register("MatMul")
def matmul(node: Site) -> Outcome:
    """A vector on the right becomes a column, one on the left a row, and that axis is dropped again."""
    a, b = node.inputs
    left, right = node.shape(a), node.shape(b)
    if len(right) == 1:
        column = node.emit("MatMul", a, node.reshape(b, (*right, 1)))
        return node.emit("Squeeze", column, node.ints([-1]))
    if len(left) == 1:
        row = node.emit("MatMul", node.reshape(a, (1, *left)), b)
        return node.emit("Squeeze", row, node.ints([-2]))
    return None


@register("Floor")
def floor(node: Site) -> Outcome:
    """Truncated towards zero, one less where that went up; the derivative is zero. Needs |x| < 2^63."""
    return _floor(node, node.inputs[0])


@register("Ceil")
def ceil(node: Site) -> Outcome:
    """-floor(-x)."""
    return node.emit("Neg", _floor(node, node.emit("Neg", node.inputs[0])))


@register("Round")
def round_half_even(node: Site) -> Outcome:
    """floor(x), one more where the rest is above 1/2, or is 1/2 and the floor is odd."""
    x = node.inputs[0]
    one, half = node.number(1.0, x), node.number(0.5, x)
    low = _floor(node, x)
    rest = node.emit("Sub", x, low)
    odd = node.emit(
        "Sub", low, node.emit("Mul", _floor(node, node.emit("Mul", low, half)), node.number(2.0, x))
    )
    tie = node.emit("And", node.emit("Equal", rest, half), node.emit("Equal", odd, one))
    up = node.emit("Or", node.emit("Greater", rest, half), tie)
    return node.emit("Add", low, node.emit("Where", up, one, node.number(0.0, x)))


def _floor(node: Site, x: str) -> str:
    like = node.inputs[0]
    whole = node.cast_like(node.emit("Cast", x, to=_FLOAT_TO_INT), like)
    above = node.emit("Greater", whole, x)
    return node.emit("Where", above, node.emit("Sub", whole, node.number(1.0, like)), whole)


@register("Sign")
def sign(node: Site) -> Outcome:
    """1, 0 or -1; the derivative is zero."""
    x = node.inputs[0]
    zero, one, minus = (node.number(value, x) for value in (0.0, 1.0, -1.0))
    negative = node.emit("Where", node.emit("Less", x, zero), minus, zero)
    return node.emit("Where", node.emit("Greater", x, zero), one, negative)


@register("Tan")
def tan(node: Site) -> Outcome:
    """sin / cos."""
    return node.emit("Div", node.emit("Sin", node.inputs[0]), node.emit("Cos", node.inputs[0]))


@register("Sinh", "Cosh")
def hyperbolic(node: Site) -> Outcome:
    """(exp(x) - exp(-x)) / 2, and with a plus sign for Cosh."""
    x = node.inputs[0]
    up, down = node.emit("Exp", x), node.emit("Exp", node.emit("Neg", x))
    joined = node.emit("Sub" if node.op == "Sinh" else "Add", up, down)
    return node.emit("Mul", joined, node.number(0.5, x))


@register("Mod")
def remainder(node: Site) -> Outcome:
    """fmod(x, y) = x - y trunc(x / y) for floating-point operands."""
    if not node.attribute("fmod", 0):
        raise UnsupportedError("Mod of floating-point numbers needs fmod=1")
    x, y = node.inputs
    whole = node.cast_like(node.emit("Cast", node.emit("Div", x, y), to=_FLOAT_TO_INT), x)
    return node.emit("Sub", x, node.emit("Mul", y, whole))

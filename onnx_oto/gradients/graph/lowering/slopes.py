"""Functions that a runtime computes but does not differentiate, by their value and slope at a fixed point.

y = f(p) + (x - p) f'(p), where p is x as a number without gradient: x - p is 0 (or below 2^-30), so the value is that
of the operator itself and the derivative is the slope that is written down here.
"""

from __future__ import annotations

from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register

_INT64 = 7  # TensorProto.INT64: gradient never flows through an integer tensor
_BITS = 30  # binary places that stay: numbers up to 2^33 fit
_LEAST = 1e-12  # of a divisor: at the ends of their domain some slopes are infinite, and 0 times that is NaN


def detached(node: Site, x: str) -> str:
    """Return x, of magnitude below 2^33, without gradient: rounded to a multiple of 2^-30 by way of integers."""
    scaled = node.emit("Mul", x, node.number(2.0**_BITS, node.inputs[0]))
    whole = node.cast_like(node.emit("Cast", scaled, to=_INT64), node.inputs[0])
    return node.emit("Mul", whole, node.number(2.0**-_BITS, node.inputs[0]))


def tangent(node: Site, value: str, point: str, slope: str) -> str:
    """Return value + (x - point) slope for the first input x."""
    return node.emit("Add", value, node.emit("Mul", node.emit("Sub", node.inputs[0], point), slope))


@register("com.microsoft::Inverse")
def inverse_matrix(node: Site) -> Outcome:
    """Y = P^-1 - P^-1 (X - P) P^-1."""
    x = node.inputs[0]
    p = detached(node, x)
    y = node.emit("Inverse", p, domain="com.microsoft")
    change = node.emit("MatMul", node.emit("MatMul", y, node.emit("Sub", x, p)), y)
    return node.emit("Sub", y, change)


@register("Asin", "Acos", "Atan", "Asinh", "Acosh", "Atanh")
def inverse(node: Site) -> Outcome:
    """asin' = 1/sqrt(1 - x^2) = -acos', atan' = 1/(1 + x^2), asinh' = 1/sqrt(1 + x^2), acosh' = 1/sqrt(x^2 - 1),
    atanh' = 1/(1 - x^2); divisors are at least 1e-12 (or its root).
    """
    x = node.inputs[0]
    one = node.number(1.0, x)
    p = detached(node, x)
    below, above = node.emit("Sub", one, p), node.emit("Add", one, p)
    square = {
        "Atan": lambda: node.emit("Add", one, node.emit("Mul", p, p)),
        "Asinh": lambda: node.emit("Add", one, node.emit("Mul", p, p)),
        "Acosh": lambda: node.emit("Neg", node.emit("Mul", below, above)),
    }.get(node.op, lambda: node.emit("Mul", below, above))()
    divisor = node.emit("Max", square, node.number(_LEAST, x))
    if node.op not in ("Atan", "Atanh"):
        divisor = node.emit("Sqrt", divisor)
    slope = node.emit("Div", node.number(-1.0 if node.op == "Acos" else 1.0, x), divisor)
    return tangent(node, node.emit(node.op, p), p, slope)

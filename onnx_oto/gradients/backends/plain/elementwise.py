"""Gradients of what is computed element by element; operands may be broadcast."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from onnx_oto.gradients.backends.conditions import trains_bounds
from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.table import Parts, gradient

_STEEP = 3e38


@gradient("Add", "Sum", broadcasts=True, any_size=True)
def add(node: Back, dy: str) -> Parts:
    """y = a + b + ...: da = db = dy."""
    return [dy] * len(node.inputs)


@gradient("Sub", broadcasts=True, any_size=True)
def sub(node: Back, dy: str) -> Parts:
    """y = a - b: da = dy, db = -dy."""
    return [dy, node.emit("Neg", dy)]


@gradient("Mul", broadcasts=True, any_size=True)
def mul(node: Back, dy: str) -> Parts:
    """y = a b: da = dy b, db = dy a."""
    a, b = node.inputs
    return [node.mul(dy, b), node.mul(dy, a)]


@gradient("Div", broadcasts=True, any_size=True)
def div(node: Back, dy: str) -> Parts:
    """y = a / b: da = dy / b, db = -y da."""
    da = node.emit("Div", dy, node.inputs[1])
    return [da, node.emit("Neg", node.mul(node.outputs[0], da))]


@gradient("Pow", broadcasts=True, any_size=True)
def power(node: Back, dy: str) -> Parts:
    """y = a^p: da = dy p a^(p - 1), dp = dy y log a, 0 where a is not positive."""
    a, p = node.inputs
    fixed = node.constant(1)
    if fixed is not None and fixed.size == 1 and float(fixed.reshape(())) == 2.0:
        return [node.mul(dy, node.scaled(a, 2.0, a)), None]
    exponent = p if node.known.dtypes[p] == node.known.dtypes[a] else _cast(node, p, node.known.dtypes[a])
    less = node.emit("Sub", exponent, node.number(1.0, a))
    zero, one = node.number(0.0, a), node.number(1.0, a)
    slope = node.mul(exponent, node.emit("Pow", a, less))
    slope = node.emit("Where", node.emit("Equal", exponent, zero), zero, slope)
    positive = node.emit("Greater", a, zero)
    log = node.emit("Log", node.emit("Where", positive, a, one))
    return [node.mul(dy, slope), node.mul(dy, node.outputs[0], log)]


def _cast(node: Back, x: str, to: int) -> str:
    return node.emit("Cast", x, to=to)


def _mask(node: Back, condition: str) -> str:
    """Return 1 where a condition holds, else 0: a product by it is five times as fast as a choice."""
    return _cast(node, condition, node.known.dtypes[node.outputs[0]])


@gradient("Max", "Min", broadcasts=True, any_size=True)
def extreme(node: Back, dy: str) -> Parts:
    """y = max(a, b, ...): da = dy where a = y, and so for each; those that are equal share it."""
    masks = [_mask(node, node.emit("Equal", each, node.outputs[0])) for each in node.inputs]
    share = node.emit("Div", dy, node.emit("Sum", *masks)) if len(masks) > 1 else dy
    return [node.mul(share, mask) for mask in masks]


@gradient("Where", broadcasts=True, any_size=True)
def where(node: Back, dy: str) -> Parts:
    """y = a where c, else b: da = dy where c, else 0; db the other way round."""
    zero = node.number(0.0, node.outputs[0])
    return [None, node.emit("Where", node.inputs[0], dy, zero), node.emit("Where", node.inputs[0], zero, dy)]


@gradient("Clip", unless=trains_bounds, any_size=True)
def clip(node: Back, dy: str) -> Parts:
    """y = x between low and high: dx = dy where x = y."""
    return [node.mul(dy, _mask(node, node.emit("Equal", node.inputs[0], node.outputs[0])))]


@gradient("Relu", any_size=True)
def relu(node: Back, dy: str) -> Parts:
    """y = max(x, 0): dx = dy [y > 0].

    On the CPU the mask of floats is clip(3e38 y, 0, 1), which is threaded and vectorised there; OpenVINO's HardSigmoid
    is wrong for such a slope.
    """
    y = node.outputs[0]
    if node.known.on_cpu and node.known.dtypes.get(y) == TensorProto.FLOAT:
        return [node.mul(dy, node.emit("HardSigmoid", y, alpha=_STEEP, beta=0.0))]
    return [node.mul(dy, _mask(node, node.emit("Greater", y, node.number(0.0, y))))]


@gradient("LeakyRelu", any_size=True)
def leaky_relu(node: Back, dy: str) -> Parts:
    """y = x where x > 0, else alpha x: dx = dy where x > 0, else alpha dy."""
    x = node.inputs[0]
    positive = node.emit("Greater", x, node.number(0.0, x))
    return [node.emit("Where", positive, dy, node.scaled(dy, node.attrs.get("alpha", 0.01), x))]


@gradient("Abs", any_size=True)
def absolute(node: Back, dy: str) -> Parts:
    """y = |x|: dx = dy sign x."""
    return [node.mul(dy, node.emit("Sign", node.inputs[0]))]


@gradient("Neg", any_size=True)
def negative(node: Back, dy: str) -> Parts:
    """y = -x: dx = -dy."""
    return [node.emit("Neg", dy)]


@gradient("Exp", any_size=True)
def exponential(node: Back, dy: str) -> Parts:
    """y = e^x: dx = dy y."""
    return [node.mul(dy, node.outputs[0])]


@gradient("Log", any_size=True)
def logarithm(node: Back, dy: str) -> Parts:
    """y = log x: dx = dy / x."""
    return [node.emit("Div", dy, node.inputs[0])]


@gradient("Sqrt", any_size=True)
def root(node: Back, dy: str) -> Parts:
    """y = sqrt x: dx = dy / 2 y."""
    y = node.outputs[0]
    return [node.emit("Div", node.scaled(dy, 0.5, y), y)]


@gradient("Reciprocal", any_size=True)
def reciprocal(node: Back, dy: str) -> Parts:
    """y = 1 / x: dx = -dy y^2."""
    y = node.outputs[0]
    return [node.emit("Neg", node.mul(dy, node.mul(y, y)))]


@gradient("Erf", any_size=True)
def error_function(node: Back, dy: str) -> Parts:
    """y = erf x: dx = dy 2 / sqrt(pi) e^(-x^2)."""
    x = node.inputs[0]
    slope = node.emit("Exp", node.emit("Neg", node.mul(x, x)))
    return [node.mul(dy, node.scaled(slope, 2 / math.sqrt(math.pi), x))]


@gradient("Sin", any_size=True)
def sine(node: Back, dy: str) -> Parts:
    """y = sin x: dx = dy cos x."""
    return [node.mul(dy, node.emit("Cos", node.inputs[0]))]


@gradient("Cos", any_size=True)
def cosine(node: Back, dy: str) -> Parts:
    """y = cos x: dx = -dy sin x."""
    return [node.emit("Neg", node.mul(dy, node.emit("Sin", node.inputs[0])))]


@gradient("Sigmoid", any_size=True)
def sigmoid(node: Back, dy: str) -> Parts:
    """y = 1 / (1 + e^-x): dx = dy y (1 - y)."""
    y = node.outputs[0]
    return [node.mul(dy, node.mul(y, node.emit("Sub", node.number(1.0, y), y)))]


@gradient("Tanh", any_size=True)
def tangent(node: Back, dy: str) -> Parts:
    """y = tanh x: dx = dy (1 - y^2)."""
    y = node.outputs[0]
    return [node.mul(dy, node.emit("Sub", node.number(1.0, y), node.mul(y, y)))]


@gradient("Cast", any_size=True)
def cast(node: Back, dy: str) -> Parts:
    """y = x in another type: dx = dy in the type of x."""
    kind = node.known.dtypes[node.inputs[0]]
    return [_cast(node, dy, kind) if np.issubdtype(node.dtype(node.inputs[0]), np.floating) else None]

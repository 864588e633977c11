"""Activations by parts, with the right derivative at 0 too, where a pruned channel sits."""

from __future__ import annotations

import math

from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register


def _negative_part(node: Site, x: str) -> str:
    """min(x, 0). The gradient of Clip is 1 at its bound, that of Relu 0 at 0: together they make 1 everywhere."""
    return node.emit("Clip", x, "", node.number(0.0, x))


def _exponential(node: Site, x: str, alpha: float, divisor: float) -> str:
    """relu(x) + alpha (exp(min(x, 0) / divisor) - 1), which cannot overflow."""
    low = _negative_part(node, x)
    if divisor != 1.0:
        low = node.emit("Mul", low, node.number(1.0 / divisor, x))
    curve = node.emit("Sub", node.emit("Exp", low), node.number(1.0, x))
    return node.emit("Add", node.emit("Relu", x), node.emit("Mul", curve, node.number(alpha, x)))


def _mask(node: Site, comparison: str, x: str, bound: float) -> str:
    """1 where the comparison holds, 0 elsewhere; no gradient. Much faster in ORT than Where."""
    return node.cast_like(node.emit(comparison, x, node.number(bound, x)), x)


@register("Elu")
def elu(node: Site) -> Outcome:
    """y = x for x > 0, else alpha (exp(x) - 1)."""
    return _exponential(node, node.inputs[0], node.attribute("alpha", 1.0), 1.0)


@register("Selu")
def selu(node: Site) -> Outcome:
    """y = gamma x for x > 0, else gamma alpha (exp(x) - 1)."""
    x = node.inputs[0]
    gamma = node.attribute("gamma", 1.05070102214813232)
    curve = _exponential(node, x, node.attribute("alpha", 1.67326319217681884765625), 1.0)
    return node.emit("Mul", node.number(gamma, x), curve)


@register("Celu")
def celu(node: Site) -> Outcome:
    """y = x for x > 0, else alpha (exp(x / alpha) - 1)."""
    alpha = node.attribute("alpha", 1.0)
    return _exponential(node, node.inputs[0], alpha, alpha)


@register("HardSigmoid")
def hard_sigmoid(node: Site) -> Outcome:
    """y = clip(alpha x + beta, 0, 1)."""
    return _hard_sigmoid(node, node.attribute("alpha", 0.2), node.attribute("beta", 0.5))


@register("HardSwish")
def hard_swish(node: Site) -> Outcome:
    """y = x clip(x / 6 + 1/2, 0, 1)."""
    return node.emit("Mul", node.inputs[0], _hard_sigmoid(node, 1.0 / 6.0, 0.5))


def _hard_sigmoid(node: Site, alpha: float, beta: float) -> str:
    x = node.inputs[0]
    line = node.emit("Add", node.emit("Mul", x, node.number(alpha, x)), node.number(beta, x))
    return node.emit("Clip", line, node.number(0.0, x), node.number(1.0, x))


def _softplus(node: Site) -> str:
    """r + log(1 + exp(x - 2 r)), r = relu(x): no overflow, and right at 0 whatever relu'(0) is."""
    x = node.inputs[0]
    r = node.emit("Relu", x)
    minus_abs = node.emit("Sub", x, node.emit("Add", r, r))
    tail = node.emit("Log", node.emit("Add", node.emit("Exp", minus_abs), node.number(1.0, x)))
    return node.emit("Add", r, tail)


@register("Softplus")
def softplus(node: Site) -> Outcome:
    """y = log(1 + exp(x))."""
    return _softplus(node)


@register("Mish")
def mish(node: Site) -> Outcome:
    """y = x tanh(softplus(x))."""
    return node.emit("Mul", node.inputs[0], node.emit("Tanh", _softplus(node)))


@register("Softsign")
def softsign(node: Site) -> Outcome:
    """y = x / (1 + |x|)."""
    x = node.inputs[0]
    return node.emit("Div", x, node.emit("Add", node.emit("Abs", x), node.number(1.0, x)))


@register("ThresholdedRelu")
def thresholded_relu(node: Site) -> Outcome:
    """y = x for x > alpha, else 0."""
    x = node.inputs[0]
    return node.emit("Mul", x, _mask(node, "Greater", x, node.attribute("alpha", 1.0)))


@register("Shrink")
def shrink(node: Site) -> Outcome:
    """y = x + bias for x < -lambd, x - bias for x > lambd, else 0."""
    x = node.inputs[0]
    bias, threshold = node.number(node.attribute("bias", 0.0), x), node.attribute("lambd", 0.5)
    high = node.emit("Mul", node.emit("Sub", x, bias), _mask(node, "Greater", x, threshold))
    low = node.emit("Mul", node.emit("Add", x, bias), _mask(node, "Less", x, -threshold))
    return node.emit("Add", high, low)


@register("LeakyRelu")
def leaky_relu(node: Site) -> Outcome:
    """y = alpha x + (1 - alpha) relu(x): ORT's own gradient is right, but both its kernels are slow."""
    x = node.inputs[0]
    alpha = node.attribute("alpha", 0.01)
    line = node.emit("Mul", x, node.number(alpha, x))
    return node.emit("Add", line, node.emit("Mul", node.emit("Relu", x), node.number(1.0 - alpha, x)))


@register("PRelu")
def prelu(node: Site) -> Outcome:
    """y = relu(x) + slope min(x, 0)."""
    x, slope = node.inputs
    return node.emit("Add", node.emit("Relu", x), node.emit("Mul", slope, _negative_part(node, x)))


@register("Gelu")
def gelu(node: Site) -> Outcome:
    """y = x/2 (1 + erf(x / sqrt 2)), or x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) approximately."""
    x = node.inputs[0]
    if node.attribute("approximate", "none") == "none":
        inner = node.emit("Erf", node.emit("Mul", x, node.number(math.sqrt(0.5), x)))
    else:
        cube = node.emit("Mul", node.emit("Mul", node.emit("Mul", x, x), x), node.number(0.044715, x))
        scaled = node.emit("Mul", node.emit("Add", x, cube), node.number(math.sqrt(2.0 / math.pi), x))
        inner = node.emit("Tanh", scaled)
    half = node.emit("Mul", x, node.number(0.5, x))
    return node.emit("Mul", half, node.emit("Add", inner, node.number(1.0, x)))


@register("Hardmax")
def hardmax(node: Site) -> Outcome:
    """One at the first maximum along the axis, 0 elsewhere; the derivative is zero."""
    x = node.inputs[0]
    shape = node.shape(x)
    axis = node.attribute("axis", -1) % len(shape)
    best = node.emit("ArgMax", x, axis=axis, keepdims=1)
    row = [1] * len(shape)
    row[axis] = shape[axis]
    index = node.reshape(node.ints(range(shape[axis])), row)
    return node.emit("Where", node.emit("Equal", index, best), node.number(1.0, x), node.number(0.0, x))

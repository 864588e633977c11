"""Activations by parts, with the right derivative at 0 too, where a pruned channel sits."""

from __future__ import annotations

import math

from onnx_oto.gradients.lowering.registry import Outcome, Site, register


def _exp_minus_one_below_zero(node: Site, x: str, divisor: float) -> str:
    """exp(min(x, 0) / divisor) - 1, never overflowing; Clip's gradient at its bound is 1."""
    low = node.emit("Clip", x, "", node.number(0.0, x))
    if divisor != 1.0:
        low = node.emit("Div", low, node.number(divisor, x))
    return node.emit("Sub", node.emit("Exp", low), node.number(1.0, x))


def _positive(node: Site, x: str) -> str:
    return node.emit("Greater", x, node.number(0.0, x))


@register("Elu")
def elu(node: Site) -> Outcome:
    """y = x for x > 0, else alpha (exp(x) - 1)."""
    x = node.inputs[0]
    alpha = node.number(node.attribute("alpha", 1.0), x)
    return node.emit(
        "Where", _positive(node, x), x, node.emit("Mul", alpha, _exp_minus_one_below_zero(node, x, 1.0))
    )


@register("Selu")
def selu(node: Site) -> Outcome:
    """y = gamma x for x > 0, else gamma alpha (exp(x) - 1)."""
    x = node.inputs[0]
    alpha, gamma = (
        node.attribute("alpha", 1.67326319217681884765625),
        node.attribute("gamma", 1.05070102214813232),
    )
    low = node.emit("Mul", node.number(alpha, x), _exp_minus_one_below_zero(node, x, 1.0))
    return node.emit("Mul", node.number(gamma, x), node.emit("Where", _positive(node, x), x, low))


@register("Celu")
def celu(node: Site) -> Outcome:
    """y = x for x > 0, else alpha (exp(x / alpha) - 1)."""
    x = node.inputs[0]
    alpha = node.attribute("alpha", 1.0)
    low = node.emit("Mul", node.number(alpha, x), _exp_minus_one_below_zero(node, x, alpha))
    return node.emit("Where", _positive(node, x), x, low)


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
    above = node.emit("Greater", x, node.number(node.attribute("alpha", 1.0), x))
    return node.emit("Where", above, x, node.number(0.0, x))


@register("Shrink")
def shrink(node: Site) -> Outcome:
    """y = x + bias for x < -lambd, x - bias for x > lambd, else 0."""
    x = node.inputs[0]
    bias, threshold = node.number(node.attribute("bias", 0.0), x), node.attribute("lambd", 0.5)
    high = node.emit("Greater", x, node.number(threshold, x))
    low = node.emit("Less", x, node.number(-threshold, x))
    inner = node.emit("Where", low, node.emit("Add", x, bias), node.number(0.0, x))
    return node.emit("Where", high, node.emit("Sub", x, bias), inner)


@register("PRelu")
def prelu(node: Site) -> Outcome:
    """y = x for x >= 0, else slope x, as relu(x) - slope relu(-x) rearranged so that y'(0) = 1."""
    x, slope = node.inputs
    below = node.emit("Less", x, node.number(0.0, x))
    return node.emit("Where", below, node.emit("Mul", x, slope), x)


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

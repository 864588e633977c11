"""Operators that map every position on its own, with numpy broadcasting.

Their behaviour on zero is found by evaluating them, not listed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import onnx

from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import times, zero_or_unknown
from onnx_oto.lanes.layout import FloatArray, changed, with_blocks
from onnx_oto.lanes.quantized import code_of_cast
from onnx_oto.lanes.states import State, remembered
from onnx_oto.lanes.trace import Role, Trace
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.ops.quantize import remember
from onnx_oto.ops.rules import NotCovered, given, inputs, rule

Attrs = dict[str, Any]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _gelu(x: FloatArray, attrs: Attrs) -> FloatArray:
    if attrs.get("approximate", "none") in ("tanh", b"tanh"):
        gate: FloatArray = np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    else:
        gate = _erf(x / math.sqrt(2))
    return x / 2 * (1 + gate)


def defined(function: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    """Return `function` (of states) with infinity where known values have no result: log(-1), 0/0."""

    def state(*states: FloatArray) -> FloatArray:
        value = function(*states)
        known = np.logical_and.reduce([~np.isnan(s) for s in states])
        return np.where(known & np.isnan(value), np.inf, value)

    return state


UNARY: dict[str, Callable[[FloatArray, Attrs], FloatArray]] = {
    "Abs": lambda x, a: np.abs(x),
    "Acos": lambda x, a: np.arccos(x),
    "Acosh": lambda x, a: np.arccosh(x),
    "Asin": lambda x, a: np.arcsin(x),
    "Asinh": lambda x, a: np.arcsinh(x),
    "Atan": lambda x, a: np.arctan(x),
    "Atanh": lambda x, a: np.arctanh(x),
    "Ceil": lambda x, a: np.ceil(x),
    "Celu": lambda x, a: np.where(x > 0, x, a.get("alpha", 1.0) * np.expm1(x / a.get("alpha", 1.0))),
    "Cos": lambda x, a: np.cos(x),
    "Cosh": lambda x, a: np.cosh(x),
    "Elu": lambda x, a: np.where(x > 0, x, a.get("alpha", 1.0) * np.expm1(x)),
    "Erf": lambda x, a: _erf(x),
    "Exp": lambda x, a: np.exp(x),
    "Floor": lambda x, a: np.floor(x),
    "Gelu": _gelu,
    "HardSigmoid": lambda x, a: np.clip(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1),
    "HardSwish": lambda x, a: x * np.clip(x / 6 + 0.5, 0, 1),
    "LeakyRelu": lambda x, a: np.where(x > 0, x, a.get("alpha", 0.01) * x),
    "Log": lambda x, a: np.log(x),
    "Mish": lambda x, a: x * np.tanh(np.log1p(np.exp(x))),
    "Neg": lambda x, a: -x,
    "Reciprocal": lambda x, a: 1 / x,
    "Relu": lambda x, a: np.maximum(x, 0),
    "Round": lambda x, a: np.round(x),
    "Selu": lambda x, a: (
        a.get("gamma", 1.0507009873554805)
        * np.where(x > 0, x, a.get("alpha", 1.6732632423543772) * np.expm1(x))
    ),
    "Shrink": lambda x, a: np.where(
        x < -a.get("lambd", 0.5),
        x + a.get("bias", 0.0),
        np.where(x > a.get("lambd", 0.5), x - a.get("bias", 0.0), 0),
    ),
    "Sigmoid": lambda x, a: 1 / (1 + np.exp(-x)),
    "Sign": lambda x, a: np.sign(x),
    "Sin": lambda x, a: np.sin(x),
    "Sinh": lambda x, a: np.sinh(x),
    "Softplus": lambda x, a: np.log1p(np.exp(x)),
    "Softsign": lambda x, a: x / (1 + np.abs(x)),
    "Sqrt": lambda x, a: np.sqrt(x),
    "Swish": lambda x, a: x / (1 + np.exp(-a.get("alpha", 1.0) * x)),
    "Tan": lambda x, a: np.tan(x),
    "Tanh": lambda x, a: np.tanh(x),
    "ThresholdedRelu": lambda x, a: np.where(x > a.get("alpha", 1.0), x, 0),
}


@rule(*UNARY, orderless=True)
def unary(node: Node, trace: Trace) -> None:
    """y[i] = f(x[i])"""
    (x,) = inputs(node, trace)
    state = _of_attributes(node.op, node.attrs) if node.attrs else _plain(node.op)
    trace.put(node.outputs[0], combine(trace, node, [given(x)], state, [Role.CONSUMER], elementwise=True))


def _of_attributes(op: str, attrs: Attrs) -> State:
    return defined(lambda s: UNARY[op](s, attrs))


@cache
def _plain(op: str) -> State:
    return remembered(_of_attributes(op, {}))


@rule("Cast", "CastLike", orderless=True)
def cast(node: Node, trace: Trace) -> None:
    """y = x rounded to another type; a value that is not a float says nothing about zero any more.

    A weight of bytes is zeroed as it is stored, and measured by what it stands for.
    """
    layout = given(inputs(node, trace)[0])
    name, zero = node.inputs[0], 0.0
    if name in trace.parameters and trace.graph.dtypes.get(name) not in FLOATS:
        code = code_of_cast(trace.graph, node)
        remember(trace, name, code)
        zero = float(code.zero[0])
    target = trace.graph.dtypes.get(node.outputs[0])

    def state(s: FloatArray) -> FloatArray:
        if target not in FLOATS:
            return np.full_like(s, np.nan)
        return (s + zero).astype(onnx.helper.tensor_dtype_to_np_dtype(target)).astype(np.float64)

    trace.put(node.outputs[0], combine(trace, node, [layout], state, [Role.CONSUMER]))


def _divide(a: FloatArray, b: FloatArray) -> FloatArray:
    return np.where((a == 0) & np.isnan(b), 0.0, a / b)


def _known(function: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
    def state(*states: FloatArray) -> FloatArray:
        value = states[0]
        for other in states[1:]:
            value = np.where(np.isnan(value) | np.isnan(other), np.nan, function(value, other))
        return value

    return state


PRODUCERS = (Role.PRODUCER, Role.PRODUCER)
CONSUMERS = (Role.CONSUMER, Role.CONSUMER)
BINARY: dict[str, tuple[State, tuple[Role, Role]]] = {
    "Add": (remembered(defined(np.add)), PRODUCERS),
    "Sub": (remembered(defined(np.subtract)), PRODUCERS),
    "Mul": (remembered(defined(times)), PRODUCERS),
    "Div": (remembered(defined(_divide)), (Role.PRODUCER, Role.CONSUMER)),
    "Pow": (remembered(defined(_known(np.power))), CONSUMERS),
    "Mod": (remembered(defined(_known(np.fmod))), CONSUMERS),
}


@rule(*BINARY, orderless=True)
def binary(node: Node, trace: Trace) -> None:
    """z[i] = x[i] op y[i]"""
    state, roles = BINARY[node.op]
    layouts = [given(layout) for layout in inputs(node, trace)]
    trace.put(node.outputs[0], combine(trace, node, layouts, state, roles, elementwise=True))


VARIADIC: dict[str, tuple[Callable[..., FloatArray], Role]] = {
    "Sum": (lambda *s: np.sum(s, axis=0), Role.PRODUCER),
    "Mean": (lambda *s: np.mean(s, axis=0), Role.PRODUCER),
    "Max": (_known(np.maximum), Role.PRODUCER),
    "Min": (_known(np.minimum), Role.PRODUCER),
}


@rule(*VARIADIC, orderless=True)
def variadic(node: Node, trace: Trace) -> None:
    """z[i] = op(x[i], y[i], ...)"""
    state, role = VARIADIC[node.op]
    layouts = [given(layout) for layout in inputs(node, trace)]
    trace.put(node.outputs[0], combine(trace, node, layouts, state, [role] * len(layouts), elementwise=True))


@rule(
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "And",
    "Or",
    "Xor",
    "Not",
    "IsNaN",
    "IsInf",
    orderless=True,
)
def compare(node: Node, trace: Trace) -> None:
    """A truth value per position; it is not a zero that a sum could skip."""
    layouts = [given(layout) for layout in inputs(node, trace)]
    state = combine(
        trace, node, layouts, lambda *s: np.full_like(s[0], np.nan), [Role.CONSUMER] * len(layouts)
    )
    trace.put(node.outputs[0], state)


@rule("Where", orderless=True)
def where(node: Node, trace: Trace) -> None:
    """z[i] = x[i] if c[i] else y[i]: known where both are the same."""
    layouts = [given(layout) for layout in inputs(node, trace)]

    def state(_: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
        return np.where(x == y, x, np.nan)

    roles = [Role.CONSUMER, Role.PRODUCER, Role.PRODUCER]
    trace.put(node.outputs[0], combine(trace, node, layouts, state, roles, elementwise=True))


@rule("Clip", orderless=True)
def clip(node: Node, trace: Trace) -> None:
    """y = min(max(x, low), high); the bounds are attributes (before opset 11) or scalar inputs."""
    x, *bounds = inputs(node, trace)
    if any(b is not None and b.blocks for b in bounds):
        raise NotCovered("has bounds that are not scalars")
    limits: list[float | None] = [node.attrs.get("min", -np.inf), node.attrs.get("max", np.inf)]
    for i, bound in enumerate(bounds):
        if bound is not None:
            limits[i] = bound.uniform
    low, high = (np.nan if v is None else v for v in limits)

    def state(s: FloatArray) -> FloatArray:
        return np.minimum(np.maximum(s, low), high)

    trace.put(node.outputs[0], combine(trace, node, [given(x)], state, [Role.CONSUMER]))


@rule("PRelu", orderless=True)
def prelu(node: Node, trace: Trace) -> None:
    """y = x where x >= 0 else slope * x; the slope is sliced, it need be zero only where x is a negative constant."""
    x, slope = (given(layout) for layout in inputs(node, trace))

    def state(s: FloatArray, a: FloatArray) -> FloatArray:
        return np.where(s >= 0, s, s * a)

    negative = any((np.isfinite(b.state) & (b.state < 0)).any() for b in x.blocks)
    role = Role.PRODUCER if negative else Role.CONSUMER
    result = combine(trace, node, [x, slope], state, [Role.CONSUMER, role])
    trace.use(slope, role, weight=True)
    trace.put(node.outputs[0], result)


@rule("Dropout", "Identity", orderless=True)
def passing(node: Node, trace: Trace) -> None:
    """y = x outside training; in training a zero stays zero."""
    layout = given(inputs(node, trace)[0])
    training = node.input(2)
    if training and not _is_false(trace, training):
        blocks = [changed(b, state=zero_or_unknown(b.state)) for b in layout.blocks]
        layout = changed(layout, blocks=tuple(blocks), view=None)
    trace.put(node.outputs[0], layout)
    for mask in node.outputs[1:]:
        if mask:
            blocks = [changed(b, state=np.full_like(b.state, np.nan), source=()) for b in layout.blocks]
            trace.put(mask, with_blocks(layout, blocks))


def _is_false(trace: Trace, name: str) -> bool:
    value = trace.graph.constant(name)
    return value is not None and not value.any()

"""Fused operators that onnxruntime's optimizers write (domain com.microsoft)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import align, combine
from onnx_oto.lanes.contract import contract, zero_or_unknown
from onnx_oto.lanes.cut import Cut
from onnx_oto.lanes.layout import FloatArray, Layout
from onnx_oto.lanes.trace import Role, Trace
from onnx_oto.model.node import Node
from onnx_oto.ops.elementwise import UNARY
from onnx_oto.ops.linear import conv
from onnx_oto.ops.norm import affine, give_statistics
from onnx_oto.ops.registry import NotCovered, given, inputs, rule


@rule("com.microsoft::Gelu", "com.microsoft::QuickGelu")
def gelu(node: Node, trace: Trace) -> None:
    """y[i] = x[i] times a sigmoid-like function of x[i]"""
    x = given(inputs(node, trace)[0])
    trace.put(node.outputs[0], combine(trace, node, [x], zero_or_unknown, [Role.CONSUMER]))


@rule("com.microsoft::BiasGelu", "com.microsoft::FastGelu")
def bias_gelu(node: Node, trace: Trace) -> None:
    """y = gelu(x + bias)"""
    layouts = [layout for layout in inputs(node, trace) if layout is not None]
    for bias in layouts[1:]:
        trace.use(bias, Role.PRODUCER, weight=True)

    def state(*states: FloatArray) -> FloatArray:
        return zero_or_unknown(np.sum(states, axis=0))

    trace.put(node.outputs[0], combine(trace, node, layouts, state, [Role.PRODUCER] * len(layouts)))


@rule("com.microsoft::FusedConv")
def fused_conv(node: Node, trace: Trace) -> None:
    """y = activation(conv(x, w) + b + z)"""
    plain = replace(node, op="Conv", domain="", inputs=node.inputs[:3])
    conv(plain, trace)
    result = given(trace.layout(node.outputs[0]))
    if len(node.inputs) > 3 and node.inputs[3]:
        z = given(trace.layout(node.inputs[3]))
        result = combine(trace, node, [result, z], np.add, [Role.PRODUCER, Role.PRODUCER])
    name = node.attrs.get("activation")
    if name is None:
        trace.put(node.outputs[0], result)
        return
    function = UNARY.get(name)

    def state(s: FloatArray) -> FloatArray:
        if function is None:
            return np.full_like(s, np.nan)
        parameters = node.attrs.get("activation_params") or []
        attrs = dict(zip(("alpha", "beta"), parameters, strict=False))
        return np.where(np.isnan(s), np.nan, function(s, attrs))

    trace.put(node.outputs[0], combine(trace, node, [result], state, [Role.CONSUMER]))


@rule("com.microsoft::FusedMatMul")
def fused_matmul(node: Node, trace: Trace) -> None:
    """Y = alpha op(A) op(B), where op may swap the last two axes."""
    a, b = (given(layout) for layout in inputs(node, trace))
    if node.attrs.get("transBatchA", 0) or node.attrs.get("transBatchB", 0) or min(a.rank, b.rank) < 2:
        raise NotCovered("moves the batch axis")
    batch = max(a.rank, b.rank) - 2
    letters = "abcdefghij"[:batch]
    left = letters[batch - (a.rank - 2) :] + ("km" if node.attrs.get("transA", 0) else "mk")
    right = letters[batch - (b.rank - 2) :] + ("nk" if node.attrs.get("transB", 0) else "kn")
    trace.put(node.outputs[0], contract(trace, node, [(a, left), (b, right)], letters + "mn"))


def _sum(node: Node, trace: Trace) -> Layout:
    """Return the layout of input + skip (+ bias)."""
    layouts = inputs(node, trace)
    bias_index = 4 if node.op == "SkipLayerNormalization" else 3
    parts = [given(layouts[0]), given(layouts[1])]
    if len(layouts) > bias_index and layouts[bias_index] is not None:
        bias = given(layouts[bias_index])
        trace.use(bias, Role.PRODUCER, weight=True)
        parts.append(bias)
    return combine(trace, node, parts, lambda *s: np.sum(s, axis=0), [Role.PRODUCER] * len(parts))


@rule("com.microsoft::SkipLayerNormalization")
def skip_layer_normalization(node: Node, trace: Trace) -> None:
    """y = LayerNorm(input + skip + bias); the fourth output is the sum."""
    x = _sum(node, trace)
    beta = 3 if node.input(3) else None
    layout = _skip_norm(node, trace, x, beta)

    def repair(cut: Cut) -> None:
        axis = x.rank - 1
        before, after = x.length(axis), cut.size(x, axis)
        if before is None or after is None or before == after:
            return
        for index in (0, 1):
            cut.pad_input(node.name, index, -1, before - after)
        for index in (2, 3, 4):
            if node.input(index):
                cut.pad_input(node.name, index, -1, before - after)
        for index in (0, 3):
            if index < len(node.outputs) and node.outputs[index]:
                cut.insert_after(node.name, index, "Slice", starts=[0], ends=[after], axes=[axis])

    trace.repair(node, repair)
    trace.put(node.outputs[0], layout)


def _skip_norm(node: Node, trace: Trace, x: Layout, beta: int | None) -> Layout:
    """Demand zero sums, tie scale and shift, put the sum; return the layout of the first output."""
    axis = x.rank - 1
    if not trace.through_norms:
        x = trace.release(x, [axis], "removing channels from normalised axes is switched off")
    vectors = [given(inputs(node, trace)[i]) for i in (2, beta) if i is not None]
    for vector in vectors:
        trace.use(vector, Role.PRODUCER, weight=True)
    for block in x.on_axis(axis):
        trace.demand_zero(block, node, "the mean")
    x = give_statistics(node, trace, x, 1, node.outputs[1:3])
    for name in node.outputs[3:]:
        if name:
            trace.put(name, x)
    aligned = align(trace, node, [x, *vectors])
    return affine(trace, aligned, 1, None if beta is None else 2)


@rule("com.microsoft::SkipSimplifiedLayerNormalization")
def skip_rms_normalization(node: Node, trace: Trace) -> None:
    """y = RMSNorm(input + skip + bias); the fourth output is the sum."""
    x = _sum(node, trace)
    layout = _skip_norm(node, trace, x, None)

    def repair(cut: Cut) -> None:
        axis = x.rank - 1
        before, after = x.length(axis), cut.size(x, axis)
        if before is not None and after is not None and before != after:
            ratio = before / after
            cut.set_attribute(node.name, "epsilon", float(cut.attribute(node.name, "epsilon", 1e-12)) * ratio)
            cut.scale_input(node.name, 2, float(np.sqrt(ratio)))

    trace.repair(node, repair)
    trace.put(node.outputs[0], layout)

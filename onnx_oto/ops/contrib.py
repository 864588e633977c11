"""Fused operators that onnxruntime's optimizers write (domain com.microsoft)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import align, combine
from onnx_oto.lanes.contract import zero_or_unknown
from onnx_oto.lanes.layout import FloatArray, Layout
from onnx_oto.lanes.repairs.cut import Cut, kept_of
from onnx_oto.lanes.repairs.expression import Array, Expression, Number, Tensor, apply
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.elementwise import UNARY
from onnx_oto.ops.linear import conv, matrix_product, scaled_product
from onnx_oto.ops.norm import HALVES, SWITCHED_OFF, affine, corrected_norm, give_statistics
from onnx_oto.ops.rules import NotCovered, given, inputs, rule


@rule("com.microsoft::Gelu", "com.microsoft::QuickGelu", orderless=True)
def gelu(node: Node, trace: Trace) -> None:
    """y[i] = x[i] times a sigmoid-like function of x[i]"""
    x = given(inputs(node, trace)[0])
    trace.put(node.outputs[0], combine(trace, node, [x], zero_or_unknown, [Role.CONSUMER]))


@rule("com.microsoft::BiasGelu", "com.microsoft::FastGelu", orderless=True)
def bias_gelu(node: Node, trace: Trace) -> None:
    """y = gelu(x + bias)"""
    layouts = [layout for layout in inputs(node, trace) if layout is not None]
    for bias in layouts[1:]:
        trace.use(bias, Role.PRODUCER, weight=True)

    def state(*states: FloatArray) -> FloatArray:
        return zero_or_unknown(np.sum(states, axis=0))

    trace.put(node.outputs[0], combine(trace, node, layouts, state, [Role.PRODUCER] * len(layouts)))


@rule("com.microsoft::FusedConv", counts=True, orderless=True)
def fused_conv(node: Node, trace: Trace) -> None:
    """y = activation(conv(x, w) + b + z)"""
    plain = replace(node, op="Conv", domain="", inputs=node.inputs[:3])
    conv(plain, trace)
    result = given(trace.layout(node.outputs[0]))
    if len(node.inputs) > 3 and node.inputs[3]:
        z = given(trace.layout(node.inputs[3]))
        result = combine(trace, node, [result, z], np.add, [Role.PRODUCER, Role.PRODUCER])
    given_parameters = node.attrs.get("activation_params") or []
    names = ("min", "max") if node.attrs.get("activation") == "Clip" else ("alpha", "beta")
    attrs = dict(zip(names, given_parameters, strict=False))
    trace.put(node.outputs[0], _activated(node, trace, result, attrs))


def _activated(node: Node, trace: Trace, x: Layout, attrs: dict[str, float]) -> Layout:
    """Return the layout of activation(x); attrs: those of the activation, by the names that its operator has."""
    name = node.attrs.get("activation")
    if name is None:
        return x
    function = _clip if name == "Clip" else UNARY.get(name)

    def state(s: FloatArray) -> FloatArray:
        return (
            np.full_like(s, np.nan) if function is None else np.where(np.isnan(s), np.nan, function(s, attrs))
        )

    return combine(trace, node, [x], state, [Role.CONSUMER])


def _clip(x: FloatArray, attrs: dict[str, float]) -> FloatArray:
    return np.clip(x, attrs.get("min", -np.inf), attrs.get("max", np.inf))


@rule("com.microsoft::FusedGemm", counts=True, orderless=True)
def fused_gemm(node: Node, trace: Trace) -> None:
    """Y = activation(alpha A' B' + beta C)"""
    result = scaled_product(node, trace, behind=False)
    prefix = "activation_"
    attrs = {name.removeprefix(prefix): v for name, v in node.attrs.items() if name.startswith(prefix)}
    trace.put(node.outputs[0], _activated(node, trace, result, attrs))


@rule("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul", counts=True, orderless=True)
def fused_matmul(node: Node, trace: Trace) -> None:
    """Y = alpha op(A) op(B), where op may swap the last two axes."""
    a, b = (given(layout) for layout in inputs(node, trace))
    if node.attrs.get("transBatchA", 0) or node.attrs.get("transBatchB", 0) or min(a.rank, b.rank) < 2:
        raise NotCovered("moves the batch axis")
    trace.put(node.outputs[0], matrix_product(node, trace))


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
    padded = [index for index in range(5) if node.input(index)]
    trace.pads(node, padded)

    def repair(cut: Cut) -> None:
        axis = x.rank - 1
        before, after = x.length(axis), cut.size(x, axis)
        if before is None or after is None or before == after:
            return
        for index in padded:
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
        x = trace.release(x, [axis], SWITCHED_OFF)
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


@rule("com.microsoft::EmbedLayerNormalization")
def embed_layer_normalization(node: Node, trace: Trace) -> None:
    """y[b, t] = LayerNorm(words[ids[b, t]] + positions[t] + segments[segment[b, t]]), and how many tokens count.

    The third output is the sum that was normalised.
    """
    if trace.graph.dtypes.get(node.inputs[2]) in HALVES:
        raise NotCovered("normalises in half precision")
    if trace.graph.opsets.get("", 0) < 10:
        raise NotCovered("stands in an operator set before 10")
    layouts = inputs(node, trace)
    for i, layout in enumerate(layouts):
        if layout is not None and i not in (2, 3, 4, 5, 6):
            trace.release(layout, range(layout.rank), f"{describe(node)} uses the axis as indices")
    total = _embedded(node, trace, [table for table in layouts[2:5] if table is not None])
    if not trace.through_norms:
        total = trace.release(total, [2], SWITCHED_OFF)
    vectors = [given(layout) for layout in layouts[5:7]]
    for vector in vectors:
        trace.use(vector, Role.PRODUCER, weight=True)
    for block in total.on_axis(2):
        trace.demand_zero(block, node, "the mean")
    if len(node.outputs) > 1 and node.outputs[1]:
        trace.put(node.outputs[1], trace.shaped(node.outputs[1]))
    if len(node.outputs) > 2 and node.outputs[2]:
        trace.put(node.outputs[2], total)
    trace.put(node.outputs[0], affine(trace, align(trace, node, [total, *vectors]), 1, 2))

    def repair(cut: Cut) -> None:
        kept, full = kept_of(cut, total, [2])
        if kept < full:
            cut.express(node.name, _embedding_norm(node, kept / full))

    trace.repair(node, repair)


def _embedded(node: Node, trace: Trace, tables: Sequence[Layout]) -> Layout:
    """Return the layout [batch, tokens, width] of the sum of rows of tables [rows, width]."""
    shaped = given(trace.shaped(node.outputs[0]))
    free = replace(shaped, axes=(*shaped.axes[:2], ()))
    rows = []
    for table in tables:
        trace.use(table, Role.PRODUCER, weight=True)
        table = trace.release(table, [0], f"{describe(node)} may read any position of the axis")
        rows.append(replace(table, axes=((), (), table.axes[1]), view=None))
    roles = [Role.PRODUCER] * (len(rows) + 1)
    return combine(trace, node, [free, *rows], lambda _, *states: np.sum(states, axis=0), roles)


def _embedding_norm(node: Node, share: float) -> Expression:
    """Return the first output where `share` of the lanes is there and the others are zero."""
    ids, segments, words, positions, kinds, scale, bias = (Tensor(node.input(i)) for i in range(7))

    def number(value: float) -> Expression:
        return Number(value, words.name)

    if node.input(8):
        places: Expression = apply("Gather", positions, Tensor(node.input(8)), axis=0)
    else:
        length = apply("Gather", apply("Shape", ids), Array(np.array([1])), axis=0)
        places = apply("Slice", positions, Array(np.array([0])), length, Array(np.array([0])))
    x = apply("Add", apply("Gather", words, ids, axis=0), places)
    if segments.name and kinds.name:
        x = apply("Add", x, apply("Gather", kinds, segments, axis=0))
    eps = float(node.attrs.get("epsilon", np.float32(1e-12)))
    return apply("Add", apply("Mul", corrected_norm(x, [2], share, eps, number), scale), bias)

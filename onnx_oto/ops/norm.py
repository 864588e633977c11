"""Normalisations and other operators that look along one axis."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import align, combine
from onnx_oto.lanes.contract import times
from onnx_oto.lanes.layout import Block, with_blocks
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.node import Node
from onnx_oto.ops.registry import given, inputs, rule


@rule("BatchNormalization")
def batch_normalization(node: Node, trace: Trace) -> None:
    """y[n, c, ...] = scale[c] (x[n, c, ...] - mean[c]) / sqrt(var[c] + eps) + bias[c]

    With scale and bias zero the channel is zero, whatever x is.
    """
    x, *vectors = (given(layout) for layout in inputs(node, trace)[:5])
    wide = [replace(v, axes=v.axes + ((),) * (x.rank - 2)) for v in vectors]
    for vector, role in zip(vectors, (Role.PRODUCER, Role.PRODUCER, Role.BUFFER, Role.BUFFER), strict=True):
        trace.use(vector, role, weight=role is Role.PRODUCER)
    aligned = align(trace, node, [x, *wide])
    blocks = []
    for group in aligned.joined:
        _, scale, bias, *_ = aligned.states(group)
        blocks.append(Block(group.keys, group.first.labels, np.where(scale == 0, bias, np.nan)))
    trace.put(node.outputs[0], with_blocks(replace(aligned.layout, constant=False), blocks))
    for name in node.outputs[1:]:
        if name:
            trace.put(name, trace.shaped(name))


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(node: Node, trace: Trace) -> None:
    """y = exp(x) / sum(exp(x)) along one axis (before opset 13: along all axes from it on)."""
    x = given(inputs(node, trace)[0])
    since = node.since >= 13
    axis = int(node.attrs.get("axis", -1 if since else 1)) % max(x.rank, 1)
    axes = [axis] if since else list(range(axis, x.rank))
    x = trace.release(x, axes, f"{describe(node)} needs every position of the axis")
    trace.put(node.outputs[0], combine(trace, node, [x], lambda s: np.full_like(s, np.nan), [Role.CONSUMER]))


@rule("LRN")
def lrn(node: Node, trace: Trace) -> None:
    """y = x / (bias + alpha / size * sum of squares of neighbouring channels) ** beta"""
    x = given(inputs(node, trace)[0])
    x = trace.release(x, [1], f"{describe(node)} mixes neighbouring channels")
    trace.put(node.outputs[0], combine(trace, node, [x], lambda s: times(s), [Role.CONSUMER]))

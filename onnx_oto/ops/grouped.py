"""Convolutions in groups of channels: whole groups go, or every group keeps equally many of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.constraints import Groups
from onnx_oto.lanes.contract import count_products, zero_or_unknown
from onnx_oto.lanes.layout import Block, FloatArray, IntArray, Layout, Size, fresh_key
from onnx_oto.lanes.repairs.cut import Cut
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.index import alone
from onnx_oto.ops.rules import NotCovered


def grouped(
    node: Node, trace: Trace, x: Layout, w: Layout, groups: int, order: str, macs: Sequence[Size]
) -> Layout:
    """Return the layout [N, C, ...] of a grouped convolution of x [N, C, ...]: channels as [groups, channels of one].

    order: "oc" for a weight [outputs, channels of a group], "co" for [channels, outputs of a group] (transposed).
    Which channels go is settled when all lanes are known (`Groups`). If a group has one output channel, or its weight
    is not a parameter that only such convolutions read, a group is one lane. macs: further sizes that count products.
    """
    channels, outputs = trace.shape(node.inputs[0])[1], trace.shape(node.outputs[0])[1]
    if not isinstance(channels, int) or not isinstance(outputs, int):
        raise NotCovered("has an unknown number of channels")
    x, w = alone(trace, node, x, 1), alone(trace, node, w, 0)
    block = _in_groups(node, trace, x, 1, channels, groups)
    trace.repair(node, lambda cut: _set_group(cut, node, block.labels))
    first, second = (Role.PRODUCER, Role.CONSUMER) if order == "oc" else (Role.CONSUMER, Role.PRODUCER)
    name = node.inputs[1]
    even = outputs > groups and name in trace.graph.initializers and _alike_everywhere(trace, node, groups)
    for own in w.on_axis(0):
        trace.assign(own, first if even else Role.PRODUCER, weight=True)
    trace.release(w, [1], f"{describe(node)} reads it in every group")
    weight = _in_groups(node, trace, w, 0, channels if order == "co" else outputs, groups)
    front = weight.labels.reshape(-1)
    made = weight.labels
    if order == "co":
        trace.tie(block.labels.reshape(-1), front)
        made = trace.fresh((groups, outputs // groups))
    if even:
        inner = trace.grouped.setdefault(name, block.labels if order == "oc" else made)
        trace.tie(inner, block.labels if order == "oc" else made)
        trace.roles[name, 1] = second
        trace.groups.append(Groups(block, made, node))
        for labels in (block.labels, made):
            trace.tell_apart(labels, f"{describe(node)} has them in groups")
    else:
        trace.tie(block.labels[:, :1], block.labels)
        trace.tie(block.labels[:, :1], made)
    zero = (block.state == 0).all(1) | (weight.state == 0).all(1)
    result = _with_channels(x, made, np.where(zero, 0.0, np.nan))
    # Of a convolution that slides over outputs these count, of a transposed one inputs: channels of a group times all
    # outputs is as many pairs as outputs of a group times all channels.
    count_products(trace, node, result, result.blocks, macs, [block.labels])
    return result


def _in_groups(node: Node, trace: Trace, layout: Layout, axis: int, size: int, groups: int) -> Block:
    """Return an axis as a block [groups, channels of a group]; frozen where no parameter produces its channels."""
    blocks = layout.on_axis(axis)
    labels, state = trace.fresh(size), np.full(size, np.nan)
    if blocks:
        labels, state = blocks[0].labels, blocks[0].state
    elif size > 1:
        trace.freeze(labels, f"{describe(node)} reads channels that no parameter produces")
    return Block((fresh_key(), fresh_key()), labels.reshape(groups, -1), state.reshape(groups, -1))


def _with_channels(x: Layout, made: IntArray, state: FloatArray) -> Layout:
    """Return `x` with the channels made [groups, n], state [groups]; on its other axes zero stays zero."""
    key, own = fresh_key(), x.on_axis(1)
    kept = [replace(b, state=zero_or_unknown(b.state), source=()) for b in x.blocks if b not in own]
    sizes = dict(x.sizes) | {key: int(made.size)}
    channels = Block((key,), made.reshape(-1), np.repeat(state, made.shape[1]))
    return Layout((x.axes[0], (key,), *x.axes[2:]), sizes, (*kept, channels))


def _alike_everywhere(trace: Trace, node: Node, groups: int) -> bool:
    """Return whether every reader of the weight is such a convolution in the same number of groups."""
    graph, name = trace.graph, node.inputs[1]
    alike = ("ConvTranspose",) if node.op == "ConvTranspose" else ("Conv", "FusedConv")
    if name in graph.outputs or any(name in other.captured for other in graph.nodes):
        return False
    return all(
        position == 1 and other.op in alike and other.attrs.get("group", 1) == groups
        for other, position in graph.consumers[name]
    )


def _set_group(cut: Cut, node: Node, rows: IntArray) -> None:
    """Repair: whole groups were removed."""
    kept = cut.kept(rows).any(-1)
    if not kept.all():
        cut.set_attribute(node.name, "group", int(kept.sum()))

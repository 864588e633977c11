"""Elements read or written at computed positions of one axis; the other axes go along position by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import align
from onnx_oto.lanes.layout import Block, FloatArray, Layout
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.index import free_axis
from onnx_oto.ops.rules import NotCovered, given, inputs, rule
from onnx_oto.ops.sample import read_whole


@rule("GatherElements")
def gather_elements(node: Node, trace: Trace) -> None:
    """y[i, j, ...] = x[index[i, j, ...], j, ...] (along axis 0)."""
    x, indices = (given(layout) for layout in inputs(node, trace))
    axis = int(node.attrs.get("axis", 0)) % x.rank
    layout = _side_by_side(node, trace, [x, indices], axis, values=[0])
    trace.put(node.outputs[0], free_axis(layout, axis, trace.shape(node.outputs[0])[axis]))


@rule("ScatterElements", "Scatter")
def scatter_elements(node: Node, trace: Trace) -> None:
    """A copy of x with y[index[i, j, ...], j, ...] = update[i, j, ...], or added to it (along axis 0)."""
    x, indices, updates = (given(layout) for layout in inputs(node, trace))
    axis = int(node.attrs.get("axis", 0)) % x.rank
    layout = _side_by_side(node, trace, [x, indices, updates], axis, values=[0, 2])
    trace.put(node.outputs[0], free_axis(layout, axis, trace.shape(node.outputs[0])[axis]))


@rule("ScatterND")
def scatter_nd(node: Node, trace: Trace) -> None:
    """A copy of x with y[index[i]] = update[i], or added to it: the axes behind the index tuples go along."""
    x, indices, updates = (given(layout) for layout in inputs(node, trace))
    depth = trace.shape(node.inputs[1])[-1]
    if not isinstance(depth, int):
        raise NotCovered("writes at tuples of unknown length")
    read_whole(node, trace, [indices])
    reason = f"{describe(node)} may write any position of the axis"
    x = trace.release(x, range(depth), reason)
    updates = trace.release(updates, range(indices.rank - 1), reason)
    front, behind = x.axes[:depth], ((),) * depth
    parts = [
        replace(x, axes=behind + x.axes[depth:], view=None),
        replace(updates, axes=behind + updates.axes[indices.rank - 1 :], view=None),
    ]
    result = _together(node, trace, parts, [0, 1])
    sizes = dict(result.sizes) | {k: x.sizes[k] for keys in front for k in keys}
    trace.put(node.outputs[0], replace(result, axes=front + result.axes[depth:], sizes=sizes))


def _side_by_side(
    node: Node, trace: Trace, layouts: Sequence[Layout], axis: int, values: Sequence[int]
) -> Layout:
    """Return the layout of operands whose axes but `axis` go along, without that axis."""
    reason = f"{describe(node)} may touch any position of the axis"
    parts = []
    sizes = [trace.shape(name) for name in node.inputs]
    for layout in layouts:
        apart = [i for i in range(layout.rank) if i == axis or any(s[i] != sizes[0][i] for s in sizes)]
        layout = trace.release(layout, apart, reason)
        axes = tuple(() if i in apart else keys for i, keys in enumerate(layout.axes))
        parts.append(replace(layout, axes=axes, view=None))
    result = _together(node, trace, parts, values)
    for i, size in enumerate(trace.shape(node.outputs[0])):
        if i != axis and any(s[i] != sizes[0][i] for s in sizes):
            result = free_axis(result, i, size)
    return result


def _together(node: Node, trace: Trace, layouts: Sequence[Layout], values: Sequence[int]) -> Layout:
    """Return the aligned layout; a lane holds what it holds in all operands `values`, else nothing is known."""
    for i in values:
        if layouts[i].constant:
            trace.use(layouts[i], Role.PRODUCER)  # only so is it zero with its lane
    aligned = align(trace, node, layouts)
    blocks = []
    for group in aligned.joined:
        states = aligned.states(group)
        blocks.append(Block(group.keys, group.first.labels, _common([states[i] for i in values], node)))
    return replace(aligned.layout, blocks=tuple(blocks))


def _common(states: Sequence[FloatArray], node: Node) -> FloatArray:
    """Return the state that all agree on; what is added, multiplied or compared is known where it is zero."""
    same = np.logical_and.reduce([s == states[0] for s in states])
    plain = node.attrs.get("reduction", "none") in ("none", b"none")
    poison = np.logical_or.reduce([np.isinf(s) for s in states])
    value = np.where(same & (plain | (states[0] == 0)), states[0], np.nan)
    result: FloatArray = np.where(poison, np.inf, value)
    return result

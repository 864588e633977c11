"""Operators that change the resolution: Resize, DepthToSpace, Tile and the like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import zero_or_unknown
from onnx_oto.lanes.layout import Layout, relabel_axis
from onnx_oto.lanes.repairs.cut import Cut
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.ops.index import alone, free_axis, repeated_axis, single
from onnx_oto.ops.rules import given, inputs, rule


@rule("Resize", "Upsample", orderless=True)
def resize(node: Node, trace: Trace) -> None:
    """Interpolation along the axes whose size changes; the others are left alone.

    A constant stays one under every mode (weights sum to 1), except where values from outside the image are
    put in (tf_crop_and_resize); a zero only then.
    """
    x, *given_sizes = inputs(node, trace)
    x = given(x)
    for block in (b for layout in given_sizes if layout is not None for b in layout.blocks):
        trace.tell_apart(block.labels, f"{describe(node)} reads factors from it")
    before, after = trace.shape(node.inputs[0]), trace.shape(node.outputs[0])
    mode = node.attrs.get("coordinate_transformation_mode", "")
    same = [a == b and isinstance(a, int) for a, b in zip(before, after, strict=True)]
    for axis, scale in _known_scales(node, trace, x.rank).items():
        same[axis] = same[axis] or scale == 1
    changed = [i for i, s in enumerate(same) if not s and x.on_axis(i)]
    x = trace.release(x, changed, f"{describe(node)} interpolates along the axis")
    cropped = mode == "tf_crop_and_resize"
    result = combine(
        trace, node, [x], lambda s: s * np.nan if cropped else np.where(s == 0, 0.0, s), [Role.CONSUMER]
    )
    for axis, unchanged in enumerate(same):
        if not unchanged:
            result = free_axis(result, axis, after[axis])
    trace.put(node.outputs[0], result)
    labelled = [axis for axis in range(x.rank) if x.on_axis(axis)]
    kept = result

    def repair(cut: Cut) -> None:
        sizes = 3 if node.op == "Resize" and node.since >= 11 else None
        if sizes is None or not node.input(sizes) or not cut.touches(kept):
            return  # scales: a factor of 1 stays right
        axes = [int(a) % len(after) for a in node.attrs.get("axes") or range(len(after))]
        cut.override_input(node.name, sizes, [cut.size(kept, a) if a in labelled else None for a in axes])

    trace.repair(node, repair)


def _known_scales(node: Node, trace: Trace, rank: int) -> dict[int, float]:
    """Return the factor per axis where it is given as one and known: a quotient of two Shapes may be on some axes."""
    name = node.input(1 if node.op == "Upsample" or node.since < 11 else 2)
    value = trace.graph.partial(name) if name else None
    scales = node.attrs["scales"] if "scales" in node.attrs else () if value is None else value.reshape(-1)
    axes = [int(a) % rank for a in node.attrs.get("axes") or range(rank)]
    if len(scales) != len(axes):
        return {}
    return {
        axis: float(scale)
        for axis, scale in zip(axes, scales, strict=True)
        if scale is not None and not isinstance(scale, str)
    }


@rule("CenterCropPad", orderless=True)
def center_crop_pad(node: Node, trace: Trace) -> None:
    """The middle of x along some axes, with zeros around it where x is smaller: other axes pass."""
    x, target = (given(layout) for layout in inputs(node, trace))
    for block in target.blocks:
        trace.tell_apart(block.labels, f"{describe(node)} reads sizes from it")
    after = trace.shape(node.outputs[0])
    axes = [int(axis) % x.rank for axis in node.attrs.get("axes") or range(x.rank)]
    x = trace.release(x, axes, f"{describe(node)} takes positions by how many there are")
    result = combine(trace, node, [x], zero_or_unknown, [Role.CONSUMER])
    for axis in axes:
        result = free_axis(result, axis, after[axis])
    trace.put(node.outputs[0], result)


@rule("DepthToSpace")
def depth_to_space(node: Node, trace: Trace) -> None:
    """[N, b*b*C, H, W] -> [N, C, H*b, W*b]: the b*b channels that make one output channel are one lane."""
    x = given(inputs(node, trace)[0])
    block, channels = int(node.attrs["blocksize"]), trace.shape(node.inputs[0])[1]
    x = alone(trace, node, x, 1)
    if not x.on_axis(1) or not isinstance(channels, int):
        _put_rearranged(node, trace, free_axis(x, 1, trace.shape(node.outputs[0])[1]))
        return
    labels, state = x.on_axis(1)[0].labels, x.on_axis(1)[0].state
    crd = node.attrs.get("mode", "DCR") == "CRD"
    shape = (-1, block * block) if crd else (block * block, -1)
    rows = labels.reshape(shape) if crd else labels.reshape(shape).T
    states = state.reshape(shape) if crd else state.reshape(shape).T
    trace.tie(rows[:, :1], rows)
    value = np.where((states == states[:, :1]).all(1), states[:, 0], np.nan)
    result = relabel_axis(x, 1, rows[:, 0].copy(), value)
    _put_rearranged(node, trace, result)


def _put_rearranged(node: Node, trace: Trace, result: Layout) -> None:
    """Put the output's layout: its channels are told, its two spatial axes are free and of another size."""
    result = trace.release(result, [2, 3], f"{describe(node)} mixes positions into the axis")
    after = trace.shape(node.outputs[0])
    trace.put(node.outputs[0], free_axis(free_axis(result, 2, after[2]), 3, after[3]))


@rule("SpaceToDepth")
def space_to_depth(node: Node, trace: Trace) -> None:
    """[N, C, H, W] -> [N, b*b*C, H/b, W/b]: channel c appears b*b times, C channels apart (mode CRD: in a row)."""
    x = given(inputs(node, trace)[0])
    block = int(node.attrs["blocksize"])
    x = alone(trace, node, x, 1)
    if not x.on_axis(1):
        _put_rearranged(node, trace, free_axis(x, 1, trace.shape(node.outputs[0])[1]))
        return
    labels, state = x.on_axis(1)[0].labels, x.on_axis(1)[0].state
    trace.require(labels.size * block * block)
    spread = np.repeat if node.attrs.get("mode", "DCR") == "CRD" else np.tile
    result = relabel_axis(x, 1, spread(labels, block * block), spread(state, block * block))
    _put_rearranged(node, trace, result)


@rule("Tile", spreads=True)
def tile(node: Node, trace: Trace) -> None:
    """x repeated along axes: position i of a labelled axis appears again n, 2n, ... further on.

    A single position that is repeated gets lanes of its own, as by Expand.
    """
    x = given(inputs(node, trace)[0])
    trace.materialise(x, node)
    partial = trace.graph.partial(node.inputs[1])
    before, after = trace.shape(node.inputs[0]), trace.shape(node.outputs[0])
    repeats = [None] * x.rank if partial is None else list(partial.reshape(-1))
    spreads = trace.graph.dtypes.get(node.inputs[0]) in FLOATS
    result, spread = x, []
    for axis, times in enumerate(repeats):
        size = after[axis]
        if times == 1:
            continue
        if spreads and before[axis] == 1 and isinstance(size, int) and size > 1:
            result = repeated_axis(trace, replace(result, uniform=x.uniform), axis, size)
            spread.append(axis)
            continue
        result = single(trace, node, result, axis)
        blocks = result.on_axis(axis)
        if not blocks:
            result = free_axis(result, axis, after[axis])
        elif isinstance(times, int) and len(blocks[0].keys) == 1:
            trace.require(blocks[0].labels.size * times)
            labels, state = np.tile(blocks[0].labels, times), np.tile(blocks[0].state, times)
            result = relabel_axis(result, axis, labels, state)
        else:
            reason = f"{describe(node)} repeats the axis in a way that has no rule"
            result = free_axis(trace.release(result, [axis], reason), axis, after[axis])
    result = replace(result, view=None, uniform=None)
    trace.put(node.outputs[0], result)

    def repair(cut: Cut) -> None:
        if cut.touches(result):
            sizes = [cut.size(result, axis) if axis in spread else None for axis in range(result.rank)]
            cut.override_input(node.name, 1, sizes)

    if spread:
        trace.repair(node, repair)


@rule("Trilu")
def trilu(node: Node, trace: Trace) -> None:
    """A triangle of the last two axes, zero elsewhere."""
    x = given(inputs(node, trace)[0])
    reason = f"{describe(node)} needs every position of the axis"
    x = trace.release(x, [x.rank - 2, x.rank - 1], reason)
    trace.put(
        node.outputs[0],
        combine(trace, node, [x], zero_or_unknown, [Role.CONSUMER]),
    )

"""Gather and Compress: picking positions of an axis by indices or a condition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_oto.lanes.layout import Layout, fresh_key
from onnx_oto.lanes.repairs.cut import Cut, kept_along
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.affine import affine, is_row_major
from onnx_oto.ops.index import free_axis, pick, single
from onnx_oto.ops.reshaping import reshape_by_indices
from onnx_oto.ops.rules import NotCovered, given, inputs, rule
from onnx_oto.ops.sample import read_whole


@rule("Gather", orderless=True)
def gather(node: Node, trace: Trace) -> None:
    """x taken at indices along one axis: constant ones cut the axis, computed ones read it whole."""
    x, indices = (given(layout) for layout in inputs(node, trace))
    axis = int(node.attrs.get("axis", 0)) % x.rank
    constant = trace.graph.constant(node.inputs[1])
    if x.rank == 1 and indices.rank > 1 and x.blocks:
        form, shape = affine(trace.graph, node.inputs[1]), trace.shape(node.outputs[0])
        if form is not None and is_row_major(form, shape):
            trace.put(node.outputs[0], reshape_by_indices(trace, node, node.inputs[0], x, shape))
            return
    x = single(trace, node, x, axis)
    trace.materialise(x, node, told_apart=[axis])
    indices = trace.release(indices, range(indices.rank), f"{describe(node)} uses the axis as indices")
    if x.constant and not indices.constant:  # an embedding
        for other, keys in enumerate(x.axes):
            for block in (b for k in keys if (b := x.block(k)) is not None):
                if other != axis:
                    trace.assign(block, Role.PRODUCER, weight=True)
    if not x.on_axis(axis):
        trace.put(node.outputs[0], _replace_axis(x, axis, indices))
        return
    if constant is None or constant.ndim > 1:
        x = trace.release(x, [axis], f"{describe(node)} may read any position of the axis")
        trace.put(node.outputs[0], _replace_axis(x, axis, indices))
        return
    size = x.length(axis) or 1
    positions = np.atleast_1d(constant).astype(np.int64) % size
    result = pick(trace, node, x, axis, positions, positions.size)
    if constant.ndim == 0:
        result = replace(result, axes=(*result.axes[:axis], *result.axes[axis + 1 :]))
    trace.put(node.outputs[0], result)

    def repair(cut: Cut) -> None:
        keep = kept_along(cut, x, axis)
        if not keep.all():
            moved = np.cumsum(keep)[positions[keep[positions]]] - 1
            cut.set_input(node.name, 1, moved if constant.ndim else moved.reshape(()))

    trace.repair(node, repair)


def _replace_axis(x: Layout, axis: int, indices: Layout) -> Layout:
    """Return the layout of Gather where the gathered axis carries no labels."""
    names = {key: fresh_key() for key in indices.sizes}
    middle = tuple(tuple(names[k] for k in keys) for keys in indices.axes)
    sizes = dict(x.sizes) | {names[k]: s for k, s in indices.sizes.items()}
    axes = (*x.axes[:axis], *middle, *x.axes[axis + 1 :])
    return Layout(axes, sizes, x.blocks, constant=x.constant and indices.constant)


@rule("Compress")
def compress(node: Node, trace: Trace) -> None:
    """The positions of one axis at which a condition holds: a constant one cuts the axis, another reads it whole."""
    x, condition = (given(layout) for layout in inputs(node, trace))
    if "axis" not in node.attrs:
        raise NotCovered("picks from all axes at once")
    axis = int(node.attrs["axis"]) % x.rank
    read_whole(node, trace, [condition], "a condition")
    x = single(trace, node, x, axis)
    trace.materialise(x, node, told_apart=[axis])
    value = trace.graph.constant(node.inputs[1])
    if value is None:
        x = trace.release(x, [axis], f"{describe(node)} may read any position of the axis")
    if value is None or not x.on_axis(axis):
        trace.put(node.outputs[0], free_axis(x, axis, trace.shape(node.outputs[0])[axis]))
        return
    positions = np.flatnonzero(value)
    trace.put(node.outputs[0], pick(trace, node, x, axis, positions, positions.size))

    def repair(cut: Cut) -> None:
        keep = kept_along(cut, x, axis)
        if not keep.all():
            cut.set_input(node.name, 1, value[keep[: value.size]])

    trace.repair(node, repair)


@rule("GatherND")
def gather_nd(node: Node, trace: Trace) -> None:
    """x taken at index tuples over its first axes: those are read whole, the others pass."""
    x, indices = (given(layout) for layout in inputs(node, trace))
    depth = trace.shape(node.inputs[1])[-1]
    if node.attrs.get("batch_dims", 0) or not isinstance(depth, int):
        raise NotCovered("gathers within batches, or at tuples of unknown length")
    trace.materialise(x, node)
    indices = trace.release(indices, range(indices.rank), f"{describe(node)} uses the axis as indices")
    x = trace.release(x, range(depth), f"{describe(node)} may read any position of the axis")
    if x.constant:
        for axis in range(depth, x.rank):
            for block in x.on_axis(axis):
                trace.assign(block, Role.PRODUCER)
    names = {key: fresh_key() for key in indices.sizes}
    front = tuple(tuple(names[k] for k in keys) for keys in indices.axes[:-1])
    sizes = dict(x.sizes) | {names[k]: s for k, s in indices.sizes.items()}
    trace.put(node.outputs[0], Layout((*front, *x.axes[depth:]), sizes, x.blocks, constant=x.constant))

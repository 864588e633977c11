"""Operators that only name the same elements differently, and those that read or write sizes."""

from __future__ import annotations

import math

import numpy as np

from onnx_oto.lanes.layout import Layout, changed, permute
from onnx_oto.lanes.repairs.cut import Cut, NewSize, Share, sizes_of
from onnx_oto.lanes.trace import Trace
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.ops.reshaping import reshape, resize
from onnx_oto.ops.rules import given, inputs, listed_axes, rule


@rule("Reshape", "Flatten", orderless=True)
def reshaped(node: Node, trace: Trace) -> None:
    """The same elements in the same order, other axes."""
    x = given(inputs(node, trace)[0])
    trace.put(node.outputs[0], reshape(trace, node, node.inputs[0], x, trace.shape(node.outputs[0])))


@rule("Transpose", orderless=True)
def transpose(node: Node, trace: Trace) -> None:
    """y's axis i is x's axis perm[i]."""
    x = given(inputs(node, trace)[0])
    order = [int(i) for i in node.attrs.get("perm") or range(x.rank - 1, -1, -1)]
    trace.put(node.outputs[0], permute(x, order))


@rule("Squeeze", orderless=True)
def squeeze(node: Node, trace: Trace) -> None:
    """Axes of size 1 removed."""
    x = given(inputs(node, trace)[0])
    listed = listed_axes(node, trace, "takes")
    if listed is None:
        axes = {i for i, size in enumerate(trace.shape(node.inputs[0])) if size == 1}
    else:
        axes = {int(a) % x.rank for a in listed}
    trace.put(node.outputs[0], changed(x, axes=tuple(k for i, k in enumerate(x.axes) if i not in axes)))


@rule("Unsqueeze", orderless=True)
def unsqueeze(node: Node, trace: Trace) -> None:
    """Axes of size 1 inserted."""
    x = given(inputs(node, trace)[0])
    rank = len(trace.shape(node.outputs[0]))
    axes = {int(a) % rank for a in listed_axes(node, trace, "takes") or []}
    rest = iter(x.axes)
    trace.put(
        node.outputs[0],
        changed(x, axes=tuple(() if i in axes else next(rest) for i in range(rank))),
    )


@rule("Shape", "Size", orderless=True)
def shape_of(node: Node, trace: Trace) -> None:
    """The sizes of x, or their product.

    Whoever reads them goes on seeing the full model's, whatever is computed of them: what must change is written by
    the rule that reads a size as one.
    """
    x = given(inputs(node, trace)[0])
    trace.put(node.outputs[0], trace.shaped(node.outputs[0]))
    trace.materialise(x, node, told_apart=())
    part = slice(node.attrs.get("start", 0), node.attrs.get("end"))

    def repair(cut: Cut) -> None:
        if cut.touches(x):
            sizes = (
                [_all(cut, x)] if node.op == "Size" else [_full(cut, x, axis) for axis in range(x.rank)[part]]
            )
            cut.override_output(node.name, 0, sizes)

    trace.repair(node, repair)


def _full(cut: Cut, x: Layout, axis: int) -> NewSize:
    """Return what the size of an axis is in the full model: a number, or a multiple of the compact one."""
    size, share = x.length(axis), cut.share(x, axis)
    if size is not None:
        return size
    return Share(share.total, share.kept) if share.kept < share.total else None


def _all(cut: Cut, x: Layout) -> NewSize:
    """Return the full model's number of elements, as a multiple of the compact one's."""
    shares = [cut.share(x, axis) for axis in range(x.rank)]
    return Share(math.prod(s.total for s in shares), math.prod(s.kept for s in shares))


@rule("Expand", spreads=True, orderless=True)
def expand(node: Node, trace: Trace) -> None:
    """x broadcast to a shape. A repeated axis gets lanes of its own: it may shrink with what it meets later."""
    x = given(inputs(node, trace)[0])
    shape = trace.shape(node.outputs[0])
    trace.materialise(x, node)
    axes = list(((),) * (len(shape) - x.rank) + x.axes)
    sizes, blocks = dict(x.sizes), list(x.blocks)
    for axis, size in enumerate(shape):
        if not axes[axis]:
            axes[axis], more, labelled = trace.spread(
                size, np.nan if x.uniform is None else x.uniform, repeated=True
            )
            sizes |= more
            blocks += labelled
    result = Layout(tuple(axes), sizes, tuple(blocks), constant=x.constant)
    trace.put(node.outputs[0], result)
    trace.repair(node, lambda cut: resize(cut, node, x, result))


@rule("ConstantOfShape", spreads=True, orderless=True)
def constant_of_shape(node: Node, trace: Trace) -> None:
    """A constant of a given shape: its axes may shrink with what they meet later."""
    filled = node.attrs.get("value")
    value = 0.0 if filled is None else float(np.asarray(filled).reshape(-1)[0])
    shaped = trace.shaped(node.outputs[0])
    if shaped is None or trace.graph.dtypes.get(node.outputs[0]) not in FLOATS:
        trace.put(node.outputs[0], shaped)
        return
    parts = [trace.spread(size, value) for size in trace.shape(node.outputs[0])]
    axes, sizes, blocks = zip(*parts, strict=True) if parts else ((), (), ())
    result = Layout(
        axes, {k: n for more in sizes for k, n in more.items()}, tuple(b for more in blocks for b in more)
    )
    trace.put(node.outputs[0], result)

    def repair(cut: Cut) -> None:
        if cut.touches(result):
            cut.override_input(node.name, 0, sizes_of(cut, result))

    trace.repair(node, repair)

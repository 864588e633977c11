"""Operators that only name the same elements differently, and those that read or write sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_oto.lanes.cut import Cut
from onnx_oto.lanes.layout import Block, Layout, Size, fresh_key, permute
from onnx_oto.lanes.reshape import reshape, resize
from onnx_oto.lanes.trace import Trace
from onnx_oto.model.node import Node
from onnx_oto.model.tensors import FLOATS
from onnx_oto.ops.registry import given, inputs, listed_axes, rule


@rule("Reshape", "Flatten")
def reshaped(node: Node, trace: Trace) -> None:
    """The same elements in the same order, other axes."""
    x = given(inputs(node, trace)[0])
    target: tuple[Size, ...] = trace.shape(node.outputs[0])
    before = trace.shape(node.inputs[0])
    unknown = sum(not isinstance(s, int) for s in target)
    if unknown == 1:  # an unknown size that must be the input's only unknown one is the same
        symbols = [s for s in before if not isinstance(s, int)]
        numbers = [s for s in (*before, *target) if isinstance(s, int)]
        left = int(np.prod([s for s in before if isinstance(s, int)], dtype=np.int64))
        right = int(np.prod([s for s in target if isinstance(s, int)], dtype=np.int64))
        if len(symbols) == 1 and numbers and left == right:
            target = tuple(s if isinstance(s, int) else symbols[0] for s in target)
    trace.put(node.outputs[0], reshape(trace, node, node.inputs[0], x, target))


@rule("Transpose")
def transpose(node: Node, trace: Trace) -> None:
    """y's axis i is x's axis perm[i]."""
    x = given(inputs(node, trace)[0])
    order = [int(i) for i in node.attrs.get("perm") or range(x.rank - 1, -1, -1)]
    trace.put(node.outputs[0], permute(x, order))


@rule("Squeeze")
def squeeze(node: Node, trace: Trace) -> None:
    """Axes of size 1 removed."""
    x = given(inputs(node, trace)[0])
    listed = listed_axes(node, trace, "takes")
    if listed is None:
        axes = {i for i, size in enumerate(trace.shape(node.inputs[0])) if size == 1}
    else:
        axes = {int(a) % x.rank for a in listed}
    trace.put(node.outputs[0], replace(x, axes=tuple(k for i, k in enumerate(x.axes) if i not in axes)))


@rule("Unsqueeze")
def unsqueeze(node: Node, trace: Trace) -> None:
    """Axes of size 1 inserted."""
    x = given(inputs(node, trace)[0])
    rank = len(trace.shape(node.outputs[0]))
    axes = {int(a) % rank for a in listed_axes(node, trace, "takes") or []}
    rest = iter(x.axes)
    trace.put(
        node.outputs[0],
        replace(x, axes=tuple(() if i in axes else next(rest) for i in range(rank))),
    )


@rule("Shape", "Size")
def shape_of(node: Node, trace: Trace) -> None:
    """The sizes of x. Whoever reads them goes on seeing the full model's: what must change is written by its rule."""
    x = given(inputs(node, trace)[0])
    trace.put(node.outputs[0], trace.shaped(node.outputs[0]))
    shape = trace.shape(node.inputs[0])
    if node.op == "Size":
        trace.freeze(x.blocks, f"{node.op} '{node.name}' counts the elements")
        return
    part = shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))]
    values = [s if isinstance(s, int) else None for s in part]

    def repair(cut: Cut) -> None:
        if cut.touches(x):
            cut.override_output(node.name, 0, values)

    trace.repair(node, repair)


@rule("Expand", spreads=True)
def expand(node: Node, trace: Trace) -> None:
    """x broadcast to a shape. A repeated axis gets lanes of its own: it may shrink with what it meets later."""
    x = given(inputs(node, trace)[0])
    shape = trace.shape(node.outputs[0])
    trace.materialise(x, node)
    axes = list(((),) * (len(shape) - x.rank) + x.axes)
    sizes, blocks = dict(x.sizes), list(x.blocks)
    for axis, size in enumerate(shape):
        if axes[axis] or size == 1:
            continue
        key = fresh_key()
        axes[axis], sizes[key] = (key,), size
        if isinstance(size, int):
            value = np.nan if x.uniform is None else x.uniform
            blocks.append(Block((key,), trace.fresh(size), np.full(size, value), repeated=True))
    result = Layout(tuple(axes), sizes, tuple(blocks), constant=x.constant)
    trace.put(node.outputs[0], result)
    trace.repair(node, lambda cut: resize(cut, node, x, result))


@rule("ConstantOfShape", spreads=True)
def constant_of_shape(node: Node, trace: Trace) -> None:
    """A constant of a given shape: its axes may shrink with what they meet later."""
    filled = node.attrs.get("value")
    value = 0.0 if filled is None else float(np.asarray(filled).reshape(-1)[0])
    shaped = trace.shaped(node.outputs[0])
    if shaped is None or trace.graph.dtypes.get(node.outputs[0]) not in FLOATS:
        trace.put(node.outputs[0], shaped)
        return
    blocks = [
        Block((key,), trace.fresh(size), np.full(size, value))
        for key, size in shaped.sizes.items()
        if isinstance(size, int)
    ]
    result = replace(shaped, blocks=tuple(blocks))
    trace.put(node.outputs[0], result)

    def repair(cut: Cut) -> None:
        if cut.touches(result):
            cut.override_input(node.name, 0, [cut.size(result, a) for a in range(result.rank)])

    trace.repair(node, repair)

"""Concat: joining positions of one axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from onnx_oto.lanes.align import align
from onnx_oto.lanes.layout import (
    Block,
    FloatArray,
    IntArray,
    Layout,
    changed,
    explicit,
    fresh_key,
    relabel_axis,
)
from onnx_oto.lanes.repairs.cut import Cut
from onnx_oto.lanes.repairs.expression import Tensor, apply
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.ops.index import free_axis, repeated_axis, single
from onnx_oto.ops.rules import NotCovered, given, inputs, rule


@rule("Concat", spreads=True, orderless=True)
def concat(node: Node, trace: Trace) -> None:
    """The inputs one after the other along one axis; the others tie."""
    layouts = [given(layout) for layout in inputs(node, trace)]
    rank = layouts[0].rank
    axis = int(node.attrs.get("axis", 1)) % rank
    if _is_repetition(node, trace, axis):
        _repeat(node, trace, layouts[0], axis)
        return
    if not any(layout.blocks for layout in layouts):
        constant = all(layout.constant for layout in layouts)
        trace.put(node.outputs[0], trace.shaped(node.outputs[0], constant=constant))
        return
    for layout in layouts:
        trace.materialise(layout, node, told_apart=[axis])
    layouts = [single(trace, node, layout, axis) for layout in layouts]
    sizes = [layout.length(axis) for layout in layouts]
    along = [layout.on_axis(axis) for layout in layouts]
    labelled = [bool(blocks) for blocks in along]
    if any(labelled) and None in sizes:
        layouts = [trace.release(x, [axis], f"{describe(node)} joins unknown sizes") for x in layouts]
        along = [layout.on_axis(axis) for layout in layouts]
        labelled = [False] * len(layouts)
    _produce(trace, layouts)
    joint = [b for blocks in along for b in blocks if len(b.keys) > 1]
    if joint and all(labelled) and all(size is not None and size > 1 for size in sizes):
        trace.put(node.outputs[0], _concat_joint(node, trace, layouts, axis))
        return
    if joint:
        layouts = [_rows(trace, layout, axis) for layout in layouts]
        along = [layout.on_axis(axis) for layout in layouts]
        labelled = [bool(blocks) for blocks in along]
    if any(labelled):
        trace.require(sum(size or 0 for size in sizes))
    parts = [_positions(trace, layout, axis) for layout in layouts] if any(labelled) else []
    others = [_without_axis(layout, axis) for layout in layouts]
    aligned = align(trace, node, others)
    blocks = []
    for group in aligned.joined:
        states = np.stack(aligned.states(group))
        state = np.where((states == states[0]).all(0), states[0], np.nan)
        blocks.append(Block(group.keys, group.first.labels, state, _sources(group.operands)))
    base = changed(aligned.layout, blocks=tuple(blocks))
    if parts:
        labels, state = (np.concatenate(p) for p in zip(*parts, strict=True))
        source = _sources(block for blocks in along for block in blocks)
        trace.put(node.outputs[0], relabel_axis(base, axis, labels, state, source))
    else:
        trace.put(node.outputs[0], free_axis(base, axis, trace.shape(node.outputs[0])[axis]))


def _is_repetition(node: Node, trace: Trace, axis: int) -> bool:
    """Return whether all inputs are one float tensor with one position on `axis`."""
    name, *others = node.inputs
    one = trace.shape(name)[axis] == 1 and trace.graph.dtypes.get(name) in FLOATS
    return one and bool(others) and set(others) == {name}


def _repeat(node: Node, trace: Trace, x: Layout, axis: int) -> None:
    """Join a tensor with itself: as many times as positions stay."""
    trace.materialise(x, node)
    result = repeated_axis(trace, x, axis, len(node.inputs))
    trace.put(node.outputs[0], result)

    def repair(cut: Cut) -> None:
        times = cut.size(result, axis)
        if times != len(node.inputs):
            copies = [Tensor(node.inputs[0])] * int(times or 0)
            cut.express(node.name, apply("Concat", *copies, axis=axis))

    trace.repair(node, repair)


def _produce(trace: Trace, layouts: Sequence[Layout]) -> None:
    """Make parameters that are joined with activations producers: only so are they zero with their lane."""
    if all(layout.constant for layout in layouts):
        return
    for layout in layouts:
        if layout.constant:
            trace.use(layout, Role.PRODUCER)


def _sources(blocks: Iterable[Block | None]) -> tuple[tuple[str, int], ...]:
    """Return the parameter axes that any of the blocks comes from."""
    return tuple(dict.fromkeys(s for block in blocks if block is not None for s in block.source))


def _rows(trace: Trace, layout: Layout, axis: int) -> Layout:
    """Return `layout` with joint blocks on `axis` collapsed to their factors on other axes."""
    blocks = []
    for block in layout.blocks:
        outside = tuple(k for k in block.keys if k not in layout.axes[axis])
        blocks.append(trace.collapse(block, outside) if outside and len(block.keys) > 1 else block)
    return changed(layout, blocks=tuple(blocks), view=None)


def _positions(trace: Trace, layout: Layout, axis: int) -> tuple[IntArray, FloatArray]:
    """Return labels and states along `axis`; positions without a label get one that is frozen."""
    listed = explicit(layout, axis)
    if listed is None:
        raise NotCovered("joins an axis that is composed of several")
    labels, state = listed
    if labels.size and labels.item(0) < 0:
        labels = trace.fresh(labels.size)
        trace.freeze(labels, "it is joined with an axis that no parameter produces")
    return labels, state


def _without_axis(layout: Layout, axis: int) -> Layout:
    """Return `layout` with `axis` of size 1 and its blocks gone."""
    axes = list(layout.axes)
    gone = set(axes[axis])
    axes[axis] = ()
    blocks = tuple(b for b in layout.blocks if not gone & set(b.keys))
    return Layout(tuple(axes), layout.sizes, blocks, constant=layout.constant)


def _concat_joint(node: Node, trace: Trace, layouts: Sequence[Layout], axis: int) -> Layout:
    """Concat along one factor of product axes (the two halves of a rotary embedding)."""
    heads = []
    for layout in layouts:
        block = layout.on_axis(axis)[0]
        at = block.keys.index(layout.axes[axis][0])
        heads.append((layout, block, at))
    first, block, at = heads[0]
    rows = [k for k in block.keys if k not in first.axes[axis]]
    places = [_place(first, k) for k in rows]
    parts_l, parts_s = [], []
    for layout, other, index in heads:
        moved = [_place(layout, k) for k in other.keys if k not in layout.axes[axis]]
        shape = other.labels.shape[:index] + other.labels.shape[index + 1 :]
        if moved != places or shape != block.labels.shape[:at] + block.labels.shape[at + 1 :]:
            raise NotCovered("joins axes that are divided differently")
        parts_l.append(np.moveaxis(other.labels, index, -1))
        parts_s.append(np.moveaxis(other.state, index, -1))
    others = [_without_axis(layout, axis) for layout in layouts]
    aligned = align(trace, node, others)
    key = fresh_key()
    keys = tuple(aligned.layout.axes[a][i] for a, i in places)
    axes = list(aligned.layout.axes)
    axes[axis] = (key,)
    labels, state = np.concatenate(parts_l, -1), np.concatenate(parts_s, -1)
    kept = [Block(g.keys, g.first.labels, np.full(g.first.labels.shape, np.nan)) for g in aligned.joined]
    sizes = dict(aligned.layout.sizes) | {key: labels.shape[-1]}
    joined = Block((*keys, key), labels, state, _sources(block for _, block, _ in heads))
    return Layout(tuple(axes), sizes, (*kept, joined), constant=aligned.layout.constant)


def _place(layout: Layout, key: int) -> tuple[int, int]:
    """Return (axis, position in the axis) of a factor."""
    return next((a, keys.index(key)) for a, keys in enumerate(layout.axes) if key in keys)

"""What the compact graph has to do about a reshape, and the labels of its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.constraints import Reordering
from onnx_oto.lanes.layout import IntArray, Layout, Size, View, changed, explicit, fuse
from onnx_oto.lanes.regroup import deal, told
from onnx_oto.lanes.repairs.cut import Cut, sizes_of
from onnx_oto.lanes.repairs.expression import Array, Tensor, apply
from onnx_oto.lanes.trace import Trace, describe
from onnx_oto.model.graph.node import Node


def reshape(trace: Trace, node: Node, source: str, layout: Layout, shape: Sequence[Size]) -> Layout:
    """Return the layout of tensor `source` (with `layout`) seen as `shape`, and register the node's repair.

    Factors are regrouped, split where an output axis ends inside one, and fused where neighbours of one block
    meet again. Labels whose place in the result depends on sizes that are not known are frozen.
    """
    view = layout.view or View(source, layout.axes)
    if layout.view is None and layout.joint():
        trace.materialise(layout, node, told_apart=())
    regrouped = _regrouped(trace, node, changed(layout, view=view), shape)
    result = fuse(regrouped)
    bypass = None if layout.view is None or result.joint() else _axis_permutation(regrouped)
    if bypass is None and trace.head_dims:
        trace.materialise(regrouped, node, told_apart=())
    if result.joint():
        if regrouped.view is None:
            trace.materialise(layout, node, told_apart=())
        trace.repair(node, lambda cut: resize(cut, node, layout, regrouped))
        return regrouped
    if bypass is None:
        trace.materialise(layout, node, told_apart=())
        trace.repair(node, lambda cut: resize(cut, node, layout, result))
    else:
        root, axis = bypass
        origin = trace.layout(root)
        assert origin is not None
        order = _order(regrouped, axis)
        trace.reorderings[node.name] = Reordering(root, axis, order)
        trace.repair(node, lambda cut: _gather(cut, node, root, origin, axis, order))
    return changed(result, view=None)


def _regrouped(trace: Trace, node: Node, layout: Layout, shape: Sequence[Size]) -> Layout:
    """Return `layout` with its factors dealt out to the axes of `shape`; what cannot be told there is frozen."""
    dealt = deal(layout, shape)
    if dealt.mixed:
        reason = f"{describe(node)} mixes the axis with a size that is not known, or divides it unevenly"
        trace.materialise(layout, node)
        dealt = replace(dealt, layout=trace.release(dealt.layout, dealt.mixed, reason))
    return told(dealt)


def reshape_by_indices(
    trace: Trace, node: Node, source: str, layout: Layout, shape: Sequence[Size]
) -> Layout:
    """The same for a Gather of a flat tensor at row-major indices: a Reshape in the compact graph."""
    trace.materialise(layout, node)
    result = changed(fuse(_regrouped(trace, node, changed(layout, view=None), shape)), view=None)
    trace.materialise(result, node)

    def repair(cut: Cut) -> None:
        sizes = [cut.size(result, axis) for axis in range(result.rank)]
        if cut.touches(layout) and sizes.count(None) <= 1:
            target = np.array([-1 if s is None else s for s in sizes], np.int64)
            cut.express(node.name, apply("Reshape", Tensor(source), Array(target)))

    if sum(not isinstance(size, int) for size in shape) > 1:
        trace.freeze(result.blocks, f"{describe(node)} gathers into several sizes that are not known")
    trace.repair(node, repair)
    return result


def resize(cut: Cut, node: Node, layout: Layout, result: Layout, index: int = 1) -> None:
    """Repair: write the compact sizes of `result` into input `index` of a Reshape or Expand."""
    if node.op == "Flatten" or not cut.touches(layout, result):
        return
    sizes = sizes_of(cut, result)
    numbers = [size if isinstance(size, int) else -1 for size in sizes]
    if numbers.count(-1) <= 1 and index == 1 and node.op == "Reshape" and 0 not in numbers:
        cut.set_input(node.name, index, np.array(numbers, np.int64))
        return
    cut.override_input(node.name, index, sizes)


def _order(layout: Layout, axis: int) -> IntArray:
    """Return which position of the root's axis stands at each position of a permuted `axis`, int64 [n]."""
    if axis < 0 or layout.view is None:
        return np.zeros(0, np.int64)
    before = layout.view.axes[axis]
    shape = [int(layout.sizes[k] or 0) for k in before]
    positions = np.arange(np.prod(shape, dtype=np.int64)).reshape(shape)
    return positions.transpose([before.index(k) for k in layout.axes[axis]]).reshape(-1)


def _gather(cut: Cut, node: Node, root: str, origin: Layout, axis: int, order: IntArray) -> None:
    """Repair: a chain of views that only permutes one axis is one Gather (or nothing) in the compact graph.

    order: which position of the root's axis stands at each position of the result, int64 [n].
    """
    if not cut.touches(origin):
        return
    if axis < 0:
        cut.express(node.name, apply("Identity", Tensor(root)))
        return
    listed = explicit(origin, axis)
    assert listed is not None
    keep = cut.kept(listed[0])
    order = (np.cumsum(keep) - 1)[order[keep[order]]]
    if np.array_equal(order, np.arange(order.size)):
        cut.express(node.name, apply("Identity", Tensor(root)))
    else:
        cut.express(node.name, apply("Gather", Tensor(root), Array(order), axis=axis))


def _axis_permutation(layout: Layout) -> tuple[str, int] | None:
    """Return (root tensor, axis) if the view is the root with one labelled axis permuted; axis -1: unchanged."""
    if layout.view is None or len(layout.view.axes) != layout.rank:
        return None
    changed = [i for i, (a, b) in enumerate(zip(layout.axes, layout.view.axes, strict=True)) if a != b]
    if not changed:
        return layout.view.root, -1
    if len(changed) > 1:
        return None
    axis = changed[0]
    blocks = layout.on_axis(axis)
    same = sorted(layout.axes[axis]) == sorted(layout.view.axes[axis])
    if not same or len(blocks) != 1 or set(blocks[0].keys) != set(layout.axes[axis]):
        return None
    return layout.view.root, axis

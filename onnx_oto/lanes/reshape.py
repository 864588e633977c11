"""Reshape as index arithmetic on factors, and what the compact graph has to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.cut import Cut
from onnx_oto.lanes.expression import Array, Tensor, apply
from onnx_oto.lanes.layout import (
    Block,
    IntArray,
    Layout,
    Size,
    View,
    explicit,
    fresh_key,
    fuse,
    product,
    split,
)
from onnx_oto.lanes.trace import Reordering, Trace, describe
from onnx_oto.model.node import Node


def reshape(trace: Trace, node: Node, source: str, layout: Layout, shape: Sequence[Size]) -> Layout:
    """Return the layout of tensor `source` (with `layout`) seen as `shape`, and register the node's repair.

    Factors are regrouped, split where an output axis ends inside one, and fused where neighbours of one block
    meet again. What mixes a label with a size that is unknown is frozen.
    """
    view = layout.view or View(source, layout.axes)
    if layout.view is None and layout.joint():
        trace.materialise(layout, node, told_apart=())
    wide = replace(layout, view=view)
    regrouped = _regroup(wide, list(shape))
    if regrouped is None:
        reason = f"{describe(node)} mixes the axis with a size that is not known, or divides it unevenly"
        trace.materialise(layout, node)
        trace.freeze(layout.blocks, reason)
        return replace(trace.shaped(node.outputs[0]) or Layout((), {}), constant=layout.constant)
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
    return replace(result, view=None)


def reshape_by_indices(
    trace: Trace, node: Node, source: str, layout: Layout, shape: Sequence[Size]
) -> Layout:
    """The same for a Gather of a flat tensor at row-major indices: a Reshape in the compact graph."""
    trace.materialise(layout, node)
    regrouped = _regroup(replace(layout, view=None), list(shape))
    if regrouped is None:
        reason = f"{describe(node)} mixes the axis with a size that is not known, or divides it unevenly"
        trace.freeze(layout.blocks, reason)
        return trace.shaped(node.outputs[0]) or Layout((), {})
    result = replace(fuse(regrouped), view=None)
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
    sizes = [cut.size(result, axis) for axis in range(result.rank)]
    if sizes.count(None) <= 1 and index == 1 and node.op == "Reshape" and 0 not in sizes:
        cut.set_input(node.name, index, np.array([-1 if s is None else s for s in sizes], np.int64))
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


def _regroup(layout: Layout, shape: list[Size]) -> Layout | None:
    """Return `layout` with its factors dealt out to the axes of `shape`; None if that cannot be proved."""
    dims = [i for i, size in enumerate(shape) if size != 1]
    axes: list[tuple[int, ...]] = [()] * len(shape)
    flat = replace(layout, axes=(tuple(k for axis in layout.axes for k in axis),))
    left, right = 0, 0  # factors dealt from either end
    while dims and left + right < len(flat.axes[0]):
        taken = _take(flat, shape[dims[0]], left, right, from_left=True)
        if taken is None:
            break
        flat, count = taken
        axes[dims.pop(0)] = flat.axes[0][left : left + count]
        left += count
    while dims and left + right < len(flat.axes[0]):
        taken = _take(flat, shape[dims[-1]], left, right, from_left=False)
        if taken is None:
            break
        flat, count = taken
        end = len(flat.axes[0]) - right
        axes[dims.pop()] = flat.axes[0][end - count : end]
        right += count
    middle = flat.axes[0][left : len(flat.axes[0]) - right]
    done = _deal_middle(flat, middle, dims, shape, axes)
    return done


def _take(flat: Layout, want: Size, left: int, right: int, *, from_left: bool) -> tuple[Layout, int] | None:
    """Return the layout (a factor may get split) and how many factors at one end make an axis of size `want`."""
    keys = flat.axes[0][left : len(flat.axes[0]) - right]
    end = keys[0] if from_left else keys[-1]
    if not isinstance(want, int):
        same = want is not None and flat.sizes[end] == want
        return (flat, 1) if same else None
    need, count = want, 0
    while need > 1:
        if count == len(keys):
            return None
        key = keys[count] if from_left else keys[-1 - count]
        size = flat.sizes[key]
        if not isinstance(size, int):
            return None
        if need % size == 0:
            need //= size
            count += 1
        elif size % need == 0:
            outer, inner = (need, size // need) if from_left else (size // need, need)
            return split(flat, key, outer, inner), count + 1
        else:
            return None
    return flat, count


def _deal_middle(
    flat: Layout, middle: tuple[int, ...], dims: list[int], shape: list[Size], axes: list[tuple[int, ...]]
) -> Layout | None:
    """Deal out the factors that could not be matched from the ends."""
    if not middle and not dims:
        return replace(flat, axes=tuple(axes))
    if len(dims) == 1:
        axes[dims[0]] = middle
        return replace(flat, axes=tuple(axes))
    if any(flat.block(k) for k in middle):
        return _reshape_block(flat, middle, dims, shape, axes)
    sizes = dict(flat.sizes)
    for i in dims:
        key = fresh_key()
        sizes[key] = shape[i]
        axes[i] = (key,)
    return replace(flat, axes=tuple(axes), sizes=sizes, view=None)


def _reshape_block(
    flat: Layout, middle: tuple[int, ...], dims: list[int], shape: list[Size], axes: list[tuple[int, ...]]
) -> Layout | None:
    """Reshape the labels of a run of factors whose borders do not nest with the output's."""
    blocks = {flat.owners[k] for k in middle if k in flat.owners}
    block = flat.blocks[next(iter(blocks))]
    before, after = product(flat.sizes[k] for k in middle), product(shape[i] for i in dims)
    if len(blocks) > 1 or before is None or before != after or not set(block.keys) <= set(middle):
        return None
    inside = [k for k in middle if k in block.keys]
    order = [block.keys.index(k) for k in inside]
    sizes = dict(flat.sizes)
    wide = tuple(int(sizes[k] or 0) if k in block.keys else 1 for k in middle)
    full = tuple(int(sizes[k] or 0) for k in middle)
    target = tuple(int(shape[i] or 0) for i in dims)
    keys = tuple(fresh_key() for _ in dims)
    labels = np.broadcast_to(block.labels.transpose(order).reshape(wide), full).reshape(target)
    state = np.broadcast_to(block.state.transpose(order).reshape(wide), full).reshape(target)
    for key, i in zip(keys, dims, strict=True):
        sizes[key] = shape[i]
        axes[i] = (key,)
    others = tuple(b for b in flat.blocks if b is not block)
    return Layout(
        tuple(axes),
        sizes,
        (*others, Block(keys, labels, state, block.source)),
        uniform=flat.uniform,
        constant=flat.constant,
    )

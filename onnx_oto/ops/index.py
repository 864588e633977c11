"""Operators that pick or pad positions of one axis."""

from __future__ import annotations

import numpy as np

from onnx_oto.lanes.layout import Block, IntArray, Layout, changed, explicit, fresh_key, relabel_axis
from onnx_oto.lanes.repairs.cut import Cut, kept_along
from onnx_oto.lanes.trace import Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.rules import NotCovered, given, inputs, rule


def single(trace: Trace, node: Node, layout: Layout, axis: int) -> Layout:
    """Return `layout` with `axis` as one factor (or none of its labels left)."""
    keys = layout.axes[axis]
    if len(keys) <= 1 or not layout.on_axis(axis):
        return layout
    listed = explicit(layout, axis)
    if listed is None:
        return trace.release(layout, [axis], f"{describe(node)} cuts an axis that is composed of several")
    return relabel_axis(layout, axis, *listed)


def alone(trace: Trace, node: Node, layout: Layout, axis: int) -> Layout:
    """Return `layout` with `axis` as one factor whose labels lie on it alone: one that reaches over gives way."""
    inside = set(layout.axes[axis])
    if any(not set(block.keys) <= inside for block in layout.on_axis(axis)):
        trace.materialise(layout, node)
        blocks = []
        for block in layout.blocks:
            keep = tuple(k for k in block.keys if k in inside)
            blocks.append(trace.collapse(block, keep) if keep else block)
        layout = changed(layout, blocks=tuple(blocks), view=None)
    return single(trace, node, layout, axis)


def take(layout: Layout, axis: int, index: IntArray | slice) -> Layout:
    """Return the layout of x[..., index, ...] along `axis` (one factor, a labelled one)."""
    (key,) = layout.axes[axis]
    block = layout.block(key)
    assert block is not None
    at = block.keys.index(key)
    pick = (slice(None),) * at + (index,)
    labels, state = block.labels[pick], block.state[pick]
    new, sizes = fresh_key(), dict(layout.sizes)
    axes = list(layout.axes)
    if labels.shape[at] == 1:
        keys = (*block.keys[:at], *block.keys[at + 1 :])
        labels, state = labels.squeeze(at), state.squeeze(at)
        axes[axis] = ()
    else:
        keys = (*block.keys[:at], new, *block.keys[at + 1 :])
        sizes[new] = labels.shape[at]
        axes[axis] = (new,)
    others = [b for b in layout.blocks if b is not block]
    if keys:
        others.append(Block(keys, labels, state, block.source))
    return Layout(tuple(axes), sizes, tuple(others), constant=layout.constant)


def repeated_axis(trace: Trace, layout: Layout, axis: int, size: int) -> Layout:
    """Return `layout` with `axis` of size 1 repeated: lanes of its own, it may shrink with what it meets later."""
    keys, sizes, blocks = trace.spread(
        size, np.nan if layout.uniform is None else layout.uniform, repeated=True
    )
    axes = (*layout.axes[:axis], keys, *layout.axes[axis + 1 :])
    return Layout(axes, {**layout.sizes, **sizes}, (*layout.blocks, *blocks), constant=layout.constant)


def free_axis(layout: Layout, axis: int, size: int | str | None) -> Layout:
    """Return `layout` with an unlabelled `axis` of another size."""
    key = fresh_key()
    axes = list(layout.axes)
    axes[axis] = () if size == 1 else (key,)
    return changed(layout, axes=tuple(axes), sizes=dict(layout.sizes) | {key: size}, view=None)


def pick(
    trace: Trace, node: Node, layout: Layout, axis: int, index: IntArray | slice, size: int | str | None
) -> Layout:
    """Return the layout of x taken at `index` along `axis`, `size` positions; a lone one that stays is frozen."""
    if size == 0:
        layout = trace.release(layout, [axis], f"{describe(node)} takes nothing of the axis")
    if not layout.on_axis(axis):
        return free_axis(layout, axis, size)
    (key,) = layout.axes[axis]
    block = layout.block(key)
    if block is not None and len(block.keys) == 1:
        listed = block.labels[index]
        if listed.size <= 1:
            trace.freeze(listed, f"{describe(node)} takes a single position of the axis")
    return take(layout, axis, index)


@rule("Split", orderless=True)
def split_axis(node: Node, trace: Trace) -> None:
    """Consecutive ranges of one axis."""
    x = given(inputs(node, trace)[0])
    axis = int(node.attrs.get("axis", 0)) % x.rank
    x = single(trace, node, x, axis)
    trace.materialise(x, node, told_apart=[axis])
    sizes = [trace.shape(name)[axis] for name in node.outputs if name]
    if not x.on_axis(axis):
        for name, size in zip(node.outputs, sizes, strict=True):
            trace.put(name, free_axis(x, axis, size))
        return
    parts: list[Layout] = []
    start = 0
    for name, size in zip(node.outputs, sizes, strict=True):
        if not isinstance(size, int):
            raise NotCovered("splits into unknown sizes")
        parts.append(pick(trace, node, x, axis, slice(start, start + size), size))
        trace.put(name, parts[-1])
        start += size

    def repair(cut: Cut) -> None:
        if not cut.touches(x):
            return
        kept = [cut.size(part, axis) for part in parts]
        cut.override(node.name, "split", kept)
        cut.set_attribute(node.name, "num_outputs", None)

    trace.repair(node, repair)


@rule("Slice", orderless=True)
def slice_axes(node: Node, trace: Trace) -> None:
    """x[..., start:end:step, ...] along some axes, the bounds constant where the axis is labelled."""
    x = given(inputs(node, trace)[0])
    shape, out = trace.shape(node.inputs[0]), trace.shape(node.outputs[0])
    bounds = _slice_bounds(node, trace, x.rank)
    trace.materialise(x, node, told_apart=[axis for axis, *_ in bounds])
    result, cuts = x, []
    for axis, start, end, step in bounds:
        result = single(trace, node, result, axis)
        size = shape[axis]
        if not result.on_axis(axis) or not isinstance(size, int) or None in (start, end, step):
            reason = f"{describe(node)} slices the axis at positions that are computed"
            result = trace.release(result, [axis], reason)
            result = free_axis(result, axis, out[axis])
            continue
        index = np.arange(size)[slice(start, end if end is None or end >= -size else None, step)]
        before = result
        result = pick(trace, node, result, axis, index, out[axis])
        cuts.append((axis, index, before))
    trace.put(node.outputs[0], changed(result, view=None))
    if cuts:
        trace.repair(node, lambda cut: _repair_slice(cut, node, cuts))


def _slice_bounds(
    node: Node, trace: Trace, rank: int
) -> list[tuple[int, int | None, int | None, int | None]]:
    """Return (axis, start, end, step) per sliced axis; None for what is not constant."""
    if "starts" in node.attrs:
        starts, ends = list(node.attrs["starts"]), list(node.attrs["ends"])
        axes = list(node.attrs.get("axes") or range(len(starts)))
        return [(int(a) % rank, int(s), int(e), 1) for a, s, e in zip(axes, starts, ends, strict=True)]
    lists: list[list[int | None] | None] = []
    for i in range(1, 5):
        name = node.inputs[i] if i < len(node.inputs) else ""
        partial = trace.graph.partial(name) if name else None
        if name and partial is None:
            size = trace.shape(name)
            if not size or not isinstance(size[0], int):
                raise NotCovered("slices at positions that are computed")
            lists.append([None] * size[0])
        else:
            values = (
                None if partial is None else [v if isinstance(v, int) else None for v in partial.reshape(-1)]
            )
            lists.append(values)
    starts_, ends_, axes_, steps_ = lists
    assert starts_ is not None
    assert ends_ is not None
    count = len(starts_)
    if axes_ is not None and None in axes_:
        raise NotCovered("slices axes that are computed")
    axes = [int(a or 0) % rank for a in axes_] if axes_ is not None else list(range(count))
    steps = steps_ or [1] * count
    return list(zip(axes, starts_, ends_, steps, strict=True))


def _repair_slice(cut: Cut, node: Node, cuts: list[tuple[int, IntArray, Layout]]) -> None:
    """Repair: new bounds along every sliced axis that lost positions (all others keep theirs)."""
    for axis, index, before in cuts:
        if not cut.touches(before):
            continue
        keep = kept_along(cut, before, axis)
        if keep.all():
            continue
        cut.reslice(node.name, axis, np.cumsum(keep)[index[keep[index]]] - 1)


@rule("Pad", orderless=True)
def pad(node: Node, trace: Trace) -> None:
    """Positions of a constant value before and after an axis."""
    x = given(inputs(node, trace)[0])
    trace.materialise(x, node)
    pads, axes = _pads(node, trace, x.rank)
    value = _pad_value(node, trace)
    mode = node.attrs.get("mode", "constant")
    mode = mode.decode() if isinstance(mode, bytes) else mode
    result, added = x, []
    for i, axis in enumerate(axes):
        before, after = pads[i], pads[i + len(axes)]
        if before == 0 and after == 0:
            continue
        result = single(trace, node, result, axis)
        blocks = result.on_axis(axis)
        known = before is not None and after is not None and before >= 0 and after >= 0
        if blocks and known and mode == "constant" and len(blocks[0].keys) == 1:
            first, last = trace.fresh(int(before or 0)), trace.fresh(int(after or 0))
            trace.tell_apart(np.concatenate([first, last]), f"{describe(node)} puts a constant there")
            labels = np.concatenate([first, blocks[0].labels, last])
            state = np.concatenate([np.full(first.size, value), blocks[0].state, np.full(last.size, value)])
            result = relabel_axis(result, axis, labels, state)
            added.append((i, i + len(axes), first, last))
        else:
            result = trace.release(result, [axis], f"{describe(node)} extends the axis")
            result = free_axis(result, axis, trace.shape(node.outputs[0])[axis])
        if mode == "constant":
            result = _bordered(result, axis, value)
    trace.put(node.outputs[0], changed(result, view=None))

    def repair(cut: Cut) -> None:
        sizes = list(pads)
        for low, high, first, last in added:
            sizes[low], sizes[high] = int(cut.kept(first).sum()), int(cut.kept(last).sum())
        if sizes != pads:
            cut.override(node.name, "pads", sizes)

    trace.repair(node, repair)


def _bordered(layout: Layout, axis: int, value: float) -> Layout:
    """Return `layout` with positions of `value` on `axis`: what other axes hold is a constant only if it is that."""
    own = set(layout.axes[axis])
    blocks = [
        b if own & set(b.keys) else changed(b, state=np.where(b.state == value, b.state, np.nan))
        for b in layout.blocks
    ]
    return changed(layout, blocks=tuple(blocks))


def _pads(node: Node, trace: Trace, rank: int) -> tuple[list[int | None], list[int]]:
    if "pads" in node.attrs or "paddings" in node.attrs:
        return [int(p) for p in node.attrs.get("pads") or node.attrs["paddings"]], list(range(rank))
    axes = list(range(rank))
    if len(node.inputs) > 3 and node.inputs[3]:
        listed = trace.graph.constant(node.inputs[3])
        if listed is None:
            raise NotCovered("pads axes that are computed")
        axes = [int(a) % rank for a in listed.reshape(-1)]
    partial = trace.graph.partial(node.inputs[1])
    if partial is None:
        return [None] * (2 * len(axes)), axes
    return [v if isinstance(v, int) else None for v in partial.reshape(-1)], axes


def _pad_value(node: Node, trace: Trace) -> float:
    if len(node.inputs) > 2 and node.inputs[2]:
        value = trace.uniform(node.inputs[2])
        return np.nan if value is None else value
    return float(node.attrs.get("value", 0.0))

"""Operators that pick, join or pad positions of one axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import align
from onnx_oto.lanes.cut import Cut
from onnx_oto.lanes.expression import Tensor, apply
from onnx_oto.lanes.layout import Block, FloatArray, IntArray, Layout, explicit, fresh_key, relabel_axis
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.node import Node
from onnx_oto.model.tensors import FLOATS
from onnx_oto.ops.registry import NotCovered, given, inputs, rule


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
        layout = replace(layout, blocks=tuple(blocks), view=None)
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
    key, value = fresh_key(), np.nan if layout.uniform is None else layout.uniform
    axes = list(layout.axes)
    axes[axis] = (key,)
    block = Block((key,), trace.fresh(size), np.full(size, value), repeated=True)
    sizes = dict(layout.sizes) | {key: size}
    return Layout(tuple(axes), sizes, (*layout.blocks, block), constant=layout.constant)


def free_axis(layout: Layout, axis: int, size: int | str | None) -> Layout:
    """Return `layout` with an unlabelled `axis` of another size."""
    key = fresh_key()
    axes = list(layout.axes)
    axes[axis] = () if size == 1 else (key,)
    return replace(layout, axes=tuple(axes), sizes=dict(layout.sizes) | {key: size}, view=None)


def pick(trace: Trace, node: Node, layout: Layout, axis: int, index: IntArray | slice, name: str) -> Layout:
    """Return the layout of output `name`, x taken at `index` along `axis`; a lone position that stays is frozen."""
    if trace.shape(name)[axis] == 0:
        layout = trace.release(layout, [axis], f"{describe(node)} takes nothing of the axis")
    if not layout.on_axis(axis):
        return free_axis(layout, axis, trace.shape(name)[axis])
    (key,) = layout.axes[axis]
    block = layout.block(key)
    if block is not None and len(block.keys) == 1:
        listed = block.labels[index]
        if listed.size <= 1:
            trace.freeze(listed, f"{describe(node)} takes a single position of the axis")
    return take(layout, axis, index)


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
    labelled = [bool(layout.on_axis(axis)) for layout in layouts]
    if any(labelled) and None in sizes:
        layouts = [trace.release(x, [axis], f"{describe(node)} joins unknown sizes") for x in layouts]
        labelled = [False] * len(layouts)
    _produce(trace, layouts)
    joint = [b for layout in layouts for b in layout.on_axis(axis) if len(b.keys) > 1]
    if joint and all(labelled) and all(size is not None and size > 1 for size in sizes):
        trace.put(node.outputs[0], _concat_joint(node, trace, layouts, axis))
        return
    if joint:
        layouts = [_rows(trace, layout, axis) for layout in layouts]
        labelled = [bool(layout.on_axis(axis)) for layout in layouts]
    parts = [_positions(trace, layout, axis) for layout in layouts] if any(labelled) else []
    others = [_without_axis(layout, axis) for layout in layouts]
    aligned = align(trace, node, others)
    blocks = []
    for group in aligned.joined:
        states = np.stack(aligned.states(group))
        state = np.where((states == states[0]).all(0), states[0], np.nan)
        blocks.append(Block(group.keys, group.first.labels, state, _sources(group.operands)))
    base = replace(aligned.layout, blocks=tuple(blocks))
    if parts:
        labels, state = (np.concatenate(p) for p in zip(*parts, strict=True))
        source = _sources(b for layout in layouts for b in layout.on_axis(axis))
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
    return replace(layout, blocks=tuple(blocks), view=None)


def _positions(trace: Trace, layout: Layout, axis: int) -> tuple[IntArray, FloatArray]:
    """Return labels and states along `axis`; positions without a label get one that is frozen."""
    listed = explicit(layout, axis)
    if listed is None:
        raise NotCovered("joins an axis that is composed of several")
    labels, state = listed
    if (labels < 0).any():
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
    others = [replace(_without_axis(layout, axis)) for layout in layouts]
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
        parts.append(pick(trace, node, x, axis, slice(start, start + size), name))
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
        result = pick(trace, node, result, axis, index, node.outputs[0])
        cuts.append((axis, index, before))
    trace.put(node.outputs[0], replace(result, view=None))
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
        (key,) = before.axes[axis]
        block = before.block(key)
        assert block is not None
        keep = cut.along(block, key)
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
    trace.put(node.outputs[0], replace(result, view=None))

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
        b if own & set(b.keys) else replace(b, state=np.where(b.state == value, b.state, np.nan))
        for b in layout.blocks
    ]
    return replace(layout, blocks=tuple(blocks))


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

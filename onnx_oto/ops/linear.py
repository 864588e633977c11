"""Operators that sum products: Conv, ConvTranspose, Gemm, MatMul."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import contract
from onnx_oto.lanes.cut import Cut
from onnx_oto.lanes.layout import (
    Block,
    FloatArray,
    IntArray,
    Layout,
    explicit,
    fresh_key,
    product,
    split,
    without_axes,
)
from onnx_oto.lanes.trace import Balanced, Role, Trace, describe
from onnx_oto.model.node import Node
from onnx_oto.ops.registry import NotCovered, given, inputs, rule


def spatial_free(trace: Trace, node: Node, layout: Layout) -> Layout:
    """Return `layout` with the axes after the channels free: a window over an axis mixes its positions."""
    reason = f"{describe(node)} slides a window over the axis"
    return trace.release(layout, range(2, layout.rank), reason)


def add_bias(trace: Trace, node: Node, result: Layout, bias: Layout | None, axis: int = 1) -> Layout:
    """Return the layout of `result` + `bias` [C], the bias along `axis`."""
    if bias is None:
        return result
    wide = replace(bias, axes=bias.axes + ((),) * (result.rank - axis - 1))
    trace.use(bias, Role.PRODUCER, weight=True)
    return combine(trace, node, [result, wide], np.add, [Role.PRODUCER, Role.PRODUCER])


def _with_spatial(trace: Trace, node: Node, channels: Layout) -> Layout:
    """Return the layout [N, C] with the output's spatial axes put behind."""
    shaped = trace.shaped(node.outputs[0])
    assert shaped is not None
    sizes = dict(channels.sizes) | dict(shaped.sizes)
    return replace(channels, axes=channels.axes + shaped.axes[2:], sizes=sizes)


def _window_macs(trace: Trace, node: Node, kernel: Sequence[int | str | None], over: str) -> int:
    """Return multiply-accumulates per pair of channels and sample: kernel size times positions of tensor `over`."""
    positions = product(n if isinstance(n, int) else 1 for n in trace.shape(over)[2:]) or 0
    return positions * (product(n if isinstance(n, int) else 1 for n in kernel) or 0)


@rule("Conv")
def conv(node: Node, trace: Trace) -> None:
    """y[n, o, p] = sum_{c, k} w[o, c, k] x[n, c, p + k] + b[o], in groups of channels."""
    x, w, *bias = inputs(node, trace)
    macs = _window_macs(trace, node, trace.shape(node.inputs[1])[2:], node.outputs[0])
    _convolve(node, trace, given(x), given(w), bias[0] if bias else None, macs, "oc")


@rule("ConvTranspose")
def conv_transpose(node: Node, trace: Trace) -> None:
    """y[n, o, p] = sum_{c, k} w[c, o, k] x[n, c, (p - k) / stride] + b[o], in groups of channels."""
    x, w, *bias = inputs(node, trace)
    macs = _window_macs(trace, node, trace.shape(node.inputs[1])[2:], node.inputs[0])
    _convolve(node, trace, given(x), given(w), bias[0] if bias else None, macs, "co")


def _convolve(
    node: Node, trace: Trace, x: Layout, w: Layout, bias: Layout | None, macs: int, order: str
) -> None:
    x = without_axes(spatial_free(trace, node, x), range(2, x.rank))
    w = without_axes(spatial_free(trace, node, w), range(2, w.rank))
    groups = int(node.attrs.get("group", 1))
    if groups == 1:
        # A constant in a removed channel goes into the bias, unless zeros padded at the border break it.
        fold = _folds(node, trace, x, 1, bias=2) and not _padded(node) and order == "oc"
        result = contract(trace, node, [(x, "nc"), (w, order)], "no", macs=macs, constants=fold)
        if fold:
            _fold_constants(node, trace, x, 1, produced=0, bias=2)
    else:
        result = _grouped(node, trace, x, w, groups, macs, order)
    result = _with_spatial(trace, node, result)
    trace.put(node.outputs[0], add_bias(trace, node, result, bias))


def _grouped(node: Node, trace: Trace, x: Layout, w: Layout, groups: int, macs: int, order: str) -> Layout:
    """A grouped convolution: input and output channels as [groups, channels of a group].

    If a group has one input or one output channel (depthwise), or the convolution is transposed, a group is one
    lane. Else every group stays and keeps as many channels as the others do (`Balanced`), on either side.
    """
    channels = trace.shape(node.inputs[0])[1]
    outputs = trace.shape(node.outputs[0])[1]
    if not isinstance(channels, int) or not isinstance(outputs, int):
        raise NotCovered("has an unknown number of channels")
    trace.macs[node.name] = macs * channels * outputs // groups * _batch(trace, node)
    per_in, per_out = channels // groups, outputs // groups
    x_block, w_block = _channel_block(x, 1), _channel_block(w, 0)
    for block in w.on_axis(0):
        trace.assign(block, Role.PRODUCER, weight=True)
    w = trace.release(w, [1], f"{describe(node)} reads it in every group")
    trace.repair(node, lambda cut: _set_group(cut, node, x_block, per_in))
    if per_in > 1 and per_out > 1 and order == "oc":
        return _balanced(node, trace, x, w, groups, order)
    rows = _labels(trace, x_block, channels).reshape(groups, per_in)
    front = _labels(trace, w_block, channels if order == "co" else outputs).reshape(groups, -1)
    trace.tie(rows[:, :1], rows)
    trace.tie(rows[:, :1], front)
    out = front
    if order == "co":
        out = trace.fresh((groups, per_out))
        trace.tie(rows[:, :1], out)
    if x_block is None and channels > 1:
        trace.freeze(rows, f"{describe(node)} reads channels that no parameter produces")
    return _channels(x, out.reshape(-1), np.zeros(outputs))


def _batch(trace: Trace, node: Node) -> int:
    batch = trace.shape(node.outputs[0])[0]
    return batch if isinstance(batch, int) else 1


def _channel_block(layout: Layout, axis: int) -> Block | None:
    """Return the block of an axis that must be one factor; None if the axis is free."""
    blocks = layout.on_axis(axis)
    if not blocks:
        return None
    if len(layout.axes[axis]) > 1 or len(blocks[0].keys) > 1:
        raise NotCovered("groups an axis that is composed of several")
    return blocks[0]


def _labels(trace: Trace, block: Block | None, size: int) -> IntArray:
    return trace.fresh(size) if block is None else block.labels


def _channels(x: Layout, labels: IntArray, state: FloatArray) -> Layout:
    """Return the layout [N, C] with these channel labels."""
    key = fresh_key()
    sizes = dict(x.sizes) | {key: int(labels.size)}
    return Layout((x.axes[0], (key,)), sizes, (Block((key,), labels, state),))


def _balanced(node: Node, trace: Trace, x: Layout, w: Layout, groups: int, order: str) -> Layout:
    name = node.inputs[1]
    if order != "oc" or name not in trace.graph.initializers or not x.on_axis(1):
        raise NotCovered("is grouped, and its channels or weights are computed in a way that has no rule")
    if not _grouped_everywhere(trace, name, groups):
        raise NotCovered("is grouped, and something else reads its weights in another way")
    x = split(x, x.axes[1][0], groups, _size(x, 1) // groups)
    block = next(b for b in x.blocks if len(b.keys) == 2)
    trace.demand_zero(block, node, "the sum")
    trace.tie(trace.grouped.setdefault(name, block.labels), block.labels)
    trace.roles[name, 1] = Role.CONSUMER
    trace.balanced.append(Balanced(block.labels, node.name))
    front = w.on_axis(0)[0].labels
    trace.balanced.append(Balanced(front.reshape(groups, -1), node.name))
    return _channels(x, front, np.zeros(front.size))


def _grouped_everywhere(trace: Trace, name: str, groups: int) -> bool:
    """Return whether every reader of a weight is a convolution in the same number of groups."""
    graph = trace.graph
    if name in graph.outputs or any(name in node.captured for node in graph.nodes):
        return False
    return all(
        position == 1 and node.op in ("Conv", "FusedConv") and node.attrs.get("group", 1) == groups
        for node, position in graph.consumers[name]
    )


def _size(layout: Layout, axis: int) -> int:
    size = layout.length(axis)
    assert size is not None
    return size


def _set_group(cut: Cut, node: Node, block: Block | None, per_group: int) -> None:
    """Repair: whole groups were removed, where a group is one lane."""
    if block is not None and not cut.kept(block.labels).all():
        rows = cut.kept(block.labels).reshape(-1, per_group).any(-1)
        cut.set_attribute(node.name, "group", int(rows.sum()))


def _padded(node: Node) -> bool:
    return any(node.attrs.get("pads", ())) or node.attrs.get("auto_pad", "NOTSET") in (
        "SAME_UPPER",
        "SAME_LOWER",
    )


def _folds(node: Node, trace: Trace, x: Layout, axis: int, *, bias: int | None = None) -> bool:
    """Return whether what the node makes of constants on `axis` of x can be computed and added.

    Its weight must be an initializer, its input `bias` (if any) too, and every position of `axis` one lane.
    """
    if bias is not None and node.input(bias) and node.input(bias) not in trace.graph.initializers:
        return False
    return node.inputs[1] in trace.parameters and explicit(x, axis) is not None


def _fold_constants(
    node: Node, trace: Trace, x: Layout, axis: int, *, produced: int, bias: int | None, scale: float = 1.0
) -> None:
    """Register the repair that adds what removed channels of constant value contributed.

    axis: of x that is summed over. produced: the weight's output axis (the other one is summed over).
    bias: the input to add to, None to add behind the node. scale: factor of the product.
    """
    listed = explicit(x, axis)
    assert listed is not None
    if not x.on_axis(axis):
        return
    values = np.where(np.isfinite(listed[1]), listed[1], 0.0)
    if not values.any():
        return
    name = node.inputs[1]
    labels, outputs = trace.parameters[name].get(1 - produced), trace.parameters[name].get(produced)
    if labels is None:
        return

    def repair(cut: Cut) -> None:
        gone = ~cut.kept(labels)
        weight = trace.graph.constant(name)
        zeroed_itself = trace.roles.get((name, 1 - produced)) is Role.PRODUCER  # tied weights
        if weight is None or zeroed_itself or not values[gone].any():
            return
        sums = weight.astype(np.float64).sum(tuple(range(2, weight.ndim)))
        added = scale * (sums[:, gone] @ values[gone] if produced == 0 else values[gone] @ sums[gone])
        if outputs is not None:
            added = added[cut.kept(outputs)]
        if bias is None:
            cut.insert_after(node.name, 0, "Add", [added.astype(weight.dtype)])
        else:
            cut.add_to_input(node.name, bias, added.astype(weight.dtype))

    trace.repair(node, repair)


@rule("Gemm")
def gemm(node: Node, trace: Trace) -> None:
    """Y = alpha A' B' + beta C"""
    a, b, *c = inputs(node, trace)
    left = "km" if node.attrs.get("transA", 0) else "mk"
    right = "nk" if node.attrs.get("transB", 0) else "kn"
    fold = _folds(node, trace, given(a), 1) and left == "mk"
    result = contract(trace, node, [(given(a), left), (given(b), right)], "mn", constants=fold)
    if fold:
        produced = 0 if right == "nk" else 1
        alpha = float(node.attrs.get("alpha", 1.0))
        _fold_constants(node, trace, given(a), 1, produced=produced, bias=None, scale=alpha)
    beta = float(node.attrs.get("beta", 1.0))
    if c and c[0] is not None:
        trace.use(c[0], Role.PRODUCER, weight=True)

        def state(product: FloatArray, added: FloatArray) -> FloatArray:
            return product + beta * added if beta else product

        result = combine(trace, node, [result, c[0]], state, [Role.PRODUCER, Role.PRODUCER])
    trace.put(node.outputs[0], result)


@rule("MatMul")
def matmul(node: Node, trace: Trace) -> None:
    """Y[..., m, n] = sum_k A[..., m, k] B[..., k, n], batch axes broadcast."""
    a, b = (given(layout) for layout in inputs(node, trace))
    batch = max(a.rank, b.rank) - 2
    letters = "abcdefghij"[: max(batch, 0)]
    left = letters[batch - (a.rank - 2) :] + "mk" if a.rank > 1 else "k"
    right = letters[batch - (b.rank - 2) :] + "kn" if b.rank > 1 else "k"
    out = letters + ("m" if a.rank > 1 else "") + ("n" if b.rank > 1 else "")
    fold = _folds(node, trace, a, a.rank - 1) and b.rank == 2 and a.rank > 1
    result = contract(trace, node, [(a, left), (b, right)], out, constants=fold)
    if fold:
        _fold_constants(node, trace, a, a.rank - 1, produced=1, bias=None)
    trace.put(node.outputs[0], result)

"""Normalisations and other operators that look along axes.

A norm over n lanes of which k stay is repaired exactly: removed lanes are zero, so LayerNorm's mean and variance
over n follow from the kept ones. The fused operator is kept: its input is padded with n - k zeros and its output
sliced. RMSNorm needs no padding: eps n/k and scale sqrt(n/k) give the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto

from onnx_oto.lanes.align import Aligned, align, combine
from onnx_oto.lanes.contract import zero_or_unknown
from onnx_oto.lanes.layout import (
    Block,
    FloatArray,
    Layout,
    changed,
    fuse,
    split,
    with_axes,
    with_blocks,
    without_axes,
)
from onnx_oto.lanes.repairs.cut import Cut, kept_of
from onnx_oto.lanes.repairs.expression import Array, Expression, Tensor, apply
from onnx_oto.lanes.states import remembered, result_of
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.index import alone
from onnx_oto.ops.rules import NotCovered, given, inputs, rule

HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
SWITCHED_OFF = "removing channels from normalised axes is switched off"


def affine(trace: Trace, aligned: Aligned, scale: int, bias: int | None) -> Layout:
    """Return the layout of y = scale * norm + bias: zero where scale and bias are, whatever the (finite) norm is."""
    blocks = []
    for group in aligned.joined:
        states = aligned.states(group)
        read = [states[0], states[scale], *([states[bias]] if bias is not None else [])]
        blocks.append(Block(group.keys, group.first.labels, result_of(_affine, read, [states[0]])))
    return with_blocks(changed(aligned.layout, constant=False), blocks)


@remembered
def _affine(x: FloatArray, scale: FloatArray, shift: FloatArray | None = None) -> FloatArray:
    """Return what is left of a norm whose scale is zero: the shift."""
    return np.where(scale == 0, 0.0 if shift is None else shift, np.nan)


def put_statistics(trace: Trace, names: Sequence[str], like: Layout, over: Iterable[int] = ()) -> None:
    """Put the layout of statistics: that of `like`, of size 1 over some (free) axes. Nothing is known of values."""
    if not any(names):
        return
    layout = without_axes(like, over, keep_dims=True)
    blocks = [changed(b, state=np.full_like(b.state, np.nan), source=()) for b in layout.blocks]
    for name in names:
        if name:
            trace.put(name, with_blocks(changed(layout, constant=False), blocks))


def _channel_vector(vector: Layout, rank: int) -> Layout:
    """Return a vector [C] as it is broadcast over [N, C, ...]."""
    return with_axes(vector, vector.axes + ((),) * (rank - 2))


@rule("BatchNormalization", orderless=True)
def batch_normalization(node: Node, trace: Trace) -> None:
    """y[n, c, ...] = scale[c] (x[n, c, ...] - mean[c]) / sqrt(var[c] + eps) + bias[c]

    With scale and bias zero the channel is zero, whatever x is. In training, statistics are outputs too.
    """
    x, *vectors = (given(layout) for layout in inputs(node, trace)[:5])
    if any(vector.rank != 1 for vector in vectors):
        raise NotCovered("has a scale per position")
    for vector, role in zip(vectors, (Role.PRODUCER, Role.PRODUCER, Role.BUFFER, Role.BUFFER), strict=True):
        trace.use(vector, role, weight=role is Role.PRODUCER)
    aligned = align(trace, node, [x, *(_channel_vector(v, x.rank) for v in vectors)])
    trace.put(node.outputs[0], affine(trace, aligned, 1, 2))
    put_statistics(trace, node.outputs[1:], vectors[0])


@rule("InstanceNormalization", orderless=True)
def instance_normalization(node: Node, trace: Trace) -> None:
    """y[n, c, ...] = scale[c] (x - mean over ...) / sqrt(variance over ... + eps) + bias[c]

    Channels may lie on a single normalised axis: exporters write a norm over one group as [N, 1, C * positions].
    """
    x, scale, bias = (given(layout) for layout in inputs(node, trace))
    if not _may_shrink(trace, x, 2):
        x = trace.release(x, range(2, x.rank), f"{describe(node)} needs every position of the axis")
    elif x.on_axis(2):
        _norm_over_lanes(node, trace, x, [2])
    for vector in (scale, bias):
        trace.use(vector, Role.PRODUCER, weight=True)
    aligned = align(trace, node, [x, _channel_vector(scale, x.rank), _channel_vector(bias, x.rank)])
    trace.put(node.outputs[0], affine(trace, aligned, 1, 2))


def _may_shrink(trace: Trace, x: Layout, axis: int) -> bool:
    """Return whether `axis` is the only normalised one, with lanes that lie on it alone."""
    alone = all(set(b.keys) <= set(x.axes[axis]) for b in x.on_axis(axis))
    return trace.through_norms and x.rank == axis + 1 and alone


def _norm_over_lanes(node: Node, trace: Trace, x: Layout, axes: Sequence[int]) -> None:
    """Let lanes go from a norm over `axes`: the compact graph writes it out with statistics over all of them.

    Zeros put in their place, as for LayerNorm, would do too. But in onnxruntime's InstanceNormalization thousands of
    equal summands add up to errors that are several times as large, and sizes would have to be known.
    """
    trace.materialise(x, node)
    for block in dict.fromkeys(block for axis in axes for block in x.on_axis(axis)):
        trace.demand_zero(block, node, "the mean")

    def repair(cut: Cut) -> None:
        kept, total = kept_of(cut, x, axes)
        if kept < total:
            cut.express(node.name, _written_out(node, trace, x, axes, kept / total))

    trace.repair(node, repair)


def corrected_norm(
    x: Expression, axes: Sequence[int], share: float, eps: float, number: Callable[[float], Expression]
) -> Expression:
    """Return the norm of x over n positions of `axes`, of which the share r is there and the others are zero.

    With mean m and variance v of those there: (x - r m) / sqrt(r v + r (1 - r) m^2 + eps). number: a constant in the
    data type of x.
    """

    def mean(of: Expression) -> Expression:
        return apply("ReduceMean", of, axes=list(axes), keepdims=1)

    middle = mean(x)
    apart = apply("Sub", x, middle)
    within = apply("Mul", mean(apply("Mul", apart, apart)), number(share))
    between = apply("Mul", apply("Mul", middle, middle), number(share * (1 - share)))
    spread = apply("Sqrt", apply("Add", apply("Add", within, between), number(eps)))
    return apply("Div", apply("Sub", x, apply("Mul", middle, number(share))), spread)


def _written_out(node: Node, trace: Trace, x: Layout, axes: Sequence[int], share: float) -> Expression:
    """Return the node's norm, scaled and shifted, where only `share` of the positions is there.

    It is computed in the element type in which the norm itself does: not in half precision, and as its `stash_type`
    says.
    """
    name = node.inputs[0]
    dtype = trace.graph.dtypes[name]
    stash = (
        int(node.attrs.get("stash_type", 1)) if node.op == "GroupNormalization" and node.since >= 21 else 0
    )
    inner = stash or (TensorProto.FLOAT if dtype in HALVES else dtype)

    def number(value: float) -> Expression:
        return Array(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(inner)))

    def cast(of: Expression, to: int) -> Expression:
        return of if inner == dtype else apply("Cast", of, to=to)

    eps = float(node.attrs.get("epsilon", np.float32(1e-5)))
    normal = cast(corrected_norm(cast(Tensor(name), inner), axes, share, eps, number), dtype)
    behind = list(range(1, x.rank - 1))
    for op, vector in zip(("Mul", "Add"), node.inputs[1:3], strict=False):
        factor: Expression = Tensor(vector)
        if trace.shape(vector) != (1,):
            factor = apply("Unsqueeze", factor, axes=behind)
        normal = apply(op, normal, factor)
    return normal


@rule("GroupNormalization")
def group_normalization(node: Node, trace: Trace) -> None:
    """A norm over each group of channels and all positions, then a scale and shift per channel (or per group).

    A group is one lane; with a single group, a channel is.
    """
    x, scale, bias = (given(layout) for layout in inputs(node, trace))
    groups = int(node.attrs["num_groups"])
    x = alone(trace, node, x, 1)
    if not x.on_axis(1):
        raise NotCovered("normalises channels that no parameter produces")
    trace.materialise(x, node)
    x = trace.release(x, range(2, x.rank), f"{describe(node)} needs every position of the axis")
    size = x.length(1) or 0
    if 1 < groups < size:
        x = split(x, x.axes[1][0], groups, size // groups)
        block = next(b for b in x.blocks if len(b.keys) == 2)
        trace.collapse(block, block.keys[:1])
        x = fuse(x)
    elif groups == 1 and size > 1 and trace.through_norms:
        _norm_over_lanes(node, trace, x, range(1, x.rank))
    elif groups == 1 and size > 1:
        x = trace.release(x, [1], SWITCHED_OFF)
    for vector in (scale, bias):
        trace.use(vector, Role.PRODUCER, weight=True)
    if trace.shape(node.inputs[1])[0] == size:
        aligned = align(trace, node, [x, _channel_vector(scale, x.rank), _channel_vector(bias, x.rank)])
        result = affine(trace, aligned, 1, 2)
    else:
        result = _scaled_by_group(node, trace, x, scale, bias, groups)
    trace.put(node.outputs[0], result)
    labels = x.on_axis(1)[0].labels if x.on_axis(1) else None

    def repair(cut: Cut) -> None:
        if labels is not None and not cut.kept(labels).all():
            rows = cut.kept(labels).reshape(groups, -1).any(1)
            cut.set_attribute(node.name, "num_groups", int(rows.sum()))

    trace.repair(node, repair)


def _scaled_by_group(node: Node, trace: Trace, x: Layout, scale: Layout, bias: Layout, groups: int) -> Layout:
    """The form before opset 21: scale and bias [groups]."""
    labels = [v.on_axis(0)[0].labels for v in (scale, bias) if v.on_axis(0)]
    if not x.on_axis(1) or len(labels) < 2:
        raise NotCovered("scales groups by something that is no parameter")
    block = x.on_axis(1)[0]
    rows = block.labels.reshape(groups, -1)
    for vector in labels:
        trace.tie(rows, vector[:, None])
    return with_blocks(x, [changed(block, state=np.zeros_like(block.state), source=())])


def norm_over_last(
    node: Node, trace: Trace, x: Layout, axes: int, scale: int, bias: int | None, *, centred: bool
) -> Layout:
    """Return the layout of a norm of `x` over its last `axes` axes, scaled and shifted by inputs of the node.

    centred: LayerNorm (subtracts the mean), else RMSNorm. Registers the repair if lanes of the normalised axis
    can be removed: it is the only one, and removed lanes are zero.
    """
    normalised = range(x.rank - axes, x.rank)
    inside = {k for a in normalised for k in x.axes[a]}
    joint = [b for b in x.blocks if set(b.keys) & inside and not set(b.keys) <= inside]
    if joint or axes > 1 or not trace.through_norms or x.length(x.rank - 1) is None:
        whole = f"{describe(node)} needs every position of the axis"
        x = trace.release(x, normalised, whole if trace.through_norms else SWITCHED_OFF)
    scaling = [i for i in (scale, bias) if i is not None]
    vectors = [given(inputs(node, trace)[i]) for i in scaling]
    for vector in vectors:
        trace.use(vector, Role.PRODUCER, weight=True)
    for block in x.blocks:
        if set(block.keys) <= inside:
            trace.demand_zero(block, node, "the mean")
    aligned = align(trace, node, [x, *vectors])
    axis = x.rank - 1
    layout = x
    if centred:
        trace.pads(node, scaling)

    def repair(cut: Cut) -> None:
        before, after = layout.length(axis), cut.size(layout, axis)
        if before is None or after is None or before == after:
            return
        if centred:
            _pad_norm(cut, node, axis, before, after, scaling)
        else:
            _rescale_norm(cut, node, before, after, scale)

    trace.repair(node, repair)
    return affine(trace, aligned, 1, None if bias is None else 2)


def _pad_norm(cut: Cut, node: Node, axis: int, before: int, after: int, vectors: Sequence[int]) -> None:
    """Keep the fused norm over `before` positions: zeros behind its inputs, a slice behind its output."""
    cut.pad_input(node.name, 0, axis, before - after)
    for index in vectors:
        cut.pad_input(node.name, index, -1, before - after)
    cut.insert_after(node.name, 0, "Slice", starts=[0], ends=[after], axes=[axis])


def _rescale_norm(cut: Cut, node: Node, before: int, after: int, scale: int) -> None:
    """x / sqrt(sum(x^2) / n + eps) = sqrt(n / k) x / sqrt(sum(x^2) / k + eps n / k)"""
    ratio = before / after
    default = 1e-5 if node.op == "RMSNormalization" else 1e-12
    eps = float(cut.attribute(node.name, "epsilon", default))
    cut.set_attribute(node.name, "epsilon", eps * ratio)
    cut.scale_input(node.name, scale, float(np.sqrt(ratio)))


def give_statistics(node: Node, trace: Trace, x: Layout, axes: int, names: Sequence[str]) -> Layout:
    """Return `x` with its last `axes` axes whole if the node has statistics over them as outputs, which are put."""
    if not any(names):
        return x
    over = range(x.rank - axes, x.rank)
    x = trace.release(x, over, f"{describe(node)} also gives the statistics out")
    put_statistics(trace, names, x, over)
    return x


@rule("LayerNormalization", orderless=True)
def layer_normalization(node: Node, trace: Trace) -> None:
    """y = scale (x - mean) / sqrt(variance + eps) + bias over the axes from `axis` on."""
    x = given(inputs(node, trace)[0])
    axes = x.rank - int(node.attrs.get("axis", -1)) % x.rank
    bias = 2 if node.input(2) else None
    x = give_statistics(node, trace, x, axes, node.outputs[1:])
    trace.put(node.outputs[0], norm_over_last(node, trace, x, axes, 1, bias, centred=True))


@rule("RMSNormalization", "SimplifiedLayerNormalization", orderless=True)
def rms_normalization(node: Node, trace: Trace) -> None:
    """y = scale x / sqrt(mean(x^2) + eps) over the axes from `axis` on."""
    x = given(inputs(node, trace)[0])
    axes = x.rank - int(node.attrs.get("axis", -1)) % x.rank
    x = give_statistics(node, trace, x, axes, node.outputs[1:])
    trace.put(node.outputs[0], norm_over_last(node, trace, x, axes, 1, None, centred=False))


@rule("LpNormalization", orderless=True)
def lp_normalization(node: Node, trace: Trace) -> None:
    """y = x / norm(x) along one axis: removed zeros do not change the norm."""
    x = given(inputs(node, trace)[0])
    axis = int(node.attrs.get("axis", -1)) % x.rank
    if any(len(b.keys) > 1 for b in x.on_axis(axis)):
        x = trace.release(x, [axis], f"{describe(node)} needs every position of the axis")
    for block in x.on_axis(axis):
        trace.demand_zero(block, node, "the norm")
    trace.put(
        node.outputs[0],
        combine(trace, node, [x], zero_or_unknown, [Role.CONSUMER]),
    )


@rule("MeanVarianceNormalization")
def mean_variance_normalization(node: Node, trace: Trace) -> None:
    """y = (x - mean) / deviation over some axes. On the others a constant is 0 / 0, which onnxruntime answers so."""
    x = given(inputs(node, trace)[0])
    axes = [int(a) % x.rank for a in node.attrs.get("axes") or (0, 2, 3)]
    inside = {key for axis in axes for key in x.axes[axis]}
    if not trace.through_norms or any(inside & set(b.keys) and not set(b.keys) <= inside for b in x.blocks):
        x = trace.release(x, axes, f"{describe(node)} needs every position of the axis")
    _norm_over_lanes(replace(node, attrs={"epsilon": 0.0}), trace, x, axes)
    states = [np.full_like(b.state, np.nan if set(b.keys) <= inside else np.inf) for b in x.blocks]
    blocks = [changed(b, state=s, source=()) for b, s in zip(x.blocks, states, strict=True)]
    trace.put(node.outputs[0], with_blocks(changed(x, constant=False), blocks))


@rule("Softmax", "LogSoftmax", "Hardmax", until=12, orderless=True)
def flat_softmax(node: Node, trace: Trace) -> None:
    """y = exp(x) / sum(exp(x)) along all axes from one on."""
    x = given(inputs(node, trace)[0])
    _softmax(node, trace, x, range(int(node.attrs.get("axis", 1)) % max(x.rank, 1), x.rank))


@rule("Softmax", "LogSoftmax", "Hardmax", since=13, orderless=True)
def softmax(node: Node, trace: Trace) -> None:
    """y = exp(x) / sum(exp(x)) along one axis (before opset 13: along all axes from it on)."""
    x = given(inputs(node, trace)[0])
    _softmax(node, trace, x, [int(node.attrs.get("axis", -1)) % max(x.rank, 1)])


def _softmax(node: Node, trace: Trace, x: Layout, axes: Iterable[int]) -> None:
    x = trace.release(x, axes, f"{describe(node)} needs every position of the axis")
    # A mask's -inf is no poison here: it makes a zero.
    x = changed(x, blocks=tuple(changed(b, state=np.full_like(b.state, np.nan)) for b in x.blocks))
    trace.put(node.outputs[0], combine(trace, node, [x], lambda s: s, [Role.CONSUMER]))


@rule("LRN", orderless=True)
def lrn(node: Node, trace: Trace) -> None:
    """y = x / (bias + alpha / size * sum of squares of neighbouring channels) ** beta"""
    x = given(inputs(node, trace)[0])
    x = trace.release(x, [1], f"{describe(node)} mixes neighbouring channels")
    trace.put(node.outputs[0], combine(trace, node, [x], zero_or_unknown, [Role.CONSUMER]))

"""Operators that sum products: Conv, ConvTranspose, Gemm, MatMul."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from onnx import helper

from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import contract
from onnx_oto.lanes.layout import FloatArray, Layout, Size, explicit, thin_values, with_axes, without_axes
from onnx_oto.lanes.repairs.cut import Cut
from onnx_oto.lanes.states import remembered
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.grouped import grouped
from onnx_oto.ops.rules import given, inputs, rule

_SUM = remembered(np.add)


def spatial_free(trace: Trace, node: Node, layout: Layout, passing: Iterable[int] = ()) -> Layout:
    """Return `layout` with the axes after the channels free but those `passing`: a window mixes positions."""
    axes = [a for a in range(2, layout.rank) if a not in passing and layout.on_axis(a)]
    return trace.release(layout, axes, f"{describe(node)} slides a window over the axis") if axes else layout


def untouched_axes(node: Node, kernel: Sequence[Size]) -> tuple[int, ...]:
    """Return the axes along which a window of sizes `kernel` takes every position as it is: size 1, step 1, no pad."""
    rank = len(kernel)
    ones, zeros = [1] * rank, [0] * (2 * rank)
    strides, pads = list(node.attrs.get("strides") or ones), list(node.attrs.get("pads") or zeros)
    extra = list(node.attrs.get("output_padding") or zeros)
    if node.attrs.get("output_shape"):
        return ()
    return tuple(
        i + 2
        for i in range(rank)
        if kernel[i] == strides[i] == 1 and not (pads[i] or pads[i + rank] or extra[i])
    )


def add_bias(trace: Trace, node: Node, result: Layout, bias: Layout | None, axis: int = 1) -> Layout:
    """Return the layout of `result` + `bias` [C], the bias along `axis`."""
    if bias is None:
        return result
    wide = with_axes(bias, bias.axes + ((),) * (result.rank - axis - 1))
    trace.use(bias, Role.PRODUCER, weight=True)
    return combine(trace, node, [result, wide], _SUM, [Role.PRODUCER, Role.PRODUCER])


def with_windows(trace: Trace, name: str, channels: Layout, passing: Iterable[int] = ()) -> Layout:
    """Return the layout [N, C, passing axes] as that of tensor `name`, whose other axes are free."""
    shaped = trace.shaped(name)
    assert shaped is not None
    axes = list(shaped.axes)
    for place, axis in enumerate((0, 1, *passing)):
        axes[axis] = channels.axes[place]
    sizes = {**shaped.sizes, **channels.sizes}
    return Layout(tuple(axes), sizes, channels.blocks, None, channels.uniform, channels.constant)


@rule("Conv", counts=True, orderless=True)
def conv(node: Node, trace: Trace) -> None:
    """y[n, o, p] = sum_{c, k} w[o, c, k] x[n, c, p + k] + b[o], in groups of channels."""
    _convolve(node, trace, "oc", node.outputs[0])


@rule("ConvTranspose", counts=True, orderless=True)
def conv_transpose(node: Node, trace: Trace) -> None:
    """y[n, o, p] = sum_{c, k} w[c, o, k] x[n, c, (p - k) / stride] + b[o], in groups of channels."""
    _convolve(node, trace, "co", node.inputs[0])


def _convolve(node: Node, trace: Trace, order: str, over: str) -> None:
    """order: of the channels on the weight's first two axes. over: the tensor whose positions count the products."""
    x, w, *rest = inputs(node, trace)
    x, w, bias = given(x), given(w), rest[0] if rest else None
    kernel = trace.shape(node.inputs[1])[2:]
    passing = untouched_axes(node, kernel)
    x = without_axes(spatial_free(trace, node, x, passing), set(range(2, x.rank)) - set(passing))
    w = without_axes(spatial_free(trace, node, w), range(2, w.rank))
    places = [n for i, n in enumerate(trace.shape(over)) if i > 1 and i not in passing]
    macs = [*kernel, *places]
    groups = int(node.attrs.get("group", 1))
    if groups == 1:
        # A constant in a removed channel goes into the bias, unless zeros padded at the border break it.
        fold = _folds(node, trace, x, 1, bias=2) and not _padded(node) and order == "oc"
        along = "pqrs"[: len(passing)]
        operands = [(x, "nc" + along), (w, order)]
        result = contract(trace, node, operands, "no" + along, macs=macs, constants=fold)
        if fold:
            _fold_constants(node, trace, x, 1, produced=0, bias=2)
    else:
        result = grouped(node, trace, x, w, groups, order, macs)
    result = with_windows(trace, node.outputs[0], result, passing)
    trace.put(node.outputs[0], add_bias(trace, node, result, bias))


def _padded(node: Node) -> bool:
    return any(node.attrs.get("pads", ())) or node.attrs.get("auto_pad", "NOTSET") in (
        "SAME_UPPER",
        "SAME_LOWER",
    )


def _folds(node: Node, trace: Trace, x: Layout, axis: int, *, bias: int | None = None) -> bool:
    """Return whether what the node makes of constants on `axis` of x can be computed and added.

    Its weight must be an initializer (or a cast of one), its input `bias` (if any) an initializer, and every position
    of `axis` one lane.
    """
    if bias is not None and node.input(bias) and node.input(bias) not in trace.graph.initializers:
        return False
    return _stored(trace, node.inputs[1]) in trace.parameters and explicit(x, axis) is not None


def _stored(trace: Trace, name: str) -> str:
    """Return the tensor that a weight is a cast of (it is stored in fewer bits), or its own name."""
    node = trace.graph.producer.get(name)
    return node.inputs[0] if node is not None and node.op == "Cast" else name


def _fold_constants(
    node: Node, trace: Trace, x: Layout, axis: int, *, produced: int, bias: int | None, scale: float = 1.0
) -> None:
    """Register the repair that adds what removed channels of constant value contributed.

    axis: of x that is summed over. produced: the weight's output axis (the other one is summed over).
    bias: the input to add to, None to add behind the node. scale: factor of the product.
    """
    along = x.on_axis(axis)
    if not along or thin_values([block.state for block in along]) == [0.0] * len(along):
        return
    listed = explicit(x, axis)
    assert listed is not None
    values = np.where(np.isfinite(listed[1]), listed[1], 0.0)
    if not values.any():
        return
    name = _stored(trace, node.inputs[1])
    dtype = helper.tensor_dtype_to_np_dtype(trace.graph.dtypes[node.inputs[1]])
    labels, outputs = trace.parameters[name].get(1 - produced), trace.parameters[name].get(produced)
    if labels is None:
        return

    def repair(cut: Cut) -> None:
        gone = ~cut.kept(labels)
        weight = trace.graph.constant(name)
        zeroed_itself = trace.roles.get((name, 1 - produced)) is Role.PRODUCER  # tied weights
        if weight is None or zeroed_itself or not values[gone].any():
            return
        sums = weight.astype(dtype).astype(np.float64).sum(tuple(range(2, weight.ndim)))
        added = scale * (sums[:, gone] @ values[gone] if produced == 0 else values[gone] @ sums[gone])
        if outputs is not None:
            added = added[cut.kept(outputs)]
        if bias is None:
            cut.insert_after(node.name, 0, "Add", [added.astype(dtype)])
        else:
            cut.add_to_input(node.name, bias, added.astype(dtype))

    trace.repair(node, repair)


@rule("Gemm", counts=True, orderless=True)
def gemm(node: Node, trace: Trace) -> None:
    """Y = alpha A' B' + beta C"""
    trace.put(node.outputs[0], scaled_product(node, trace, behind=True))


def scaled_product(node: Node, trace: Trace, *, behind: bool) -> Layout:
    """Return the layout of alpha A' B' + beta C, the node's attributes; with beta 0 C is not read.

    behind: what is to be added for removed constants may be added behind the node, else to C only.
    """
    a, b, *rest = inputs(node, trace)
    a, b, c = given(a), given(b), rest[0] if rest else None
    left = "km" if node.attrs.get("transA", 0) else "mk"
    right = "nk" if node.attrs.get("transB", 0) else "kn"
    alpha, beta = (float(node.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
    axis, bias = left.index("k"), None if behind else 2
    fold = (behind or beta != 0) and _folds(node, trace, a, axis, bias=bias)
    result = contract(trace, node, [(a, left), (b, right)], "mn", constants=fold)
    if fold:
        scale = alpha if behind else alpha / beta
        _fold_constants(node, trace, a, axis, produced=right.index("n"), bias=bias, scale=scale)
    if c is None:
        return result
    trace.use(c, Role.PRODUCER, weight=True)

    def state(own: FloatArray, added: FloatArray) -> FloatArray:
        return own + beta * added if beta else own

    return combine(trace, node, [result, c], state, [Role.PRODUCER, Role.PRODUCER])


@rule("MatMul", counts=True, orderless=True)
def matmul(node: Node, trace: Trace) -> None:
    """Y[..., m, n] = sum_k A[..., m, k] B[..., k, n], batch axes broadcast."""
    trace.put(node.outputs[0], matrix_product(node, trace))


def matrix_product(node: Node, trace: Trace) -> Layout:
    """Return the layout of alpha A' B', where A' and B' may have their last two axes swapped."""
    a, b = (given(layout) for layout in inputs(node, trace))
    batch = max(a.rank, b.rank) - 2
    letters = "abcdefghij"[: max(batch, 0)]
    last = ("km" if node.attrs.get("transA", 0) else "mk", "nk" if node.attrs.get("transB", 0) else "kn")
    left, right = (
        letters[batch - (x.rank - 2) :] + pair if x.rank > 1 else "k"
        for x, pair in zip((a, b), last, strict=True)
    )
    out = letters + ("m" if a.rank > 1 else "") + ("n" if b.rank > 1 else "")
    axis = left.index("k")
    fold = _folds(node, trace, a, axis) and b.rank == 2 and a.rank > 1
    result = contract(trace, node, [(a, left), (b, right)], out, constants=fold)
    if fold:
        alpha = float(node.attrs.get("alpha", 1.0))
        _fold_constants(node, trace, a, axis, produced=right.index("n"), bias=None, scale=alpha)
    return result

"""Reductions over axes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import zero_or_unknown
from onnx_oto.lanes.layout import Block, FloatArray, Layout, without_axes
from onnx_oto.lanes.repairs.cut import Cut, kept_of
from onnx_oto.lanes.repairs.expression import tensors
from onnx_oto.lanes.trace import Repair, Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import FLOATS
from onnx_oto.ops.rules import NotCovered, given, inputs, listed_axes, rule

EXTREMES = {"ReduceMax": "Max", "ReduceMin": "Min"}
"""Reductions that a removed zero takes part in: the compact graph compares the result with zero."""
SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
"""Reductions to which a zero position adds nothing."""

STATE: dict[str, Callable[[FloatArray], FloatArray]] = {
    "ReduceMean": lambda s: s,
    "ReduceMax": lambda s: s,
    "ReduceMin": lambda s: s,
}
"""What a reduction over free axes makes of a constant; the others keep zero only."""


def reduced_axes(node: Node, trace: Trace, rank: int) -> list[int]:
    """Return the axes a reduction runs over, from its attribute or its second input."""
    axes = listed_axes(node, trace, "reduces over")
    if not axes:
        return [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(rank))
    return sorted(int(a) % rank for a in axes)


@rule(
    *SUMS,
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceLogSum",
    "ReduceLogSumExp",
    orderless=True,
)
def reduction(node: Node, trace: Trace) -> None:
    """y = op of x over some axes. Removed lanes are zero: sums, means and extremes over them are repaired."""
    x = given(inputs(node, trace)[0])
    axes = reduced_axes(node, trace, x.rank)
    trace.materialise(x, node)
    if node.op in ("ReduceMean", "ReduceSum"):
        trace.repair(node, _repair_mean(node, trace, x, axes))
    if node.op in EXTREMES:
        trace.repair(node, _repair_extreme(node, trace, x, axes))
    x = _reduce_labels(node, trace, x, axes)
    state = STATE.get(node.op, lambda s: zero_or_unknown(s) if node.op in SUMS else s * np.nan)
    x = combine(trace, node, [x], state, [Role.CONSUMER])
    trace.put(node.outputs[0], without_axes(x, axes, keep_dims=bool(node.attrs.get("keepdims", 1))))


def _repair_mean(node: Node, trace: Trace, x: Layout, axes: list[int]) -> Repair:
    """Return the repair of a mean or sum over n lanes of which k stay.

    A mean is multiplied by k / n. Where the removed positions hold the shadow s instead of zero, the mean also gets
    s (n - k) / n, the sum s (n - k).
    """
    dtype = onnx.helper.tensor_dtype_to_np_dtype(trace.graph.dtypes[node.outputs[0]])
    shadow = trace.shadows.get(node.inputs[0])
    keepdims = int(node.attrs.get("keepdims", 1))

    def repair(cut: Cut) -> None:
        kept, total = kept_of(cut, x, axes)
        if kept == total:
            return
        mean = node.op == "ReduceMean"
        if shadow is not None:
            removed = total - kept
            weight = removed / total if mean else removed
            cut.add_shadow(node.name, shadow, weight, axes=axes, keepdims=keepdims)
        if mean:  # set in between the node and the sum
            cut.insert_after(node.name, 0, "Mul", [np.array(kept / total, dtype)])

    return repair


def _repair_extreme(node: Node, trace: Trace, x: Layout, axes: list[int]) -> Repair:
    """Return the repair of a maximum or minimum: removed lanes are zero, so it is the kept ones' or zero."""
    zero = np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(trace.graph.dtypes[node.outputs[0]]))

    def repair(cut: Cut) -> None:
        kept, total = kept_of(cut, x, axes)
        if kept < total:
            cut.insert_after(node.name, 0, EXTREMES[node.op], [zero])

    return repair


def _reduce_labels(node: Node, trace: Trace, x: Layout, axes: list[int]) -> Layout:
    """Return `x` with nothing labelled on the reduced axes. What a parameter holds there need not be zero."""
    inside = {k for a in axes for k in x.axes[a]}
    blocks: list[Block] = []
    for block in x.blocks:
        outside = tuple(k for k in block.keys if k not in inside)
        if len(outside) == len(block.keys):
            blocks.append(block)
        elif outside:
            blocks.append(trace.collapse(block, outside))
        elif _has_shadow(node, trace, x, block):
            continue
        elif node.op in SUMS and not x.constant:
            trace.demand_zero(block, node, "the sum")
        elif node.op == "ReduceMean" and trace.through_norms and not x.constant:
            trace.demand_zero(block, node, "the mean")
        elif _comparable(node, trace) and not x.constant:
            trace.demand_zero(block, node, "the comparison")
        else:
            trace.freeze([block], f"{describe(node)} needs every position of the axis")
    return replace(x, blocks=tuple(blocks), view=None)


def _comparable(node: Node, trace: Trace) -> bool:
    """Return whether the result can be compared with zero: Max and Min broadcast since opset 8, floats at first."""
    return node.op in EXTREMES and node.since >= 8 and trace.graph.dtypes[node.outputs[0]] in FLOATS


def _has_shadow(node: Node, trace: Trace, x: Layout, block: Block) -> bool:
    """Return whether the removed positions hold one tensor, with all axes, that the repair adds up."""
    known = node.op in ("ReduceMean", "ReduceSum") and trace.through_norms and len(x.blocks) == 1
    shadow = trace.shadows.get(node.inputs[0])
    return (
        known
        and shadow is not None
        and bool(np.isnan(block.state).all())
        and max((len(trace.shape(name)) for name in tensors(shadow)), default=0) == x.rank
    )


@rule("ArgMax", "ArgMin", "TopK", "CumSum", orderless=True)
def along_axis(node: Node, trace: Trace) -> None:
    """Operators that need every position of one axis and leave the others alone."""
    x = given(inputs(node, trace)[0])
    axis = node.attrs.get("axis", -1 if node.op == "TopK" else 0)
    if node.op == "CumSum":
        value = trace.graph.constant(node.inputs[1])
        if value is None:
            raise NotCovered("sums along an axis that is computed")
        axis = value.reshape(-1)[0]
    axis = int(axis) % max(x.rank, 1)
    x = trace.release(x, [axis], f"{describe(node)} needs every position of the axis")

    def state(s: FloatArray) -> FloatArray:
        return zero_or_unknown(s) if node.op == "CumSum" else np.full_like(s, np.nan)

    unknown = combine(trace, node, [x], state, [Role.CONSUMER])
    for name in node.outputs:
        if not name:
            continue
        shaped = trace.shaped(name)
        assert shaped is not None
        if shaped.rank < unknown.rank:
            trace.put(name, without_axes(unknown, [axis]))
            continue
        sizes = dict(unknown.sizes) | dict(shaped.sizes)
        layout_axes = (*unknown.axes[:axis], shaped.axes[axis], *unknown.axes[axis + 1 :])
        trace.put(name, replace(unknown, axes=layout_axes, sizes=sizes))

"""Reading a map at computed places: every channel on its own, the positions all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import zero_or_unknown
from onnx_oto.lanes.layout import Layout
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.rules import given, inputs, rule


def read_whole(node: Node, trace: Trace, layouts: Sequence[Layout | None], what: str = "places") -> None:
    """Freeze every labelled axis of places, lengths and the like: the operator tells their positions apart."""
    for layout in layouts:
        if layout is not None:
            trace.release(layout, range(layout.rank), f"{describe(node)} reads {what} from it")


def _put_sampled(node: Node, trace: Trace, x: Layout, released: Sequence[int]) -> None:
    """Put the output: the channels of `x` (axis 1), all other axes as inferred; zero stays zero."""
    x = trace.release(x, released, f"{describe(node)} may read any position of the axis")
    kept = combine(trace, node, [x], zero_or_unknown, [Role.CONSUMER])
    shaped = trace.shaped(node.outputs[0])
    if shaped is not None:
        axes = tuple(a if i in released else kept.axes[i] for i, a in enumerate(shaped.axes))
        shaped = replace(shaped, axes=axes, sizes=dict(kept.sizes) | dict(shaped.sizes), blocks=kept.blocks)
    trace.put(node.outputs[0], shaped)


@rule("RoiAlign")
def roi_align(node: Node, trace: Trace) -> None:
    """Each region of interest of a map [N, C, H, W], resampled: [regions, C, height, width]."""
    x, *rest = inputs(node, trace)
    read_whole(node, trace, rest)
    _put_sampled(node, trace, given(x), (0, 2, 3))


@rule("GridSample", "com.microsoft::GridSample")
def grid_sample(node: Node, trace: Trace) -> None:
    """A map [N, C, ...] read at the places of a grid [N, ..., 2 or 3]."""
    x, grid = (given(layout) for layout in inputs(node, trace))
    read_whole(node, trace, [grid])
    _put_sampled(node, trace, x, range(2, x.rank))


@rule("ReverseSequence")
def reverse_sequence(node: Node, trace: Trace) -> None:
    """The first l[b] steps of every sequence b in reverse: other axes pass."""
    x, lengths = (given(layout) for layout in inputs(node, trace))
    read_whole(node, trace, [lengths])
    axes = [int(node.attrs.get("batch_axis", 1)), int(node.attrs.get("time_axis", 0))]
    x = trace.release(x, axes, f"{describe(node)} moves positions along the axis")
    trace.put(node.outputs[0], combine(trace, node, [x], lambda s: s, [Role.CONSUMER]))

"""Pooling: a window over the spatial axes, every channel on its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import zero_or_unknown
from onnx_oto.lanes.layout import FloatArray, Layout, without_axes
from onnx_oto.lanes.repairs.cut import Cut
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.linear import spatial_free, untouched_axes, with_windows
from onnx_oto.ops.rules import NotCovered, given, inputs, rule


def pooled(node: Node, trace: Trace, *, exact: bool) -> None:
    """Put the outputs' layouts; a constant stays what it is if `exact`, else only zero does."""
    x = given(inputs(node, trace)[0])
    indices = node.outputs[1] if len(node.outputs) > 1 else ""
    passing = () if indices else untouched_axes(node, node.attrs.get("kernel_shape") or ())
    x = spatial_free(trace, node, x, passing)

    def state(s: FloatArray) -> FloatArray:
        return s if exact else zero_or_unknown(s)

    channels = combine(trace, node, [x], state, [Role.CONSUMER])
    channels = without_axes(channels, set(range(2, x.rank)) - set(passing))
    trace.put(node.outputs[0], with_windows(trace, node.outputs[0], channels, passing))
    if indices:
        _put_indices(node, trace, indices, channels)


def _put_indices(node: Node, trace: Trace, name: str, channels: Layout) -> None:
    """Put the places of the maxima: they count through all channels, so only MaxUnpool can do with fewer."""
    readers = [(other.op, position) for other, position in trace.graph.consumers.get(name, ())]
    inside = any(name in other.captured for other in trace.graph.nodes)
    if inside or any(reader != ("MaxUnpool", 1) for reader in readers):
        trace.freeze(channels.blocks, f"{describe(node)} also gives places out, counted through all channels")
    blocks = tuple(replace(b, state=np.full_like(b.state, np.nan), source=()) for b in channels.blocks)
    trace.put(name, with_windows(trace, name, replace(channels, blocks=blocks)))


@rule("MaxUnpool")
def max_unpool(node: Node, trace: Trace) -> None:
    """Zeros with the values of x at the places that a MaxPool gave, in a map of the size that it read."""
    x, indices = (given(layout) for layout in inputs(node, trace)[:2])
    pool = trace.graph.producer.get(node.inputs[1])
    if pool is None or pool.op != "MaxPool":
        raise NotCovered("takes places that no MaxPool gives")
    before, after = trace.shape(pool.inputs[0])[2:], trace.shape(node.outputs[0])[2:]
    if before != after or None in before:
        raise NotCovered("makes a map that is not certainly as large as the one that its places count")
    layouts = [spatial_free(trace, node, layout) for layout in (x, indices)]
    result = combine(trace, node, layouts, lambda s, _: zero_or_unknown(s), [Role.PRODUCER, Role.CONSUMER])
    result = with_windows(trace, node.outputs[0], without_axes(result, range(2, x.rank)))
    trace.put(node.outputs[0], result)

    def repair(cut: Cut) -> None:
        if node.input(2) and cut.touches(result):
            cut.override_input(node.name, 2, [cut.size(result, 1) if a == 1 else None for a in range(x.rank)])

    trace.repair(node, repair)


@rule("MaxPool", orderless=True)
def max_pool(node: Node, trace: Trace) -> None:
    """The largest value of each window; padding never wins. With storage order or indices: zero only."""
    pooled(node, trace, exact=True)


@rule("GlobalAveragePool", "GlobalMaxPool", orderless=True)
def global_pool(node: Node, trace: Trace) -> None:
    """Mean or maximum over all spatial positions."""
    pooled(node, trace, exact=True)


@rule("AveragePool", orderless=True)
def average_pool(node: Node, trace: Trace) -> None:
    """The mean of each window; with padding counted, a constant is no longer constant at the border."""
    automatic = node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    padded = automatic or any(node.attrs.get("pads", ())) or node.attrs.get("ceil_mode", 0)
    pooled(node, trace, exact=not (padded and node.attrs.get("count_include_pad", 0)))


@rule("LpPool", "GlobalLpPool", orderless=True)
def lp_pool(node: Node, trace: Trace) -> None:
    """The p-norm of each window: zero stays zero."""
    pooled(node, trace, exact=False)

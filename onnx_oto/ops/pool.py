"""Pooling: a window over the spatial axes, every channel on its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import combine
from onnx_oto.lanes.contract import zero_or_unknown
from onnx_oto.lanes.layout import FloatArray, Layout, without_axes
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.node import Node
from onnx_oto.ops.linear import spatial_free
from onnx_oto.ops.registry import given, inputs, rule


def pooled(node: Node, trace: Trace, *, exact: bool) -> None:
    """Put the outputs' layouts; a constant stays what it is if `exact`, else only zero does."""
    x = given(inputs(node, trace)[0])
    x = spatial_free(trace, node, x)

    def state(s: FloatArray) -> FloatArray:
        return s if exact else zero_or_unknown(s)

    channels = without_axes(combine(trace, node, [x], state, [Role.CONSUMER]), range(2, x.rank))
    for index, name in enumerate(node.outputs):
        shaped = trace.shaped(name) if name else None
        if shaped is None:
            continue
        sizes = dict(channels.sizes) | dict(shaped.sizes)
        blocks = channels.blocks
        if index:
            _keep_counted(node, trace, name, channels)
            blocks = tuple(replace(b, state=np.full_like(b.state, np.nan)) for b in blocks)
        layout = replace(channels, axes=channels.axes + shaped.axes[2:], sizes=sizes, blocks=blocks)
        trace.put(name, layout)


def _keep_counted(node: Node, trace: Trace, places: str, channels: Layout) -> None:
    """Freeze the channels if anything but their inverse reads the `places` of maxima: those count all channels."""
    readers = trace.graph.consumers.get(places, [])
    captured = any(places in other.captured for other in trace.graph.nodes)
    if captured or any(reader.op != "MaxUnpool" for reader, _ in readers):
        trace.freeze(channels.blocks, f"{describe(node)} gives places out that count all channels")


@rule("MaxPool")
def max_pool(node: Node, trace: Trace) -> None:
    """The largest value of each window; padding never wins. With storage order or indices: zero only."""
    pooled(node, trace, exact=True)


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(node: Node, trace: Trace) -> None:
    """Mean or maximum over all spatial positions."""
    pooled(node, trace, exact=True)


@rule("AveragePool")
def average_pool(node: Node, trace: Trace) -> None:
    """The mean of each window; with padding counted, a constant is no longer constant at the border."""
    automatic = node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    padded = automatic or any(node.attrs.get("pads", ())) or node.attrs.get("ceil_mode", 0)
    pooled(node, trace, exact=not (padded and node.attrs.get("count_include_pad", 0)))


@rule("LpPool", "GlobalLpPool")
def lp_pool(node: Node, trace: Trace) -> None:
    """The p-norm of each window: zero stays zero."""
    pooled(node, trace, exact=False)

"""Gradients of pools."""

from __future__ import annotations

import math

import numpy as np

from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.convolution import Windows, padded_by_name, spread_windows, windows_of
from onnx_oto.gradients.backends.plain.open_windows import spread_to, steps_of
from onnx_oto.gradients.backends.plain.table import Parts, gradient
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node


def _max_otherwise(node: Node, facts: Facts) -> str | None:
    if node.attrs.get("storage_order", 0):
        return "the gradient takes its indices for row-major ones"
    kernel = node.attrs["kernel_shape"]
    if any(pad >= k for pad, k in zip(node.attrs.get("pads", ()), kernel * 2, strict=False)):
        return "the runtime refuses pads as large as the kernel"
    return _empty_window(node, facts) or padded_by_name(node, facts)


def _empty_window(node: Node, facts: Facts) -> str | None:
    """Say so where the last window of an axis starts behind its end."""
    if not node.attrs.get("ceil_mode", 0):
        return None
    size, out = (facts.shapes.get(name, ())[2:] for name in (node.input(0), node.outputs[0]))
    if not size or not out:
        return "ceil_mode may add a window that lies in the pads altogether"
    steps, pads = (
        node.attrs.get(key, [default] * len(size)) for key, default in (("strides", 1), ("pads", 0))
    )
    empty = any((o - 1) * s >= n + p for n, o, s, p in zip(size, out, steps, pads, strict=False))
    return "ceil_mode adds a window that lies in the pads altogether" if empty else None


@gradient("MaxPool", outputs=2, unless=_max_otherwise, any_size=True)
def max_pool(node: Back, dy: str) -> Parts:
    """y[p] = the first largest of x in window p, i[p] its place: dx[i[p]] += dy[p]."""
    x = node.inputs[0]
    index, whole = node.reshape(node.outputs[1], [-1]), node.blank(node.count(x), x)
    kernel = node.attrs["kernel_shape"]
    strides, dilations = (node.attrs.get(name, [1] * len(kernel)) for name in ("strides", "dilations"))
    apart = all((k - 1) * d < s for k, d, s in zip(kernel, dilations, strides, strict=True))
    how = {} if apart else {"reduction": "add"}
    flat = node.emit("ScatterElements", whole, index, node.reshape(dy, [-1]), axis=0, **how)
    return [node.reshape_as(flat, x)]


def _mean_otherwise(node: Node, facts: Facts) -> str | None:
    if any(step != 1 for step in node.attrs.get("dilations", ())):
        return "the gradient ignores its dilations"
    if node.attrs.get("ceil_mode", 0) and node.attrs.get("count_include_pad", 0):
        return "windows that ceil_mode lets reach beyond the pads are divided by the whole kernel"
    return _empty_window(node, facts) or padded_by_name(node, facts)


@gradient("AveragePool", unless=_mean_otherwise, any_size=True)
def average_pool(node: Back, dy: str) -> Parts:
    """y[p] = sum of x in window p / places of it: dx = the sum of dy / places over the windows that hold a place."""
    x, y = node.inputs[0], node.outputs[0]
    if not node.knows(x, y):
        return [_mean_of_any_size(node, dy)]
    windows = windows_of(node, x, y, node.attrs["kernel_shape"])
    counts = _counts(windows, bool(node.attrs.get("count_include_pad", 0)))
    share = node.mul(dy, node.number(1.0 / counts, x))
    rows, channels = node.shape(x)[:2]
    share = node.reshape(share, (rows * channels, 1, *windows.out))
    # ceil_mode lets windows reach beyond the pads: as if there were more of these.
    more = [max(-rest, 0) for rest in windows.rest]
    ends = [end + extra for end, extra in zip(windows.pads[windows.rank :], more, strict=True)]
    windows = windows._replace(pads=(*windows.pads[: windows.rank], *ends))
    ones = node.number(np.ones((1, 1, *windows.kernel)), x)
    return [node.reshape(spread_windows(node, share, ones, windows), node.shape(x))]


def _mean_of_any_size(node: Back, dy: str) -> str:
    x, y = node.inputs[0], node.outputs[0]
    steps = steps_of(node, node.attrs["kernel_shape"])
    ones = node.number(np.ones((1, 1, *steps.kernel)), x)
    if node.attrs.get("count_include_pad", 0):
        share = node.scaled(dy, 1.0 / math.prod(steps.kernel), x)
    else:
        alone = node.emit("Concat", node.ints([1, 1]), node.sizes(x, 2), axis=0)
        places = node.emit("Expand", node.number(1.0, x), alone)
        share = node.emit("Div", dy, node.emit("Conv", places, ones, strides=steps.strides, pads=steps.pads))
    one_by_one = node.emit("Concat", node.ints([-1, 1]), node.sizes(y, 2), axis=0)
    return node.reshape_as(spread_to(node, node.emit("Reshape", share, one_by_one), ones, steps, x), x)


def _counts(windows: Windows, include_pad: bool) -> np.ndarray:
    """Return how many places each window is divided by: float64 [*out]."""
    counts = np.ones(())
    for axis, (n, o) in enumerate(zip(windows.size, windows.out, strict=True)):
        begin, end = windows.pads[axis], windows.pads[windows.rank + axis]
        low, high = (-begin, n + end) if include_pad else (0, n)
        place = np.arange(o)[:, None] * windows.strides[axis] - begin + np.arange(windows.kernel[axis])
        counts = counts[..., None] * ((place >= low) & (place < high)).sum(axis=1)
    return counts

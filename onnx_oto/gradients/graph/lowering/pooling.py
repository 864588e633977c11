"""Poolings: pads written out, volumes by images, windows over the whole extent, dilated means by a Conv."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.convolution import refuse_indices, written_out
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register

_LOWEST = float(np.finfo(np.float32).min)


@register("MaxPool")
def max_pool(node: Site) -> Outcome:
    """Pads written out, and as a Pad with the lowest number where a kernel could lie in them altogether."""
    padded = written_out(node)
    if padded is not None:
        return padded
    refuse_indices(node)
    _refuse_empty_windows(node)
    kernel = node.attribute("kernel_shape")
    pads = list(node.attribute("pads", (0,) * (2 * len(kernel))))
    attributes = {k: v for k, v in node.attributes.items() if k not in ("pads", "storage_order")}
    if any(pad >= k for pad, k in zip(pads, [*kernel, *kernel], strict=True)):
        before, after = pads[: len(kernel)], pads[len(kernel) :]
        x = node.inputs[0]
        wide = node.emit("Pad", x, node.ints([0, 0, *before, 0, 0, *after]), node.number(_LOWEST, x))
        return node.emit("MaxPool", wide, **attributes)
    return (
        node.emit("MaxPool", node.inputs[0], pads=pads, **attributes)
        if node.attribute("storage_order", 0)
        else None
    )


@register("GlobalMaxPool")
def global_max_pool(node: Site) -> Outcome:
    """MaxPool over the whole extent."""
    return node.emit("MaxPool", node.inputs[0], kernel_shape=list(node.shape(node.inputs[0])[2:]))


@register("AveragePool")
def average_pool(node: Site) -> Outcome:
    """auto_pad written out, dilated ones as a Conv, counted pads with ceil_mode as others with factors, 3-D by 2-D."""
    padded = written_out(node)
    if padded is not None:
        return padded
    _refuse_empty_windows(node)
    if any(d != 1 for d in node.attribute("dilations", ())):
        return _dilated_mean(node)
    if node.attribute("ceil_mode", 0) and node.attribute("count_include_pad", 0):
        return _recounted(node)
    return _mean_of_volumes(node) if len(node.attribute("kernel_shape")) == 3 else None


def _places(node: Site) -> list[NDArray[np.int64]]:
    """Return per axis which position of the input each place of each window reads: [out, kernel]."""
    out, kernel = node.shape(node.outputs[0])[2:], node.attribute("kernel_shape")
    ones = (1,) * len(kernel)
    pads = node.attribute("pads", (0,) * len(kernel))
    steps, spread = node.attribute("strides", ones), node.attribute("dilations", ones)
    return [
        np.arange(o)[:, None] * s - begin + np.arange(k) * d
        for o, k, s, d, begin in zip(out, kernel, steps, spread, pads, strict=False)
    ]


def _refuse_empty_windows(node: Site) -> None:
    """Runtimes disagree about them: onnxruntime before 1.20 has them as its output, newer ones and PyTorch do not."""
    for place, n in zip(_places(node), node.shape(node.inputs[0])[2:], strict=True):
        if place[-1, 0] >= n:
            raise UnsupportedError(
                "its ceil_mode adds a window that lies in the padding altogether, which some runtimes leave out: "
                "set ceil_mode=0, or write the padding as Pad"
            )


def _counts(node: Site, include_pad: bool) -> NDArray[np.float64]:
    """Return how many inputs each window holds, or how many of the padded input: float64 [*out]."""
    size = node.shape(node.inputs[0])[2:]
    pads = node.attribute("pads", (0,) * (2 * len(size)))
    counts = np.ones(())
    for axis, (place, n) in enumerate(zip(_places(node), size, strict=True)):
        low, high = (-pads[axis], n + pads[len(size) + axis]) if include_pad else (0, n)
        counts = counts[..., None] * ((place >= low) & (place < high)).sum(axis=1)
    return counts


def _recounted(node: Site) -> str:
    """The mean without pads, times inputs in the window / places in the window with the pads counted."""
    attributes = {**node.attributes, "count_include_pad": 0}
    factor = _counts(node, include_pad=False) / _counts(node, include_pad=True)
    mean = node.emit("AveragePool", node.inputs[0], **attributes)
    return node.emit("Mul", mean, node.number(factor, node.inputs[0]))


def _mean_of_volumes(node: Site) -> str:
    """A 3-D mean as two 2-D ones: over [C D, H, W], then over [C, D, H W]; how windows are counted is a product."""
    x = node.inputs[0]
    n, c, depth, *image = node.shape(x)
    deep, *out = node.shape(node.outputs[0])[2:]
    kernel, steps = node.attribute("kernel_shape"), node.attribute("strides", (1, 1, 1))
    front, top, left, back, bottom, right = node.attribute("pads", (0,) * 6)
    modes = {k: v for k, v in node.attributes.items() if k in ("ceil_mode", "count_include_pad")}
    flat = {"kernel_shape": kernel[1:], "strides": steps[1:], "pads": [top, left, bottom, right]}
    x = node.emit("AveragePool", node.reshape(x, [n, c * depth, *image]), **flat, **modes)
    tall = {"kernel_shape": [kernel[0], 1], "strides": [steps[0], 1], "pads": [front, 0, back, 0]}
    x = node.emit("AveragePool", node.reshape(x, [n, c, depth, out[0] * out[1]]), **tall, **modes)
    return node.reshape(x, [n, c, deep, *out])


def _dilated_mean(node: Site) -> str:
    """Dilated AveragePool: a depthwise Conv with ones, divided by how many inputs each window holds."""
    x = node.inputs[0]
    shape, kernel = node.shape(x), tuple(node.attribute("kernel_shape"))
    begin = list(node.attribute("pads", (0,) * len(kernel)))[: len(kernel)]
    ends = [max(int(place.max()) + 1 - n, 0) for place, n in zip(_places(node), shape[2:], strict=True)]
    steps = {key: node.attribute(key, (1,) * len(kernel)) for key in ("strides", "dilations")}
    ones = node.number(np.ones((shape[1], 1, *kernel)), x)
    sums = node.emit("Conv", x, ones, group=shape[1], pads=[*begin, *ends], **steps)
    counts = _counts(node, bool(node.attribute("count_include_pad", 0)))
    return node.emit("Div", sums, node.number(counts, x))

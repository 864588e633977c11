"""Windows that are not averaged: their p-norms, the way back from a maximum, and columns put back into an image."""

from __future__ import annotations

import math

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register


@register("LpPool")
def lp_pool(node: Site) -> Outcome:
    """(sum |x|^p)^(1/p) of each window: a Conv with ones, channel by channel."""
    x = node.inputs[0]
    samples, channels, *size = node.shape(x)
    if node.attribute("ceil_mode", 0):
        raise UnsupportedError("LpPool with ceil_mode=1 cannot be trained: set ceil_mode=0 and pad its input")
    kernel = node.attribute("kernel_shape")
    given = {k: v for k, v in node.attributes.items() if k not in ("p", "ceil_mode", "kernel_shape")}
    alone = node.reshape(_powered(node, x), (samples * channels, 1, *size))
    sums = node.emit("Conv", alone, node.number(np.ones((1, 1, *kernel)), x), kernel_shape=kernel, **given)
    rooted = _rooted(node, sums)
    return node.reshape(rooted, node.shape(node.outputs[0]))


@register("GlobalLpPool")
def global_lp_pool(node: Site) -> Outcome:
    """(sum |x|^p)^(1/p) over all positions."""
    x = node.inputs[0]
    axes = list(range(2, len(node.shape(x))))
    return _rooted(node, node.reduce("ReduceSum", _powered(node, x), axes))


def _powered(node: Site, x: str) -> str:
    p = node.attribute("p", 2)
    magnitude = node.emit("Abs", x)
    return magnitude if p == 1 else node.emit("Pow", magnitude, node.number(float(p), x))


def _rooted(node: Site, total: str) -> str:
    """total^(1/p), with derivative 0 (not NaN) where it is 0: the root of 1 there, masked out."""
    x, p = node.inputs[0], node.attribute("p", 2)
    if p == 1:
        return total
    zero, one = node.number(0.0, x), node.number(1.0, x)
    positive = node.emit("Greater", total, zero)
    root = node.emit("Pow", node.emit("Where", positive, total, one), node.number(1.0 / p, x))
    return node.emit("Where", positive, root, zero)


@register("MaxUnpool")
def max_unpool(node: Site) -> Outcome:
    """x put where MaxPool found it, zeros elsewhere."""
    x, indices = node.inputs[:2]
    shape = node.shape(x)
    kernel = node.attribute("kernel_shape")
    strides = node.attribute("strides", [1] * len(kernel))
    pads = node.attribute("pads", [0] * (2 * len(kernel)))
    both = zip(pads[: len(kernel)], pads[len(kernel) :], strict=True)
    spatial = [(n - 1) * s + k - sum(p) for n, s, k, p in zip(shape[2:], strides, kernel, both, strict=True)]
    size = [*shape[:2], *spatial]
    wanted = node.constant(2, "output shape")
    if wanted is not None and wanted.tolist() != size:
        raise UnsupportedError(
            f"its output shape is {wanted.tolist()}, its windows give {size}: unpool to that, then pad"
        )
    nothing = node.number(np.zeros(math.prod(size)), x)
    flat = [node.reshape(name, [-1]) for name in (indices, x)]
    return node.reshape(node.emit("ScatterElements", nothing, *flat, axis=0), size)


@register("Col2Im")
def col2im(node: Site) -> Outcome:
    """Columns added up into an image: a ConvTranspose whose kernels are 1 at one place of the block."""
    x = node.inputs[0]
    image, block = node.constant(1, "image shape"), node.constant(2, "block shape")
    if image is None or block is None:
        raise UnsupportedError("its image and block shapes must be constants")
    rank, places = len(block), int(np.prod(block))
    strides, dilations = (node.attribute(name, [1] * rank) for name in ("strides", "dilations"))
    pads = node.attribute("pads", [0] * (2 * rank))
    room = image + np.array(pads[:rank]) + np.array(pads[rank:]) - np.array(dilations) * (block - 1) - 1
    samples, wide, _ = node.shape(x)
    channels = wide // places
    kernels = np.tile(np.eye(places).reshape(places, 1, *block), (channels, *([1] * (rank + 1))))
    return node.emit(
        "ConvTranspose",
        node.reshape(x, [samples, wide, *(room // np.array(strides) + 1).tolist()]),
        node.number(kernels, x),
        group=channels,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=(room % np.array(strides)).tolist(),
    )

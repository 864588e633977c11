"""Normalisations by means and variances; BatchNormalization lives in training_ops.py."""

from __future__ import annotations

import numpy as np

from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register
from onnx_oto.gradients.graph.lowering.reductions import root


def _standardised(node: Site, x: str, axes: list[int], epsilon: float) -> str:
    """(x - mean) / sqrt(var + epsilon) over `axes`, var the biased one."""
    centred = node.emit("Sub", x, node.reduce("ReduceMean", x, axes))
    variance = node.reduce("ReduceMean", node.emit("Mul", centred, centred), axes)
    deviation = node.emit("Sqrt", node.emit("Add", variance, node.number(epsilon, node.inputs[0])))
    return node.emit("Div", centred, deviation)


def _affine(node: Site, x: str, scale: str, shift: str, rank: int) -> str:
    column = (1, -1) + (1,) * (rank - 2)
    return node.emit("Add", node.emit("Mul", x, node.reshape(scale, column)), node.reshape(shift, column))


@register("InstanceNormalization")
def instance_normalization(node: Site) -> Outcome:
    """Per sample and channel over the spatial axes."""
    x, scale, shift = node.inputs
    rank = len(node.shape(x))
    normal = _standardised(node, x, list(range(2, rank)), node.attribute("epsilon", 1e-5))
    return _affine(node, normal, scale, shift, rank)


@register("GroupNormalization")
def group_normalization(node: Site) -> Outcome:
    """Per sample and group of channels, over space too; scale per group (opset 18) or channel (21)."""
    x, scale, shift = node.inputs
    shape = node.shape(x)
    groups = node.attribute("num_groups")
    grouped = node.reshape(x, (shape[0], groups, -1))
    normal = _standardised(node, grouped, [2], node.attribute("epsilon", 1e-5))
    if node.shape(scale) == (groups,) and groups != shape[1]:
        return node.reshape(_affine(node, normal, scale, shift, 3), shape)
    return _affine(node, node.reshape(normal, shape), scale, shift, len(shape))


@register("LayerNormalization")
def layer_normalization(node: Site) -> Outcome:
    """The same op with its bias and all three outputs, or, where it has them or they are read, by ReduceMean."""
    x, scale = node.inputs[:2]
    if not (node.has_output(1) or node.has_output(2)):
        shift = node.inputs[2] if node.has_input(2) else node.number(np.zeros(node.shape(scale)), x)
        return node.emit_many(node.op, [x, scale, shift], 3, **node.attributes)[0]
    rank = len(node.shape(x))
    axes = list(range(node.attribute("axis", -1) % rank, rank))
    mean = node.reduce("ReduceMean", x, axes)
    centred = node.emit("Sub", x, mean)
    variance = node.reduce("ReduceMean", node.emit("Mul", centred, centred), axes)
    epsilon = node.number(node.attribute("epsilon", 1e-5), x)
    inverse = node.emit("Reciprocal", node.emit("Sqrt", node.emit("Add", variance, epsilon)))
    y = node.emit("Mul", node.emit("Mul", centred, inverse), scale)
    return [node.emit("Add", y, node.inputs[2]) if node.has_input(2) else y, mean, inverse]


@register("LpNormalization")
def lp_normalization(node: Site) -> Outcome:
    """x / ||x||_p along one axis, p = 1 or 2; 0 where the norm is 0."""
    x = node.inputs[0]
    axis = node.attribute("axis", -1) % len(node.shape(x))
    if node.attribute("p", 2) == 2:
        norm = root(node, node.reduce("ReduceSum", node.emit("Mul", x, x), [axis]))
    else:
        norm = node.reduce("ReduceSum", node.emit("Abs", x), [axis])
    empty = node.emit("Equal", norm, node.number(0.0, x))
    return node.emit("Div", x, node.emit("Where", empty, node.number(1.0, x), norm))


@register("MeanVarianceNormalization")
def mean_variance_normalization(node: Site) -> Outcome:
    """(x - mean) / (deviation + 1e-9) over the axes."""
    x = node.inputs[0]
    axes = [axis % len(node.shape(x)) for axis in node.attribute("axes", [0, 2, 3])]
    centred = node.emit("Sub", x, node.reduce("ReduceMean", x, axes))
    deviation = root(node, node.reduce("ReduceMean", node.emit("Mul", centred, centred), axes))
    return node.emit("Div", centred, node.emit("Add", deviation, node.number(1e-9, x)))


@register("LRN")
def local_response_normalization(node: Site) -> Outcome:
    """x / (bias + alpha/size s)^beta, s the sum of squares over a window of channels: a banded matrix.

    The window of channel c is [c - floor((size-1)/2), c + ceil((size-1)/2)].
    """
    x = node.inputs[0]
    shape = node.shape(x)
    size = node.attribute("size")
    channel = np.arange(shape[1])
    offset = channel[None, :] - channel[:, None]
    band = (offset >= -((size - 1) // 2)) & (offset <= size // 2)
    flat = node.reshape(node.emit("Mul", x, x), (shape[0], shape[1], -1))
    sums = node.reshape(node.emit("MatMul", node.number(band, x), flat), shape)
    scaled = node.emit("Mul", sums, node.number(node.attribute("alpha", 1e-4) / size, x))
    base = node.emit("Add", scaled, node.number(node.attribute("bias", 1.0), x))
    return node.emit("Div", x, node.emit("Pow", base, node.number(node.attribute("beta", 0.75), x)))

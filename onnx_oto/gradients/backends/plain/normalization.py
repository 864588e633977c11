"""Gradients of what is normalised by its mean and variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.table import Parts, gradient
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node


def _flows_elsewhere(node: Node, facts: Facts) -> str | None:
    read = [name for name in node.outputs[1:] if name and name in facts.read]
    return f"what flows back to its output {read[0]!r} would be lost" if read else None


@gradient("LayerNormalization", outputs=3, unless=_flows_elsewhere)
def layer_normalization(node: Back, dy: str) -> Parts:
    """y = scale z + shift, z = (x - mean) / deviation over the last axes.

    With g = dy scale: dx = (g - mean g - z mean(g z)) / deviation; dscale = sum dy z, dshift = sum dy.
    """
    x, scale = node.inputs[:2]
    shape = node.shape(x)
    axes = list(range(node.attrs.get("axis", -1) % len(shape), len(shape)))
    _, mean, inverse = node.outputs
    z = node.mul(node.emit("Sub", x, mean), inverse)
    g = node.mul(dy, scale)
    moved = node.emit("ReduceMean", g, axes=axes, keepdims=1)
    turned = node.emit("ReduceMean", node.mul(g, z), axes=axes, keepdims=1)
    dx = node.mul(node.emit("Sub", node.emit("Sub", g, moved), node.mul(z, turned)), inverse)
    shifts = [node.fit(dy, shape, node.inputs[2])] if node.input(2) else []
    return [dx, node.fit(node.mul(dy, z), shape, scale), *shifts]


def _statistics_are_given(node: Node, facts: Facts) -> str | None:
    return None if node.attrs.get("training_mode", 0) else "it takes given statistics, not those of the batch"


def _normalised(node: Back) -> Sequence[str]:
    """y = scale c / deviation + shift with c = x - mean; running statistics.

    Kept: c, variance, 1 / deviation; means over all but the channels.
    In plain operators: not every runtime has the operator's training mode.
    """
    if not node.attrs.get("training_mode", 0):
        return ()
    x, scale, shift, running_mean, running_variance = node.inputs
    shape = node.shape(x)
    axes, epsilon = [0, *range(2, len(shape))], node.attrs.get("epsilon", 1e-5)
    mean = node.emit("ReduceMean", x, axes=axes, keepdims=1)
    c = node.emit("Sub", x, mean)
    variance = node.emit("ReduceMean", node.mul(c, c), axes=axes, keepdims=0)
    inverse = node.emit("Reciprocal", node.emit("Sqrt", node.emit("Add", variance, node.number(epsilon, x))))
    y = _affine(node, c, scale, shift, variance)
    momentum = node.attrs.get("momentum", 0.9)
    latest = [
        node.emit("Add", node.scaled(old, momentum, x), node.scaled(new, 1.0 - momentum, x))
        for old, new in (
            (running_mean, node.reshape(mean, shape[1:2])),
            (running_variance, variance),
        )
    ]
    return [y, *latest[: len(node.outputs) - 1], c, variance, inverse]


def _affine(node: Back, c: str, scale: str, shift: str, variance: str) -> str:
    """Return scale c / deviation + shift, by channel."""
    nothing = node.number(np.zeros(node.shape(node.inputs[1])), node.inputs[0])
    epsilon = node.attrs.get("epsilon", 1e-5)
    return node.emit("BatchNormalization", c, scale, shift, nothing, variance, epsilon=epsilon)


@gradient("BatchNormalization", unless=_statistics_are_given, form=_normalised)
def batch_normalization(node: Back, dy: str) -> Parts:
    """y = scale z + shift, z = c / deviation, over the n elements of each channel.

    dshift = sum dy, dscale = sum dy z; dx = scale / deviation (dy - dshift / n - z dscale / n).
    """
    x, scale = node.inputs[:2]
    c, variance, inverse = node.kept
    shape = node.shape(x)
    axes, n = [0, *range(2, len(shape))], node.size(x) / shape[1]
    dshift = node.sum(dy, axes)
    dscale = node.mul(node.sum(node.mul(dy, c), axes), inverse)
    nothing = node.number(np.zeros(shape[1]), x)
    moved = node.scaled(node.mul(scale, inverse, dshift), -1.0 / n, x)
    turned = node.scaled(node.mul(scale, inverse, dscale), -1.0 / n, x)
    parts = _affine(node, dy, scale, moved, variance), _affine(node, c, turned, nothing, variance)
    return [node.emit("Add", *parts), dscale, dshift]

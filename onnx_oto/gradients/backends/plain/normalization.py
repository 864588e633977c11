"""Gradients of what is normalised by its mean and variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.table import Parts, gradient
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node


def _flows_elsewhere(node: Node, facts: Facts) -> str | None:
    read = [name for name in node.outputs[1:] if name and name in facts.read]
    return f"what flows back to its output {read[0]!r} would be lost" if read else None


@gradient("LayerNormalization", outputs=3, unless=_flows_elsewhere, any_size=True)
def layer_normalization(node: Back, dy: str) -> Parts:
    """y = scale z + shift, z = (x - mean) / deviation over the last axes.

    With g = dy scale: dx = (g - mean g - z mean(g z)) / deviation; dscale = sum dy z, dshift = sum dy.
    """
    x, scale = node.inputs[:2]
    rank = node.rank(x)
    axes = list(range(node.attrs.get("axis", -1) % rank, rank))
    _, mean, inverse = node.outputs
    z = node.mul(node.emit("Sub", x, mean), inverse)
    g = node.mul(dy, scale)
    moved = node.emit("ReduceMean", g, axes=axes, keepdims=1)
    turned = node.emit("ReduceMean", node.mul(g, z), axes=axes, keepdims=1)
    dx = node.mul(node.emit("Sub", node.emit("Sub", g, moved), node.mul(z, turned)), inverse)
    shifts = [node.fit(dy, x, node.inputs[2])] if node.input(2) else []
    return [dx, node.fit(node.mul(dy, z), x, scale), *shifts]


def _statistics_are_given(node: Node, facts: Facts) -> str | None:
    if not node.attrs.get("training_mode", 0):
        return "it takes given statistics, not those of the batch"
    scale = node.input(1)
    return None if scale in facts.shapes else f"the shape of {scale!r} is not known before the run"


class Moments(NamedTuple):
    """Tensors of a norm: mean by channel; x - mean; variance by channel; 1 / deviation."""

    mean: str
    centred: str
    variance: str
    inverse: str


def batch_moments(node: Back) -> Moments:
    """Return what a BatchNormalization in training measures of its first input, over all but the channels."""
    x = node.inputs[0]
    axes, epsilon = [0, *range(2, node.rank(x))], node.attrs.get("epsilon", 1e-5)
    mean = node.emit("ReduceMean", x, axes=axes, keepdims=1)
    centred = node.emit("Sub", x, mean)
    variance = node.emit("ReduceMean", node.mul(centred, centred), axes=axes, keepdims=0)
    inverse = node.emit("Reciprocal", node.emit("Sqrt", node.emit("Add", variance, node.number(epsilon, x))))
    return Moments(node.reshape(mean, [-1]), centred, variance, inverse)


def batch_statistics(node: Back, found: Moments) -> list[str]:
    """Return y = scale c / deviation + shift with c = x - mean, and the running statistics."""
    x, scale, shift, running_mean, running_variance = node.inputs
    y = _affine(node, found.centred, scale, shift, found.variance)
    momentum = node.attrs.get("momentum", 0.9)
    latest = [
        node.emit("Add", node.scaled(old, momentum, x), node.scaled(new, 1.0 - momentum, x))
        for old, new in ((running_mean, found.mean), (running_variance, found.variance))
    ]
    return [y, *latest]


def _normalised(node: Back) -> Sequence[str]:
    """In plain operators: not every runtime has the operator's training mode. Kept: c, variance, 1 / deviation."""
    if not node.attrs.get("training_mode", 0):
        return ()
    found = batch_moments(node)
    return [*batch_statistics(node, found)[: len(node.outputs)], *found[1:]]


def _affine(node: Back, c: str, scale: str, shift: str, variance: str) -> str:
    """Return scale c / deviation + shift, by channel."""
    nothing = node.number(np.zeros(node.shape(node.inputs[1])), node.inputs[0])
    epsilon = node.attrs.get("epsilon", 1e-5)
    return node.emit("BatchNormalization", c, scale, shift, nothing, variance, epsilon=epsilon)


@gradient("BatchNormalization", unless=_statistics_are_given, form=_normalised, any_size=True)
def batch_normalization(node: Back, dy: str) -> Parts:
    """y = scale z + shift, z = c / deviation, over the n elements of each channel.

    dshift = sum dy, dscale = sum dy z; dx = scale / deviation (dy - dshift / n - z dscale / n).
    """
    x, scale = node.inputs[:2]
    c, variance, inverse = node.kept
    axes = [0, *range(2, node.rank(x))]
    dshift = node.sum(dy, axes)
    dscale = node.mul(node.sum(node.mul(dy, c), axes), inverse)
    nothing = node.number(np.zeros(node.shape(scale)), x)
    moved = _by_count(node, node.mul(scale, inverse, dshift))
    turned = _by_count(node, node.mul(scale, inverse, dscale))
    parts = _affine(node, dy, scale, moved, variance), _affine(node, c, turned, nothing, variance)
    return [node.emit("Add", *parts), dscale, dshift]


def _by_count(node: Back, x: str) -> str:
    """Return -x / n."""
    image, scale = node.inputs[:2]
    channels = node.shape(scale)[0]
    if node.knows(image):
        return node.scaled(x, -1.0 / (node.size(image) / channels), image)
    n = node.emit("Div", node.count(image), node.ints([-channels]))
    return node.emit("Div", x, node.emit("Cast", n, to=node.known.dtypes[image]))

"""Gradients of sums and means over axes."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_oto.gradients.backends.conditions import reduces_unknown_axes
from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.table import Parts, gradient


def _axes(node: Back) -> list[int]:
    rank = node.rank(node.inputs[0])
    given, constant = node.attrs.get("axes"), node.constant(1)
    if given is None and constant is not None:
        given = constant.tolist()
    return sorted({axis % rank for axis in given}) if given else list(range(rank))


def _back(node: Back, dy: str, axes: Sequence[int]) -> str:
    """Return the gradient of a result of a reduction over axes in the shape of what was reduced."""
    x = node.inputs[0]
    if not node.knows(x, node.outputs[0]):
        dy = dy if node.attrs.get("keepdims", 1) else node.emit("Unsqueeze", dy, axes=list(axes))
        return node.emit("Expand", dy, node.sizes(x))
    shape = node.shape(x)
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    dy = dy if node.shape(node.outputs[0]) == tuple(kept) else node.reshape(dy, kept)
    return dy if tuple(kept) == shape else node.emit("Expand", dy, node.ints(shape))


def _shared(node: Back, dy: str) -> str:
    """Return the gradient of means divided by the number of what each is the mean of."""
    x, y = node.inputs[0], node.outputs[0]
    if node.knows(x, y):
        return node.scaled(dy, node.size(y) / max(node.size(x), 1), x)
    kind = node.known.dtypes[x]
    made, read = (node.emit("Cast", node.count(name), to=kind) for name in (y, x))
    return node.mul(dy, node.reshape(node.emit("Div", made, read), []))


@gradient("ReduceSum", unless=reduces_unknown_axes, any_size=True)
def reduce_sum(node: Back, dy: str) -> Parts:
    """y = sum x over axes: dx = dy, for all."""
    return [_back(node, dy, _axes(node))]


@gradient("ReduceMean", unless=reduces_unknown_axes, any_size=True)
def reduce_mean(node: Back, dy: str) -> Parts:
    """y = mean x over axes: dx = dy / n, for all n."""
    return [_back(node, _shared(node, dy), _axes(node))]


@gradient("GlobalAveragePool", any_size=True)
def global_average_pool(node: Back, dy: str) -> Parts:
    """y = mean x over all places: dx = dy / n, for all n."""
    return [_back(node, _shared(node, dy), range(2, node.rank(node.inputs[0])))]


@gradient("Softmax", any_size=True)
def softmax(node: Back, dy: str) -> Parts:
    """y = e^x / sum e^x: dx = y (dy - sum dy y)."""
    y = node.outputs[0]
    part = node.mul(dy, y)
    total = node.sum(part, [node.attrs.get("axis", -1)], keepdims=True)
    return [node.emit("Sub", part, node.mul(y, total))]


@gradient("LogSoftmax", any_size=True)
def log_softmax(node: Back, dy: str) -> Parts:
    """y = x - log sum e^x: dx = dy - e^y sum dy."""
    total = node.sum(dy, [node.attrs.get("axis", -1)], keepdims=True)
    return [node.emit("Sub", dy, node.mul(node.emit("Exp", node.outputs[0]), total))]

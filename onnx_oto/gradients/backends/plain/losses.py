"""Gradients of losses that are operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.table import Parts, gradient


def _in_steps(node: Back) -> Sequence[str]:
    """-log softmax(x)[label] by entry, times its weight, 0 where its label is ignored; their sum or weighted mean.

    Kept: log softmax, labels as int64 with some class for those that are ignored, the factor of each entry ("" for 1).
    """
    x, labels = node.inputs[:2]
    shape = node.shape(labels)
    logs = node.emit("LogSoftmax", x, axis=1)
    whole = labels if node.dtype(labels) == np.int64 else node.emit("Cast", labels, to=TensorProto.INT64)
    factor = ""
    if "ignore_index" in node.attrs:
        skipped = node.emit("Equal", whole, node.value(node.attrs["ignore_index"], np.int64))
        whole = node.emit("Where", skipped, node.value(0, np.int64), whole)
        factor = node.emit("Cast", node.emit("Not", skipped), to=node.known.dtypes[x])
    if node.input(2):
        weights = node.emit("Gather", node.inputs[2], whole, axis=0)
        factor = node.mul(factor, weights) if factor else weights
    reduction = node.attrs.get("reduction", "mean")
    if reduction == "mean":
        count = node.emit("ReduceSum", factor, keepdims=0) if factor else node.number(node.size(labels), x)
        factor = node.emit("Div", factor or node.number(1.0, x), count)
    at = node.reshape(whole, (shape[0], 1, *shape[1:]))
    picked = node.reshape(node.emit("GatherElements", logs, at, axis=1), shape)
    losses = node.emit("Neg", node.mul(picked, factor) if factor else picked)
    loss = losses if reduction == "none" else node.emit("ReduceSum", losses, keepdims=0)
    return [*(loss, logs)[: len(node.outputs)], logs, whole, factor]


@gradient("SoftmaxCrossEntropyLoss", form=_in_steps)
def softmax_cross_entropy(node: Back, dy: str) -> Parts:
    """y = -sum f log softmax(x)[label]: dx = dy f (softmax x - hot), hot 1 where the label is.

    What arrives at log softmax itself, the second output, goes back as through LogSoftmax.
    """
    x, labels = node.inputs[:2]
    logs, whole, factor = node.kept
    shape, rank = node.shape(labels), len(node.shape(x))
    each = node.mul(dy, factor) if factor else dy
    each = node.reshape(node.emit("Expand", each, node.ints(shape)), (shape[0], 1, *shape[1:]))
    powers = node.emit("Exp", logs)
    hot = node.emit(
        "OneHot", whole, node.ints([node.shape(x)[1]]), node.number([0.0, 1.0], x), axis=1 if rank > 1 else -1
    )
    dx = node.mul(node.emit("Sub", powers, hot), each)
    other = node.dys[1] if len(node.dys) > 1 else None
    if other is not None:
        dx = node.emit(
            "Add", dx, node.emit("Sub", other, node.mul(powers, node.sum(other, [1], keepdims=True)))
        )
    return [dx, None, None]

"""Ops that behave differently in training: BatchNormalization and Dropout."""

from __future__ import annotations

import math

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Mask, Outcome, Site, register


@register("BatchNormalization", always=True)
def batch_normalization(node: Site) -> Outcome:
    """Batch statistics when scale or shift is trainable; otherwise y = x * a + b with fixed statistics.

    So too under `fixed_statistics`, but for a node that the model itself runs in training mode: it reads or gives out
    what is updated. In training the new running statistics are outputs, kept for the session to write back. One that
    several nodes share is updated by each in turn, in graph order.
    """
    x, scale, shift, mean, variance = node.inputs[:5]
    learns = scale in node.draft.trainable or shift in node.draft.trainable
    if node.attribute("training_mode", 0):
        return None if node.outputs[0] in node.draft.normed else _with_batch_statistics(node)
    if learns and not node.draft.fixed_statistics:
        return _with_batch_statistics(node)[0]
    column = (1, -1) + (1,) * (len(node.shape(x)) - 2)
    deviation = node.emit("Sqrt", node.emit("Add", variance, node.value(node.attribute("epsilon", 1e-5))))
    factor = node.emit("Div", scale, deviation)
    offset = node.emit("Sub", shift, node.emit("Mul", mean, factor))
    return node.emit("Add", node.emit("Mul", x, node.reshape(factor, column)), node.reshape(offset, column))


def _with_batch_statistics(node: Site) -> list[str]:
    """Return y and the new running mean and variance: running * momentum + batch * (1 - momentum).

    The variance of the batch that is kept is the unbiased one, n / (n - 1) times the one that normalises, with n
    elements per channel: so PyTorch and TensorFlow do, where ONNX's own definition takes the biased one.
    The operator's own output is scaled to that, and its input against it, rather than computed with afterwards: the
    runtime's kernel writes its output over its input, which is the session's memory.
    """
    x, scale, shift, mean, variance = node.inputs[:5]
    latest = node.draft.statistics
    running_mean, running_variance = (latest.get(name, name) for name in (mean, variance))
    shape = node.shape(x)
    count = math.prod(shape) // shape[1]
    unbiased = count / (count - 1) if count > 1 else 1.0
    y, new_mean, biased = node.emit_many(
        "BatchNormalization",
        [x, scale, shift, running_mean, node.emit("Mul", running_variance, node.value(1 / unbiased))],
        3,
        epsilon=node.attribute("epsilon", 1e-5),
        momentum=node.attribute("momentum", 0.9),
        training_mode=1,
    )
    new_variance = node.emit("Mul", biased, node.value(unbiased))
    node.draft.normed.add(y)
    latest.update(zip((mean, variance), (new_mean, new_variance), strict=True))
    return [y, new_mean, new_variance]


@register("Dropout", always=True)
def dropout(node: Site) -> Outcome:
    """y = x * m with m = 0 or 1/(1-ratio) from outside, so that a mask depends on (seed, step) alone.

    Exporters leave Dropout in inference mode; training switches it on. A training_mode input that is computed
    by the model is ignored for the same reason.
    """
    ratio = node.attribute("ratio", 0.5)
    given = node.constant(1, "ratio")
    if given is not None:
        ratio = float(given)
    if not 0.0 <= ratio < 1.0:
        raise UnsupportedError(f"its ratio is {ratio}: it must be at least 0 and below 1")
    x = node.inputs[0]
    if ratio == 0.0:
        y = node.emit("Identity", x)
        return [y, _all_true(node, x)] if node.has_output(1) else y
    mask = Mask(node.fresh("mask"), node.shape(x), float(ratio))
    node.draft.masks.append(mask)
    y = node.emit("Mul", x, mask.name)
    return [y, node.emit("Cast", mask.name, to=9)] if node.has_output(1) else y


def _all_true(node: Site, x: str) -> str:
    return node.value(np.ones(node.shape(x), np.bool_), np.bool_)

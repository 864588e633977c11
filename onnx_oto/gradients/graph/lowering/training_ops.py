"""Ops that behave differently in training: BatchNormalization and Dropout."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.registry import Mask, Outcome, Site, register


@register("BatchNormalization", always=True)
def batch_normalization(node: Site) -> Outcome:
    """Batch statistics when scale or shift is trainable; otherwise y = x * a + b with fixed statistics.

    In training mode outputs 1 and 2 are running * momentum + batch * (1 - momentum), kept for the session to
    write back. A running statistic that several nodes share is updated by each in turn, in graph order.
    """
    if node.attribute("training_mode", 0):
        return None
    x, scale, shift, mean, variance = node.inputs[:5]
    epsilon = node.attribute("epsilon", 1e-5)
    if scale in node.draft.trainable or shift in node.draft.trainable:
        latest = node.draft.statistics
        running = [latest.get(name, name) for name in (mean, variance)]
        y, *updated = node.emit_many(
            "BatchNormalization",
            [x, scale, shift, *running],
            3,
            epsilon=epsilon,
            momentum=node.attribute("momentum", 0.9),
            training_mode=1,
        )
        latest.update(zip((mean, variance), updated, strict=True))
        return y
    column = (1, -1) + (1,) * (len(node.shape(x)) - 2)
    deviation = node.emit("Sqrt", node.emit("Add", variance, node.value(epsilon)))
    factor = node.emit("Div", scale, deviation)
    offset = node.emit("Sub", shift, node.emit("Mul", mean, factor))
    return node.emit("Add", node.emit("Mul", x, node.reshape(factor, column)), node.reshape(offset, column))


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

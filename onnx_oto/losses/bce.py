"""Binary cross-entropy of one logit per yes-or-no question."""

from __future__ import annotations

import numpy as np

from onnx_oto.losses.elementwise import Elementwise
from onnx_oto.losses.loss import Floats, Loss
from onnx_oto.model.graph.writer import GraphWriter


def bce_with_logits() -> Loss:
    """Return the loss -t log s(x) - (1 - t) log(1 - s(x)) per element, s the sigmoid, t in [0, 1].

    It contains the sigmoid: where the model ends in one, the loss reads what the sigmoid reads.
    """
    return Elementwise(
        "bce-with-logits",
        "binary cross-entropy of a final sigmoid, which is the loss's own; targets 0 to 1 like the output",
        _write,
        _value,
        compares="binary",
        contains={"Sigmoid": None},
        low=0.0,
        high=1.0,
    )


def _write(graph: GraphWriter, x: str, t: str) -> str:
    """r - x t + log(1 + exp(x - 2 r)) with r = relu(x): it cannot overflow, and its slope is right at x = 0."""
    r = graph.emit("Relu", x)
    power = graph.emit("Exp", graph.emit("Sub", x, graph.emit("Add", r, r)))
    softplus = graph.emit("Log", graph.emit("Add", power, graph.value(1.0)))
    return graph.emit("Add", graph.emit("Sub", r, graph.emit("Mul", x, t)), softplus)


def _value(x: Floats, t: Floats) -> Floats:
    """softplus(x) - x t."""
    return np.logaddexp(0.0, x) - x * t

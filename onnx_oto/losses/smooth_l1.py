"""The absolute error with a rounded corner (R. Girshick, Fast R-CNN, 2015; with beta as in PyTorch)."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import UsageError
from onnx_oto.losses.elementwise import Elementwise
from onnx_oto.losses.loss import Floats, Loss
from onnx_oto.model.graph.writer import GraphWriter


def smooth_l1(beta: float = 1.0) -> Loss:
    """Return the loss e^2 / (2 beta) where |e| < beta, else |e| - beta / 2, for e = x - t per element.

    Raises UsageError unless `beta` is positive and finite.
    """
    if not 0 < beta < np.inf:
        raise UsageError(f"beta of smooth-l1 is {beta:g}: give a positive number (0 would be 'l1')")

    def write(graph: GraphWriter, x: str, t: str) -> str:
        """m (|e| - m / 2) / beta with m = min(|e|, beta): both branches, and the slopes meet at |e| = beta."""
        error = graph.emit("Abs", graph.emit("Sub", x, t))
        small = graph.emit("Min", error, graph.value(beta))
        rest = graph.emit("Sub", error, graph.emit("Mul", small, graph.value(0.5)))
        return graph.emit("Mul", graph.emit("Mul", small, rest), graph.value(1 / beta))

    def value(x: Floats, t: Floats) -> Floats:
        error = np.abs(x - t)
        return np.where(error < beta, error**2 / (2 * beta), error - beta / 2)

    text = "absolute error, squared below beta, targets like the output"
    return Elementwise("smooth-l1", text, write, value, {"beta": beta})

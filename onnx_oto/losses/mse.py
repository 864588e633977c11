"""The mean squared error."""

from __future__ import annotations

from onnx_oto.losses.elementwise import Elementwise
from onnx_oto.losses.loss import Floats, Loss
from onnx_oto.model.graph.writer import GraphWriter


def mse() -> Loss:
    """Return the loss (x - t)^2 per element."""
    return Elementwise("mse", "mean squared error, targets like the output", _write, _value)


def _write(graph: GraphWriter, x: str, t: str) -> str:
    error = graph.emit("Sub", x, t)
    return graph.emit("Mul", error, error)


def _value(x: Floats, t: Floats) -> Floats:
    return (x - t) ** 2

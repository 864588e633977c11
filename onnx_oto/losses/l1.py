"""The mean absolute error."""

from __future__ import annotations

import numpy as np

from onnx_oto.losses.elementwise import Elementwise
from onnx_oto.losses.loss import Floats, Loss
from onnx_oto.model.graph.writer import GraphWriter


def l1() -> Loss:
    """Return the loss |x - t| per element; its slope is 0 where x = t."""
    return Elementwise("l1", "mean absolute error, targets like the output", _write, _value)


def _write(graph: GraphWriter, x: str, t: str) -> str:
    return graph.emit("Abs", graph.emit("Sub", x, t))


def _value(x: Floats, t: Floats) -> Floats:
    return np.abs(x - t)

"""Losses of one's own: of operators that a backend must be helped with, and of such that nobody can help with."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients import Backend, TrainingSpec, prepare
from onnx_oto.losses.elementwise import Elementwise
from onnx_oto.losses.loss import Floats, Loss
from onnx_oto.model.graph.writer import GraphWriter

from .conftest import Build, gradient_of, model_from, normal

DENSE = "(float[N, 3] x) => (float[N, 2] y) { h = MatMul(x, w) y = Mish(h) }"


def own(op: str) -> Loss:
    """Return the mean of softplus(x - t), by the operator `op` where that is another one."""

    def write(graph: GraphWriter, x: str, t: str) -> str:
        return graph.emit(op, graph.emit("Sub", x, t))

    def value(x: Floats, t: Floats) -> Floats:
        return np.log1p(np.exp(x - t))

    return Elementwise(op.lower(), "a loss of one's own", write, value)


def test_the_loss_is_lowered_as_the_model_is(build: Build) -> None:
    """No backend differentiates Softplus, or Mish before it, as it stands."""
    x, w, t = normal(5, 3), normal(3, 2, seed=1), normal(5, 2, seed=2)
    session = build(model_from(DENSE, {"w": w}, opset=18), ("w",), own("Softplus"), batch=5, shards=2)

    def loss(w: Floats) -> float:
        h = x.astype(np.float64) @ w
        return float(np.log1p(np.exp(h * np.tanh(np.log1p(np.exp(h))) - t)).mean())

    w = w.astype(np.float64)
    assert session.step({"x": x}, t) == pytest.approx(loss(w), rel=1e-6)
    found, step = np.zeros_like(w), 1e-5
    for place in np.ndindex(*w.shape):
        moved = np.zeros_like(w)
        moved[place] = step
        found[place] = (loss(w + moved) - loss(w - moved)) / (2 * step)
    np.testing.assert_allclose(gradient_of(session, "w"), found, rtol=0, atol=1e-6)


def test_what_nobody_differentiates_is_told_in_one_line(backend: Backend) -> None:
    spec = TrainingSpec(("w",), own("Det"), batch=2, shards=1)
    with pytest.raises(UnsupportedError, match=r"the loss 'det': node .* \(Det\): a determinant") as caught:
        prepare(model_from(DENSE, {"w": normal(3, 2)}, opset=18), spec, backend).build()
    assert "\n" not in str(caught.value)

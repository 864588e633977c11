"""A loss of one's own: log-cosh, which is squared for small errors and absolute for large ones."""

import math
from pathlib import Path

import numpy as np
import onnx

import onnx_oto
from onnx_oto.losses import LOSSES
from onnx_oto.losses.elementwise import Elementwise


def log_cosh(scale=1.0):
    """Return the loss log(cosh(e / scale)), per element.

    It is said twice: `write` appends it to the training graph, `value` computes it in numpy, to judge models by.
    Both use log(cosh(e)) = |e| + log(1 + exp(-2 |e|)) - log 2, which does not overflow.
    """

    def write(graph, x, t):
        e = graph.emit("Abs", graph.emit("Div", graph.emit("Sub", x, t), graph.value(scale)))
        tail = graph.emit("Exp", graph.emit("Mul", e, graph.value(-2.0)))
        tail = graph.emit("Log", graph.emit("Add", tail, graph.value(1.0)))
        return graph.emit("Sub", graph.emit("Add", e, tail), graph.value(math.log(2)))

    def value(x, t):
        e = np.abs(x - t) / scale
        return e + np.log1p(np.exp(-2 * e)) - math.log(2)

    return Elementwise("log-cosh", "log(cosh(error / scale))", write, value, {"scale": scale})


LOSSES["log-cosh"] = log_cosh  # one entry: from here on it is a loss like any other

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
regressor (float[N,4] x) => (float[N,2] y) {
    a = Gemm(x, w1, b1)
    b = Relu(a)
    c = Gemm(b, w2, b2)
    d = Relu(c)
    y = Gemm(d, w3, b3)
}"""
WEIGHTS = {"w1": (4, 32), "b1": (32,), "w2": (32, 32), "b2": (32,), "w3": (32, 2), "b3": (2,)}

if __name__ == "__main__":
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(MODEL)
    for name, shape in WEIGHTS.items():
        values = rng.standard_normal(shape) * np.sqrt(2 / shape[0]) * (len(shape) > 1)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    onnx.save(model, "model.onnx")

    x = rng.standard_normal((1200, 4)).astype(np.float32)
    y = np.stack([x[:, 0] * x[:, 1], np.sin(x[:, 2]) + x[:, 3]], axis=1).astype(np.float32)
    y[:1000:20] += 30 * rng.standard_normal((50, 2))  # some targets to train on are wrong by far
    np.savez("data.npz", x_train=x[:1000], y_train=y[:1000], x_test=x[1000:], y_test=y[1000:])

    trained = onnx_oto.train(
        "model.onnx", "data.npz", Path("runs/own"),
        loss="log-cosh:scale=0.5", metric=("mae",),
        direction="adam", lr=0.01, epochs=20, sparsity=0.3, round_to=1, overwrite=True,
    )  # fmt: skip
    full, compact = trained.gain.scores
    print(f"{full.metric}: {full.value:.3f} full, {compact.value:.3f} compact; loss {compact.loss:.3f}")

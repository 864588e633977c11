"""Write what this sample starts from: a small network, and pictures of a square, a cross or a ring."""

import numpy as np
import onnx

NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
shapes (float[N,1,16,16] image) => (float[N,3] scores) {
    a = Conv<pads = [1,1,1,1]>(image, w1, b1)
    b = Relu(a)
    c = Conv<pads = [1,1,1,1], strides = [2,2]>(b, w2, b2)
    d = Relu(c)
    e = Flatten(d)
    f = Gemm(e, w3, b3)
    g = Relu(f)
    scores = Gemm(g, w4, b4)
}"""
WEIGHTS = {
    "w1": (32, 1, 3, 3), "b1": (32,), "w2": (32, 32, 3, 3), "b2": (32,),
    "w3": (2048, 64), "b3": (64,), "w4": (64, 3), "b4": (3,),
}  # fmt: skip


def images(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures uint8 [count, 16, 16], and which of the three shapes each shows."""
    labels = rng.integers(0, 3, count)
    y, x = np.mgrid[:16, :16][:, None] - rng.integers(6, 10, (2, count, 1, 1))
    size = rng.integers(3, 6, (count, 1, 1))
    far = np.maximum(abs(x), abs(y))
    shapes = far < size, (np.minimum(abs(x), abs(y)) < 1) & (far < size), far == size
    shown = np.choose(labels[:, None, None], shapes)
    return (150 * shown + rng.integers(0, 100, shown.shape)).astype(np.uint8), labels


rng = np.random.default_rng(0)
model = onnx.parser.parse_model(NETWORK)
for name, shape in WEIGHTS.items():
    fan = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
    values = rng.standard_normal(shape) * np.sqrt(2 / fan) * (len(shape) > 1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
onnx.save(model, "model.onnx")
(x, y), (x_test, y_test) = images(1500, rng), images(500, rng)
np.savez("data.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)

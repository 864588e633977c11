"""Write what this sample starts from: a classifier that somebody trained, and images without labels.

So that it takes a second, only the last layer is trained, by least squares on what random convolutions show.
"""

import numpy as np
import onnx
import onnxruntime

NETWORK = """<ir_version: 8, opset_import: ["" : 17]>
shapes (float[N,1,16,16] image) => (float[N,3] scores, float[N,96] features) {
    a = Conv<pads = [1,1,1,1]>(image, w1, b1)
    b = Relu(a)
    c = Conv<pads = [1,1,1,1], strides = [2,2]>(b, w2, b2)
    d = Relu(c)
    e = GlobalAveragePool(d)
    features = Flatten(e)
    scores = Gemm(features, w3, b3)
}"""
WEIGHTS = {"w1": (48, 1, 3, 3), "b1": (48,), "w2": (96, 48, 3, 3), "b2": (96,), "w3": (96, 3), "b3": (3,)}


def images(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures uint8 [count, 16, 16] of a square, a cross or a ring, and which of them it is."""
    labels = rng.integers(0, 3, count)
    y, x = np.mgrid[:16, :16][:, None] - rng.integers(6, 10, (2, count, 1, 1))
    size = rng.integers(3, 6, (count, 1, 1))
    far = np.maximum(abs(x), abs(y))
    shapes = far < size, (np.minimum(abs(x), abs(y)) < 1) & (far < size), far == size
    shown = np.choose(labels[:, None, None], shapes)
    return (150 * shown + rng.integers(0, 100, shown.shape)).astype(np.uint8), labels


rng = np.random.default_rng(0)
weights = {}
for name, shape in WEIGHTS.items():
    spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    weights[name] = (rng.standard_normal(shape) * spread).astype(np.float32)


def network() -> onnx.ModelProto:
    """Return the network with the weights as they are."""
    model = onnx.parser.parse_model(NETWORK)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(w, name) for name, w in weights.items())
    return model


(x, labels), (x_test, y_test) = images(1000, rng), images(300, rng)
session = onnxruntime.InferenceSession(network().SerializeToString(), providers=["CPUExecutionProvider"])
features = session.run(["features"], {"image": x[:, None].astype(np.float32) / 255})[0]
known = np.hstack([features, np.ones((len(x), 1))])
fitted = np.linalg.solve(known.T @ known + 1e-3 * np.eye(97), known.T @ (4.0 * np.eye(3)[labels]))
weights |= {"w3": fitted[:-1].astype(np.float32), "b3": fitted[-1].astype(np.float32)}

model = network()
del model.graph.output[1]
onnx.save(model, "trained.onnx")
np.savez("photos.npz", x_train=images(600, rng)[0])  # what train sees: no labels anywhere
np.savez("judge.npz", x=x_test, y=y_test)

"""Compare the compact model with the full one that it was cut from, on the test data."""

import numpy as np
import onnxruntime

with np.load("data.npz") as data:
    x, y = data["x_test"].astype(np.float32) / 255, data["y_test"]
full, compact = (
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": x})[0]
    for path in ("runs/shapes/trained.onnx", "runs/shapes/compact.onnx")
)
worst, accuracy = np.abs(full - compact).max() / np.abs(full).max(), (compact.argmax(1) == y).mean()
print(
    f"onnxruntime {onnxruntime.__version__}: they differ by {worst:.1e} of the largest, accuracy {accuracy:.3f}"
)
assert worst < 1e-5
assert accuracy > 0.9

"""Compare the compact model with the full one that it was cut from, on the test data that the function makes."""

import numpy as np
import onnxruntime
from my_data import load

data = load()
full, compact = (
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(
        None, {"window": data["x_test"]}
    )[0]
    for path in ("runs/machines/trained.onnx", "runs/machines/compact.onnx")
)
worst = np.abs(full - compact).max() / np.abs(full).max()
accuracy = (compact.argmax(1) == data["y_test"]).mean()
print(
    f"onnxruntime {onnxruntime.__version__}: they differ by {worst:.1e} of the largest score, accuracy {accuracy:.3f}"
)
assert worst < 1e-5
assert accuracy > 0.9

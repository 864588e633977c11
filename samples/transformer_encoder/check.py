"""Compare the compact model with the full one that it was cut from, on sequences that it was not trained on."""

import numpy as np
import onnxruntime

with np.load("data.npz") as data:
    ids, labels = data["x_test"], data["y_test"]
full, compact = (
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"ids": ids})[0]
    for path in ("runs/encoder/trained.onnx", "runs/encoder/compact.onnx")
)
worst = np.abs(full - compact).max() / np.abs(full).max()
accuracy = (compact.argmax(-1) == labels).mean()
print(
    f"onnxruntime {onnxruntime.__version__}: they differ by {worst:.1e} of the largest, accuracy {accuracy:.3f}"
)
assert worst < 1e-5

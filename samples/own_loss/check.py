"""Compare the compact model with the full one that it was cut from, on the test data."""

import numpy as np
import onnxruntime

with np.load("data.npz") as data:
    x = data["x_test"]
full, compact = (
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]
    for path in ("runs/own/trained.onnx", "runs/own/compact.onnx")
)
worst = np.abs(full - compact).max() / np.abs(full).max()
print(f"onnxruntime {onnxruntime.__version__}: they differ by {worst:.1e} of the largest output")
assert worst < 1e-5

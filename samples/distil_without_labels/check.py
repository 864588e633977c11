"""Compare the compact model with the full one that it was cut from, and with the one that was brought."""

import numpy as np
import onnxruntime

with np.load("judge.npz") as data:
    images, labels = data["x"][:, None].astype(np.float32) / 255, data["y"]
brought, full, compact = (
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": images})[0]
    for path in ("trained.onnx", "runs/small/trained.onnx", "runs/small/compact.onnx")
)
worst = np.abs(full - compact).max() / np.abs(full).max()
before, after = ((scores.argmax(1) == labels).mean() for scores in (brought, compact))
print(f"onnxruntime {onnxruntime.__version__}: full and compact differ by {worst:.1e} of the largest score")
print(f"accuracy: {before:.3f} as it was brought, {after:.3f} compact")
assert worst < 1e-5
assert before > 0.8
assert after > before - 0.05

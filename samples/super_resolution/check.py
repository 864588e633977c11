"""Compare the compact model with the full one that it was cut from, on noise of sizes that neither has seen."""

import numpy as np
import onnxruntime

rng = np.random.default_rng(1)
sessions = [
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for path in ("runs/double/trained.onnx", "runs/double/compact.onnx")
]
for height, width in ((24, 24), (17, 40), (96, 64)):
    image = rng.random((1, 3, height, width), np.float32)
    full, compact = (session.run(None, {"small": image})[0] for session in sessions)
    worst = np.abs(full - compact).max() / np.abs(full).max()
    print(
        f"{height}x{width} -> {compact.shape[2]}x{compact.shape[3]}: they differ by {worst:.1e} of the largest"
    )
    assert compact.shape == (1, 3, 2 * height, 2 * width)
    assert worst < 1e-5

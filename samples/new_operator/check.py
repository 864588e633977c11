"""Compare the compact model with the full one whose dropped channels are zero, on waves of any kind."""

import numpy as np
import onnxruntime

waves = np.random.default_rng(1).standard_normal((200, 1, 64)).astype(np.float32)
full, compact = (
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"wave": waves})[0]
    for path in ("zeroed.onnx", "compact.onnx")
)
worst = np.abs(full - compact).max() / np.abs(full).max()
print(f"onnxruntime {onnxruntime.__version__}: they differ by {worst:.1e} of the largest score")
assert worst < 1e-5

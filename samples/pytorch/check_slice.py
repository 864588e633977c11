"""Compare the network that was sliced in PyTorch with the compact model."""

import numpy as np
import onnxruntime

with np.load("sliced.npz") as data:
    session = onnxruntime.InferenceSession("half.onnx", providers=["CPUExecutionProvider"])
    scores = session.run(None, {"image": data["images"]})[0]
    worst = np.abs(scores - data["scores"]).max() / np.abs(scores).max()
print(f"PyTorch and onnxruntime {onnxruntime.__version__} differ by {worst:.1e} of the largest score")
assert worst < 1e-5

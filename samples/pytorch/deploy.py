"""Serve the compact model: nothing but onnxruntime, numpy and Pillow. It must say what the full one says."""

from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


def read(path: Path) -> np.ndarray:
    """Return a picture as the model reads it: float32 [3, 32, 32] from 0 to 1."""
    return np.asarray(Image.open(path).convert("RGB"), np.float32).transpose(2, 0, 1) / 255


def scores(model: str, images: np.ndarray) -> np.ndarray:
    """Return what a model says of images."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})[0]


paths = sorted(Path("shapes").glob("*/*.png"))
images = np.stack([read(path) for path in paths])
classes = sorted({path.parent.name for path in paths})  # the order in which train numbers them
full, compact = scores("runs/shapes/trained.onnx", images), scores("runs/shapes/compact.onnx", images)
worst = np.abs(full - compact).max() / np.abs(full).max()
right = np.mean([classes[i] == path.parent.name for i, path in zip(compact.argmax(1), paths, strict=True)])
print(
    f"onnxruntime {onnxruntime.__version__}: they differ by {worst:.1e} of the largest score; {right:.3f} are right"
)
assert worst < 1e-5
assert right > 0.9

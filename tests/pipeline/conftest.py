"""A small classifier and data for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[{batch},6] x) => (float[{batch},3] y) {{
    a = Gemm(x, w1, b1)
    b = Relu(a)
    c = Gemm(b, w2, b2)
    d = Relu(c)
    y = MatMul(d, w3)
}}
"""


def classifier(batch: int | str = "N") -> onnx.ModelProto:
    model = parser.parse_model(TEXT.format(batch=batch))
    rng = np.random.default_rng(0)
    for name, shape in {"w1": (6, 10), "b1": (10,), "w2": (10, 7), "b2": (7,), "w3": (7, 3)}.items():
        array = (rng.standard_normal(shape) * 0.5).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the path of the classifier."""
    onnx.save(classifier(), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def one_sample_model(tmp_path: Path) -> Path:
    """Return the path of the classifier, exported for one sample."""
    onnx.save(classifier(1), tmp_path / "one.onnx")
    return tmp_path / "one.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the path of three blobs of points."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((3, 6)) * 2
    arrays = {}
    for split, count in (("train", 96), ("test", 40)):
        y = np.arange(count) % 3
        arrays[f"x_{split}"] = (centres[y] + rng.standard_normal((count, 6)) * 0.5).astype(np.float32)
        arrays[f"y_{split}"] = y
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"

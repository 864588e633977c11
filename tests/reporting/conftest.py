"""A small network that was trained for a moment, once for all tests here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnx_oto

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,1,8,8] x) => (float[N,3] logits) {
    c0 = Conv<pads = [1,1,1,1]>(x, w1, b1)
    c = Relu(c0)
    d = Conv<pads = [1,1,1,1]>(c, w2, b2)
    e = Add(c, d)
    f0 = Conv<pads = [1,1,1,1], strides = [2,2]>(e, w3, b3)
    f = Clip(f0, low, high)
    h0 = GlobalAveragePool(f)
    h = Flatten(h0)
    logits = Gemm<transB = 1>(h, w4, b4)
}
"""
SHAPES = {
    "w1": (8, 1, 3, 3), "b1": (8,), "w2": (8, 8, 3, 3), "b2": (8,), "w3": (12, 8, 3, 3), "b3": (12,),
    "w4": (3, 12), "b4": (3,),
}  # fmt: skip
NASTY = "<script>alert(1)</script>|`*\x1b[31m\u202e&\"'"
"""The name of a layer as somebody may write it who means harm."""


def network() -> onnx.ModelProto:
    """Return a small residual network, one layer of which has a strange name."""
    model = parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        array = (rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, value in (("low", 0.0), ("high", 6.0)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    for node in model.graph.node:
        if node.output[0] == "f0":
            node.name = NASTY
    return model


def spots(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images with a bright spot, and which third of the image it is in."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 60, (count, 8, 8)).astype(np.uint8), np.arange(count) % 3
    for image, label in zip(x, y, strict=True):
        image[label * 3 : label * 3 + 2, 2:6] = 255
    return x, y


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model and data."""
    path = tmp_path_factory.mktemp("reporting")
    onnx.save(network(), path / "net.onnx")
    (x_train, y_train), (x_test, y_test) = spots(96, 0), spots(48, 1)
    np.savez(path / "spots.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return path


@pytest.fixture(scope="session")
def run(folder: Path) -> Path:
    """Return the folder of a run that came to its end. Do not change it: `copied` is for that."""
    onnx_oto.train(
        folder / "net.onnx",
        folder / "spots.npz",
        folder / "run",
        sparsity=0.5,
        epochs=8,
        batch=16,
        from_="scratch",
        round_to=1,
    )
    return folder / "run"

"""Parameters that several nodes share are trained as one, and stored as one again where they still are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.pipeline.options import PruneOptions, TrainOptions
from onnx_oto.pipeline.prune import prune
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.comparing import compare

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,6] x) => (float[N,3] y) {
    a = Gemm(x, w1, b)
    c = Relu(a)
    d = Gemm(x, w2, b)
    e = Relu(d)
    f = MatMul(c, v1)
    h = MatMul(e, v2)
    k = Add(f, h)
    s = Transpose(square)
    t = MatMul(k, square)
    u = Tanh(t)
    y = MatMul(u, s)
}
"""
SHAPES = {"w1": (6, 10), "w2": (6, 10), "b": (10,), "v1": (10, 3), "v2": (10, 3), "square": (3, 3)}
SHORT = {"epochs": 10, "batch": 16, "lr": 0.05}


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    model = parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        array = (rng.standard_normal(shape) * 0.5).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def weights(path: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


@pytest.mark.parametrize("direction", ["sgd", "adam"])
def test_after_training_there_is_one_bias_and_one_matrix(shared, data, tmp_path, direction):
    options = TrainOptions(optimizer="dense", direction=direction, **{**SHORT, "lr": 0.01})
    train(shared, data, tmp_path / "run", options)
    before, after = weights(shared), weights(tmp_path / "run" / "trained.onnx")
    assert "b__use1" not in after
    assert (before["b"] != after["b"]).all()
    assert (before["square"] != after["square"]).all()
    np.testing.assert_array_equal(after["s"], after["square"].T)


def test_with_pruning_they_are_equal_where_both_are_left(shared, data, tmp_path):
    result = train(shared, data, tmp_path / "run", TrainOptions(sparsity=0.4, **SHORT))
    trained, compact = (onnx.load(tmp_path / "run" / f"{name}.onnx") for name in ("trained", "compact"))
    assert compare(trained, compact, seed=3).passed
    after = weights(tmp_path / "run" / "trained.onnx")
    left = [after["w1"].any(0), after["w2"].any(0)]
    both = left[0] & left[1]
    assert result.gain.summary.removed == 10
    assert 0 < both.sum() < 10
    np.testing.assert_array_equal(after["b"][both], after["b__use1"][both])
    assert not after["b__use1"][~left[1]].any()


def test_pruning_stores_copies_once_where_the_same_is_left(shared, tmp_path):
    result = prune(shared, tmp_path / "small.onnx", PruneOptions(sparsity=0.0, kept=tmp_path / "kept.json"))
    assert "b__use1" not in weights(tmp_path / "small.onnx")
    assert result.summary.size.after == (tmp_path / "small.onnx").stat().st_size
    prune(shared, tmp_path / "small.onnx", PruneOptions(sparsity=0.5, kept=tmp_path / "kept.json"))
    small, kept = weights(tmp_path / "small.onnx"), json.loads((tmp_path / "kept.json").read_text())
    places = kept["parameters"]["b"]
    np.testing.assert_array_equal(small["b"], weights(shared)["b"][places["axes"]["0"]])
    if "copies" in places:
        (copy,) = places["copies"]
        np.testing.assert_array_equal(small["b__use1"], weights(shared)["b"][copy["axes"]["0"]])

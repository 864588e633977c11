"""Models with the batch behind the time, and with states as inputs, through whole runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from onnx_oto.errors import DataError, UsageError
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train

TEXT = """(float[6, batch, 3] x, float[1, batch, 8] h, int64 rate) => (float[batch, 2] y) {
    y0, last = GRU<hidden_size=8>(x, w, r, , , h) flat = Squeeze(last, zero)
    f = Cast<to=1>(rate) scaled = Div(flat, f)
    hidden = MatMul(scaled, u) act = Relu(hidden) z = MatMul(act, v) y = Add(z, b)
}"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    weights = {"w": (1, 24, 3), "r": (1, 24, 8), "u": (8, 12), "v": (12, 2), "b": (2,)}
    parsed = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {TEXT}')
    for name, shape in weights.items():
        value = (rng.standard_normal(shape) * 0.4).astype(np.float32)
        parsed.graph.initializer.append(numpy_helper.from_array(value, name))
    parsed.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    onnx.save(parsed, tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((96, 6, 3)).astype(np.float32)
    y = (x[:, -1].sum(axis=1) > 0).astype(np.int64)
    np.savez(tmp_path / "d.npz", x_train__x=x, y_train=y, x_test__x=x[:40], y_test=y[:40])
    return tmp_path / "d.npz"


def test_samples_come_first_in_the_data_alone(model: Path, data: Path, tmp_path: Path) -> None:
    said: list[str] = []
    options = TrainOptions(
        epochs=12, batch=16, direction="adam", lr=0.02, sparsity=0.25, set_input=("rate:2",)
    )
    result = train(model, data, tmp_path / "run", options, say=said.append)
    assert "input 'h' is 0 in training" in said
    assert "input 'rate' is 2 in training" in said
    assert result.gain is not None
    assert result.gain.summary.verdict.passed
    full, small = result.gain.scores
    assert full.value == small.value > 0.9
    compact = onnx.load(tmp_path / "run" / "compact.onnx")
    dims = [[d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in compact.graph.input]
    assert dims == [[6, "batch", 3], [1, "batch", 8], []], "the model keeps its own form"


def test_an_input_that_counts_no_samples_is_asked_about(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"input 'rate' has no axis that counts samples: .*--set-input rate"):
        train(model, data, tmp_path / "run", TrainOptions(epochs=1, batch=16))
    with pytest.raises(UsageError, match="set-input is 'rate:x': write NAME:NUMBER"):
        train(model, data, tmp_path / "run", TrainOptions(set_input=("rate:x",)))


def test_a_model_that_runs_at_the_sizes_of_the_data_alone_is_verified_there(tmp_path: Path) -> None:
    """Every axis of the input is open, and the first layer wants three channels."""
    rng = np.random.default_rng(0)
    parsed = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> g (float[N, C, L] x) => (float[N, 2] y) {
            a = Conv(x, w) b = Relu(a) c = Conv(b, v) d = GlobalAveragePool(c) y = Flatten(d)
        }"""
    )
    for name, shape in {"w": (8, 3, 3), "v": (2, 8, 1)}.items():
        value = rng.standard_normal(shape).astype(np.float32)
        parsed.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.save(parsed, tmp_path / "m.onnx")
    x, y = rng.standard_normal((32, 3, 11)).astype(np.float32), rng.integers(0, 2, 32)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    options = TrainOptions(epochs=1, batch=16, lr=0.01, sparsity=0.25)
    result = train(tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "run", options)
    assert result.gain is not None
    assert result.gain.summary.removed == 2
    assert {size["C"] for size in result.gain.summary.verdict.sizes} == {3}


def test_data_may_hold_what_only_another_output_reads(model: Path, data: Path, tmp_path: Path) -> None:
    loaded = onnx.load(model)
    loaded.graph.input.append(
        onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, ["batch", 4])
    )
    loaded.graph.node.append(onnx.helper.make_node("Neg", ["more"], ["other"], name="neg"))
    loaded.graph.output.append(onnx.helper.make_tensor_value_info("other", onnx.TensorProto.FLOAT, None))
    onnx.save(loaded, tmp_path / "two.onnx")
    with np.load(data) as stored:
        arrays = dict(stored)
    for split in ("train", "test"):
        arrays[f"x_{split}__more"] = np.zeros((len(arrays[f"y_{split}"]), 4), np.float32)
    np.savez(tmp_path / "e.npz", **arrays)
    options = TrainOptions(epochs=1, batch=16, sparsity=0.25, lr=0.01, set_input=("rate:2",))
    result = train(tmp_path / "two.onnx", tmp_path / "e.npz", tmp_path / "run", options)
    assert result.gain is not None
    np.savez(tmp_path / "f.npz", **arrays, x_train__q=np.zeros(96), x_test__q=np.zeros(40))
    with pytest.raises(DataError, match="'x_train__q': the model has no such input"):
        train(tmp_path / "two.onnx", tmp_path / "f.npz", tmp_path / "run2", options)

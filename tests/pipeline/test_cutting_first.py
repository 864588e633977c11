"""`train` of a trained model: groups go before the first step, their readers are fitted anew, and the rest trains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from onnx_oto.errors import StorageError
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.pipeline import cutting_first
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.resume import resume
from onnx_oto.pipeline.train import train

COPIES, OWN = 4, 4
TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,6] x) => (float[N,3] y) {
    h = Gemm(x, w1, b1)
    a = Relu(h)
    y = Gemm(a, w2, b2)
}
"""
SHORT = {"epochs": 2, "batch": 16, "shards": 1, "skip_latency": True, "from_": "trained", "lr": 1e-4}


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a network in which every hidden unit is there twice, up to a factor: half of them can go for nothing."""
    rng = np.random.default_rng(3)
    first = rng.standard_normal((6, OWN)).astype(np.float32)
    weights = {
        "w1": np.concatenate([first, 0.1 * first], axis=1),
        "b1": np.tile(np.array([0.3, -0.2, 0.1, 0.4], np.float32), 2) * np.repeat(np.float32([1, 0.1]), OWN),
        "w2": rng.standard_normal((OWN + COPIES, 3)).astype(np.float32),
        "b2": np.zeros(3, np.float32),
    }
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(value, name) for name, value in weights.items()
    )
    path = tmp_path / "copied.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    path = tmp_path / "data.npz"
    np.savez(
        path,
        **{name: rng.standard_normal((size, 6)).astype(np.float32) for name, size in
           (("x_train", 96), ("x_val", 32), ("x_test", 32))},
    )  # fmt: skip
    return path


def outputs(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_what_others_say_as_well_goes_for_nothing(copied, unlabelled, tmp_path):
    said: list[str] = []
    options = TrainOptions(**SHORT, sparsity=0.5, round_to=1, min_keep=0.0)
    result = train(copied, unlabelled, tmp_path / "run", options, say=said.append)
    assert result.gain is not None
    assert result.gain.summary.removed == COPIES
    x = np.load(unlabelled)["x_test"]
    before, after = outputs(copied, x), outputs(tmp_path / "run" / "compact.onnx", x)
    np.testing.assert_allclose(after, before, atol=0.02 * np.abs(before).max())
    assert any(
        text.startswith("cut and fitted anew, before training: test agreement 1.0000") for text in said
    )


def test_the_original_is_judged_and_teaches_as_it_came(copied, unlabelled, tmp_path):
    said: list[str] = []
    options = TrainOptions(**SHORT, sparsity=0.75, round_to=1, min_keep=0.0)
    result = train(copied, unlabelled, tmp_path / "run", options, say=said.append)
    assert result.gain is not None
    assert result.gain.original is not None
    assert result.gain.original.value == 1.0
    (begun,) = [text for text in said if text.startswith("cut and fitted anew")]
    assert "loss 0.0000" not in begun


def test_the_beginning_is_kept_where_training_only_harms(copied, unlabelled, tmp_path):
    """At a rate that ruins it, the model that was fitted before the first step is handed back."""
    options = TrainOptions(
        **{**SHORT, "lr": 3.0, "skip_bad_steps": 50}, sparsity=0.5, round_to=1, min_keep=0.0
    )
    said: list[str] = []
    result = train(copied, unlabelled, tmp_path / "run", options, say=said.append)
    assert result.history.kept is not None
    assert result.history.kept.epoch == 0
    x = np.load(unlabelled)["x_test"]
    before = outputs(copied, x)
    after = outputs(tmp_path / "run" / "compact.onnx", x)
    np.testing.assert_allclose(after, before, atol=0.02 * np.abs(before).max())


def test_a_run_goes_on_from_what_was_found(copied, unlabelled, tmp_path, monkeypatch):
    options = TrainOptions(**{**SHORT, "epochs": 4}, sparsity=0.5, round_to=1, min_keep=0.0)
    whole = train(copied, unlabelled, tmp_path / "whole", options)
    assert whole.gain is not None
    asked = iter([False] * 12)
    left = train(copied, unlabelled, tmp_path / "left", options, stop=lambda: next(asked, True))
    assert left.history.stopped
    monkeypatch.setattr(cutting_first, "look", None)  # nothing is looked at again
    done = resume(tmp_path / "left")
    assert done is not None
    one, two = ((tmp_path / name / "compact.onnx").read_bytes() for name in ("whole", "left"))
    assert one == two


def test_what_was_found_and_cannot_be_read_is_told(copied, unlabelled, tmp_path):
    options = TrainOptions(**{**SHORT, "epochs": 4}, sparsity=0.5, round_to=1, min_keep=0.0)
    asked = iter([False] * 12)
    train(copied, unlabelled, tmp_path / "left", options, stop=lambda: next(asked, True))
    place = tmp_path / "left" / "start.npz"
    for content in (b"", place.read_bytes().replace(b"'shape'", b"'\x0eshape")):
        place.write_bytes(content)
        with pytest.raises(
            StorageError, match=r"start.npz', the cut that the run began with, cannot be read"
        ):
            resume(tmp_path / "left")


def test_what_is_frozen_is_not_fitted(copied, unlabelled, tmp_path):
    options = TrainOptions(**SHORT, sparsity=0.5, round_to=1, min_keep=0.0, freeze=("w2", "b2"))
    said: list[str] = []
    done = train(copied, unlabelled, tmp_path / "run", options, say=said.append)
    assert not any(text.startswith("cut and fitted anew") for text in said)  # there would be nothing to fit
    brought, trained = (
        {tensor.name: to_array(tensor) for tensor in onnx.load(path).graph.initializer}
        for path in (copied, tmp_path / "run" / "trained.onnx")
    )
    assert done.gain is not None
    np.testing.assert_array_equal(brought["w2"], trained["w2"])
    assert not np.array_equal(brought["w1"], trained["w1"])

"""Of which samples BatchNormalization takes its statistics: chosen, stored, and kept when a run goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.errors import UnsupportedError
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from tests.gradients.available import needs_training_build

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,6] x) => (float[N,3] y) {
    a = MatMul(x, w1)
    b = BatchNormalization<momentum=0.8>(a, scale, shift, mean, spread)
    c = Relu(b)
    y = MatMul(c, w2)
}
"""
SHORT = {"epochs": 2, "batch": 8, "lr": 0.05, "sparsity": 0.4, "skip_latency": True, "from_": "scratch"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model = parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    arrays = {"w1": rng.standard_normal((6, 10)), "w2": rng.standard_normal((10, 3))}
    arrays |= {"scale": np.ones(10) * 1.1, "shift": np.zeros(10), "mean": np.zeros(10), "spread": np.ones(10)}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((64, 6)).astype(np.float32) * np.linspace(0.1, 3, 64, dtype=np.float32)[:, None]
    np.savez(
        tmp_path / "data.npz", x_train=x, y_train=x[:, :3].argmax(1), x_test=x, y_test=x[:, :3].argmax(1)
    )
    return tmp_path / "data.npz"


def trained(folder: Path) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(folder / "trained.onnx").graph.initializer}


def stored(folder: Path) -> dict[str, object]:
    return dict(tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))["train"])


@needs_training_build
def test_the_number_of_shards_does_not_matter(model: Path, data: Path, tmp_path: Path) -> None:
    """But for those that keep to themselves; and a run stores what it took."""
    runs = {}
    for name, options in {
        "one": {"shards": 1},
        "three": {"shards": 3},
        "apart": {"shards": 3, "statistics": "shard"},
    }.items():
        train(model, data, tmp_path / name, TrainOptions(**SHORT, **options))
        runs[name] = trained(tmp_path / name)
    for name, value in runs["one"].items():
        np.testing.assert_allclose(runs["three"][name], value, rtol=1e-3, atol=1e-4, err_msg=name)
    assert np.abs(runs["apart"]["spread"] - runs["one"]["spread"]).max() > 0.01
    assert [stored(tmp_path / name)["statistics"] for name in ("one", "three", "apart")] == [
        "batch",
        "batch",
        "shard",
    ]


def test_without_the_means_what_was_asked_for_is_refused(
    model: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a run that began where there were any is, when it goes on here."""
    for backend in ("ort_training", "plain.backend"):
        monkeypatch.setattr(f"onnx_oto.gradients.backends.{backend}.can_join", lambda: False)
    options = TrainOptions(**SHORT, shards=2, statistics="batch")
    with pytest.raises(UnsupportedError, match="cannot take statistics of the whole batch here"):
        train(model, data, tmp_path / "run", options)
    train(model, data, tmp_path / "alone", TrainOptions(**SHORT))
    assert stored(tmp_path / "alone")["shards"] == 1

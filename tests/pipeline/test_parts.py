"""Groups that go in ten parts: in the end what was asked for is met, and all that is zero is cut out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.model import normalise
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.zigs import analyse
from onnx_oto.zigs.groups import zero_lanes

GROUPED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,7] x) => (float[N,3] y) {
    a = Conv<kernel_shape=[3], pads=[1,1]>(x, w1)
    b = Relu(a)
    c = Conv<kernel_shape=[3], group=2>(b, w2)
    d = Relu(c)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    y = MatMul(f, w3)
}
"""
CHAIN = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,3,7] x) => (float[N,3] y) {
    a = Conv<kernel_shape=[3]>(x, w1)
    b = Relu(a)
    c = Conv<kernel_shape=[3]>(b, w2)
    d = Relu(c)
    e = GlobalAveragePool(d)
    f = Flatten(e)
    h = MatMul(f, w3)
    i = Relu(h)
    y = MatMul(i, w4)
}
"""
MODELS = {
    "grouped": (GROUPED, {"w1": (12, 3, 3), "w2": (8, 6, 3), "w3": (8, 3)}),
    "chain": (CHAIN, {"w1": (10, 3, 3), "w2": (10, 10, 3), "w3": (10, 4), "w4": (4, 3)}),
}
STEPS: dict[str, Any] = {
    "epochs": 45, "batch": 8, "lr": 0.1, "shards": 1, "skip_latency": True, "from_": "scratch", "min_keep": 0.0
}  # fmt: skip


@pytest.fixture(params=sorted(MODELS))
def given(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """Return the paths of a network and of its data: two convolutions, of groups that lose equally many channels."""
    text, shapes = MODELS[request.param]
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        array = (rng.standard_normal(shape) * 0.4).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "model.onnx")
    arrays = {}
    for split, count in (("train", 96), ("test", 24)):
        y = np.arange(count) % 3
        x = rng.standard_normal((count, 3, 7)) + 2 * np.eye(3)[y][:, :, None]
        arrays |= {f"x_{split}": x.astype(np.float32), f"y_{split}": y}
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "model.onnx", tmp_path / "data.npz"


def trained(model: Path, data: Path, run: Path, **options: Any) -> None:
    """Train, and require that what was zeroed is what was announced and what was removed, under the budgets."""
    result = train(model, data, run, TrainOptions(**STEPS, **options))
    assert result.gain is not None
    summary = result.gain.summary
    analysis = analyse(normalise(onnx.load(run / "trained.onnx")))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert all(line["zeroed"] <= line["target"] for line in epochs if line["target"] is not None)
    assert len({line["zeroed"] for line in epochs}) > 3, "they went in parts"
    assert epochs[-1]["zeroed"] == epochs[-1]["target"] == summary.removed == zero_lanes(analysis).sum()
    before = analyse(normalise(onnx.load(model)))
    after = analyse(normalise(onnx.load(run / "compact.onnx")))
    if "macs" in options:
        assert after.macs <= options["macs"] * before.macs
    if "params" in options:
        assert after.params <= options["params"] * before.params


@pytest.mark.parametrize("optimizer", ["dhspg", "hesso"])
@pytest.mark.parametrize(
    "goal",
    [
        {"macs": 0.45},
        {"macs": 0.5, "round_to": 1, "seed": 2},
        {"params": 0.6, "round_to": 2},
        {"sparsity": 0.5},
    ],
    ids=["macs", "macs-any", "params", "groups"],
)
def test_what_was_asked_for_is_met(
    given: tuple[Path, Path], tmp_path: Path, optimizer: str, goal: dict[str, Any]
) -> None:
    trained(*given, tmp_path / "run", optimizer=optimizer, **goal)

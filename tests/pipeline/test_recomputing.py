"""`--recompute` changes what is kept in a step, not what a run ends with; it stands in the settings of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.gradients.backends.plain.backend import Plain
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train

DEPTH = 12


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    layers = "".join(f"a{i} = MatMul(r{i}, w{i}) r{i + 1} = Tanh(a{i}) " for i in range(DEPTH))
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,6] x) => (float[N,3] y) {{ r0 = MatMul(x, first) {layers}'
        f"y = MatMul(r{DEPTH}, last) }}"
    )
    arrays = {"first": rng.standard_normal((6, 10)) / 2, "last": rng.standard_normal((10, 3)) / 2}
    arrays |= {f"w{i}": rng.standard_normal((10, 10)) / 2 for i in range(DEPTH)}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_run_ends_with_the_same_model(
    deep: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    real = Plain.differentiate

    def spy(*arguments: Any, **options: Any) -> onnx.ModelProto:
        gradient = real(*arguments, **options)
        made.append(sum(name.endswith(".again") for node in gradient.graph.node for name in node.output))
        return gradient

    monkeypatch.setattr(Plain, "differentiate", spy)
    ended = []
    for recompute in (False, True):
        run = tmp_path / f"run-{recompute}"
        options = TrainOptions(backend="plain", epochs=2, batch=16, sparsity=0.4, recompute=recompute)
        train(deep, data, run, options)
        ended.append(
            {t.name: numpy_helper.to_array(t) for t in onnx.load(run / "trained.onnx").graph.initializer}
        )
        assert ("recompute = true" in (run / "run.toml").read_text(encoding="utf-8")) is recompute
    assert made[0] == 0 < made[-1]
    for name, array in ended[0].items():
        np.testing.assert_array_equal(ended[1][name], array)

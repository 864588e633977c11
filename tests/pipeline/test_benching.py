"""Several models in turn: what is told of them, and what is refused. Times are never judged."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import onnx_oto
from onnx_oto.cli import screen
from onnx_oto.cli.benched import print_benched
from onnx_oto.errors import DataError, UsageError

pytest.importorskip("onnxruntime")

FIXED = """<ir_version: 8, opset_import: ["" : 17]>
g (float[2,6] x) => (float[2,6] y) { y = Relu(x) }"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with two models of the same inputs, and one of others."""
    place = tmp_path_factory.mktemp("models")
    for name, width in (("full", 12), ("half", 6)):
        model = parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 17]>
            g (float[N,6] x) => (float[N,3] y) { h = MatMul(x, a)  r = Relu(h)  y = MatMul(r, b) }"""
        )
        for weight, shape in (("a", (6, width)), ("b", (width, 3))):
            model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), weight))
        onnx.save(model, place / f"{name}.onnx")
    onnx.save(parser.parse_model(FIXED), place / "fixed.onnx")
    return place


@pytest.fixture(scope="module")
def found(folder):
    """Return what is found of the two models in turn."""
    said: list[str] = []
    options = {"seconds": 0.05, "threads": 1, "batch": 5}
    result = onnx_oto.bench([folder / "full.onnx", folder / "half.onnx"], say=said.append, **options)
    return result, said


def test_the_others_stand_beside_the_first(found):
    result, _ = found
    (other,) = result.compared
    assert (result.model, other.benched.model) == ("full.onnx", "half.onnx")
    assert (result.batch, result.macs, other.benched.macs) == (5, 5 * 12 * 9, 5 * 6 * 9)
    assert other.gap.macs == 2.0
    assert result.timing.runs == other.benched.timing.runs
    assert other.ratio[0] <= 1 / other.gap.speed_up <= other.ratio[1]
    low, high = result.timing.quartiles
    assert low <= result.timing.median <= high
    for each in (result, other.benched):
        assert {"MatMul"} <= {*each.by_op} | {"Gemm", "FusedMatMul"}
        assert each.weight is not None
        assert each.weight.provider == "CPUExecutionProvider"
        assert each.weight.memory is None or 0 <= each.weight.memory <= each.weight.peak


def test_json_has_the_names_of_one_model_and_the_others(found):
    result, _ = found
    told = json.loads(json.dumps(result.as_json()))
    assert {"schema", "model", "latency_ms", "operators", "host", "warnings", "table"} <= told.keys()
    (other,) = told["compared"]
    assert other["macs_ratio"] == 2.0
    assert other["why"]
    assert math.isfinite(other["speed_up"])
    assert set(other["gap_ms"]) <= {"whole", "multiplying", "moving", "outside"}
    assert other["latency_ms"]["inputs"] == {"x": [5, 6]}


@pytest.mark.parametrize("width", [40, 80, 160])
def test_it_is_printed_within_the_screen(found, monkeypatch, capsys, width):
    monkeypatch.setattr(screen.out, "_width", width)
    print_benched(found[0])
    out = capsys.readouterr().out
    assert "CPUExecutionProvider), 1 thread, batch 5" in out
    assert "full.onnx" in out
    assert "half.onnx: " in out


def test_models_of_other_inputs_are_refused(folder):
    onnx.save(parser.parse_model(FIXED.replace("[2,6]", "[2,7]")), folder / "wide.onnx")
    with pytest.raises(DataError, match=r"'fixed.onnx' reads 'x' as float32 \[2, 6\], and 'wide.onnx' as"):
        onnx_oto.bench([folder / "wide.onnx", folder / "fixed.onnx"])


def test_a_batch_that_the_model_does_not_take_is_refused(folder):
    with pytest.raises(
        UsageError, match=r"batch is 3, and 'fixed.onnx' reads 2 samples in input 'x', always"
    ):
        onnx_oto.bench(folder / "fixed.onnx", batch=3)


def test_a_table_is_of_one_model(folder, tmp_path):
    with pytest.raises(UsageError, match="a table is of one model"):
        onnx_oto.bench([folder / "full.onnx", folder / "half.onnx"], table=tmp_path / "t.json")
    assert not (tmp_path / "t.json").exists()

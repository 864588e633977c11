"""The study of ways to a smaller network: what its pieces are, in which order, and what is told of them."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

FOLDER = Path(__file__).resolve().parents[2] / "tools" / "study"


@pytest.fixture
def module(monkeypatch):
    """Import a module of the tool, and forget it afterwards."""
    monkeypatch.syspath_prepend(str(FOLDER))
    names = ("pieces", "running", "report")
    yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)


def test_every_piece_comes_behind_what_it_needs_and_once(module):
    pieces = module("pieces")
    found = list(pieces.pieces(list(pieces.WAYS), [0.5, 0.12], [0, 1]))
    assert len(found) == len(set(found))
    assert len({piece.name for piece in found}) == len(found)
    for number, piece in enumerate(found):
        assert piece.needs is None or piece.needs in found[:number]
    counted = [piece.way for piece in found if not piece.first]
    assert counted.count("dense") == 2
    assert all(counted.count(way) == 4 for way in pieces.WAYS if way != "dense")


def test_all_ways_take_the_same_number_of_epochs(module):
    pieces = module("pieces")
    for piece in pieces.pieces(list(pieces.WAYS), [0.5], [0]):
        taken, part = 0, piece
        while part is not None:
            options = part.options(12, Path("runs"))
            taken += int(options[options.index("--epochs") + 1])
            part = part.needs if part.way in pieces.HALVES else None
        assert taken == 12 or piece.first


def test_fresh_weights_forget_the_old_ones(module, model):
    old = onnx.load(model)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in old.graph.initializer}
    new = module("running").fresh(onnx.load(model), 1)
    for tensor in new.graph.initializer:
        value = numpy_helper.to_array(tensor)
        assert value.shape == kept[tensor.name].shape
        if value.ndim > 1:
            assert abs(float(np.corrcoef(value.reshape(-1), kept[tensor.name].reshape(-1))[0, 1])) < 0.5
            assert value.std() == pytest.approx(np.sqrt(2 / value.shape[0]), rel=0.5)
        else:
            assert not value.any()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return the path of a network of one hidden layer."""
    rng = np.random.default_rng(0)
    graph = onnx.parser.parse_graph(
        "g (float[N,8] x) => (float[N,3] y) { h = Gemm(x, w1, b1) a = Relu(h) y = MatMul(a, w2) }"
    )
    for name, shape in {"w1": (8, 20), "b1": (20,), "w2": (20, 3)}.items():
        array = rng.standard_normal(shape).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, name))
    opsets = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    return tmp_path / "m.onnx"


def test_the_tables_hold_means_and_standard_errors(module, tmp_path):
    lines = [
        {
            "way": way,
            "budget": budget,
            "seed": seed,
            "val": value,
            "test": value - 0.01,
            "macs": budget or 1.0,
        }
        for way, budget, values in (("dense", None, (0.9, 0.92)), ("dhspg", 0.5, (0.8, 0.9)))
        for seed, value in enumerate(values)
    ]
    (tmp_path / "pieces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = module("report").tables(tmp_path)
    assert "| dense (100 %) | 0.9100 ± 0.0100 | 0.9100 ± 0.0100 | 2 |" in told
    assert "| dhspg | 0.8400 ± 0.0500 | 0.8400 | 2 |" in told

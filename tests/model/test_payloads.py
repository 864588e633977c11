"""Payloads where they lie in a file: the same numbers as protobuf hands out, or none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from onnx_oto.model import load, normal_form
from onnx_oto.model.files.loading import _varint
from onnx_oto.model.graph import payloads as module
from onnx_oto.model.graph.payloads import Payloads
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.surgery import compact
from onnx_oto.zigs import analyse, choose, score
from tests.contract.random_check import random_model


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALLEST", 0)
    monkeypatch.setattr(module, "_LARGE", 1)


def _model(
    kinds: tuple[type, ...] = (np.float32, np.float64, np.float16, np.int64, np.int8),
) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array((rng.normal(size=(5, 3 + i)) * 9).astype(kind), "w" * (i + 1))
        for i, kind in enumerate(kinds)
    ]
    listed = onnx.helper.make_tensor("listed", TensorProto.FLOAT, [2], [1.0, 2.0])
    value = onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    made = onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [made], [*weights, listed])
    return onnx.helper.make_model(graph)


@pytest.mark.parametrize("shift", range(8))
def test_arrays_are_equal_at_any_address(shift: int) -> None:
    model = _model()
    model.doc_string = "d" * shift
    data = model.SerializeToString()
    model = onnx.ModelProto.FromString(data)
    kept = Payloads()
    kept.keep(data, model)
    *weights, listed = model.graph.initializer
    for tensor in weights:
        found = kept.of(tensor)
        assert found is not None
        assert not found.flags.writeable
        assert found.dtype == to_array(tensor).dtype
        np.testing.assert_array_equal(found, to_array(tensor))
    assert kept.of(listed) is None
    kept.release()
    assert kept.of(weights[0]) is None


def test_copies_have_none() -> None:
    data = _model().SerializeToString()
    model, other = onnx.ModelProto.FromString(data), onnx.ModelProto()
    other.CopyFrom(model)
    kept = Payloads()
    kept.keep(data, model)
    assert kept.of(model.graph.initializer[0]) is not None
    assert kept.of(other.graph.initializer[0]) is None


def _twice(field: str) -> bytes:
    """Return a model of which protobuf puts a message together from two parts."""
    model = _model((np.float32,))
    if field == "graph":
        return model.SerializeToString() + onnx.ModelProto(graph={"doc_string": "more"}).SerializeToString()
    weight = model.graph.initializer[0].SerializeToString()
    written = weight + TensorProto(raw_data=b"\1" * 60).SerializeToString()
    del model.graph.initializer[:]
    graph = model.graph.SerializeToString() + b"\x2a" + _varint(len(written)) + written
    model.ClearField("graph")
    return bytes(model.SerializeToString()) + b"\x3a" + _varint(len(graph)) + graph


@pytest.mark.parametrize("field", ["graph", "raw_data"])
def test_what_is_put_together_from_parts_is_not_kept(field: str) -> None:
    data = _twice(field)
    model = onnx.ModelProto.FromString(data)
    assert len(model.graph.initializer[0].raw_data) == 60
    kept = Payloads()
    kept.keep(data, model)
    assert kept.of(model.graph.initializer[0]) is None


def test_external_data_and_files_of_other_sizes_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model()
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    data = model.SerializeToString()
    kept = Payloads()
    kept.keep(data, model)
    assert kept.of(model.graph.initializer[0]) is None
    assert kept.of(model.graph.initializer[1]) is not None
    kept.release()
    monkeypatch.setattr(module, "LARGEST", len(data) - 1)
    kept.keep(data, model)
    assert kept.of(model.graph.initializer[1]) is None


@pytest.mark.parametrize("seed", range(4))
def test_scores_and_cuts_are_the_same_bytes(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    path = tmp_path / "m.onnx"
    onnx.save(random_model(lambda n: int(rng.integers(n)), 1 + seed, seed=seed), path)
    found = []
    for kept in (None, Payloads()):
        normal = normal_form(load(path, payloads=kept), in_place=True)
        analysis = analyse(normal.model, knowledge=normal.knowledge, payloads=kept)
        if kept is not None:
            assert any(kept.of(tensor) is not None for tensor in analysis.graph.initializers.values())
        scores = score(analysis, "magnitude")
        small = compact(analysis, choose(analysis, scores, 0.5).drop)
        found.append((scores.tobytes(), small.SerializeToString(deterministic=True)))
    assert found[0] == found[1]

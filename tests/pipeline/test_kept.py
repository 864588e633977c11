"""Slicing the weights of the model file by the indices that were kept gives the compact model's weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_oto.pipeline.inspecting import inspection
from onnx_oto.pipeline.opening import open_model
from onnx_oto.pipeline.prune import PruneOptions, prune
from tests.contract.builder import build, weights_as_constants

CHAIN = """g (float[N,3,6,6] x) => (float[N,4] y)
<float[6,3,3,3] w0, float[6] b0, float[6] s, float[6] t, float[6] m, float[6] var, float[8,6,1,1] w1, float[5,8,1,1] w2,
 float[5,4] w3>
{ c = Conv(x, w0, b0) n = BatchNormalization(c, s, t, m, var) r = Relu(n) d = Conv(r, w1) e = Relu(d)
  f = Conv(e, w2) p = GlobalAveragePool(f) q = Flatten(p) y = MatMul(q, w3) }"""
GROUPED = """g (float[N,3,6,6] x) => (float[N,4,4,4] y) <float[12,3,1,1] w0, float[12,4,3,3] w1, float[4,12,1,1] w2>
{ a = Conv(x, w0) b = Relu(a) c = Conv<group=3>(b, w1) d = Relu(c) y = Conv(d, w2) }"""
MOVED = """g (float[N,5] x) => (float[N,4] y) <float[8,5] w0, float[4,8] w1>
{ a = Transpose<perm=[1,0]>(w0) h = MatMul(x, a) r = Relu(h) b = Transpose<perm=[1,0]>(w1) y = MatMul(r, b) }"""


def cut(
    model: onnx.ModelProto, folder: Path
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the indices kept, the parameters of the model file, and those of the compact model."""
    onnx.save(model, folder / "m.onnx")
    prune(folder / "m.onnx", folder / "c.onnx", PruneOptions(by="random", round_to=1, kept=folder / "k.json"))
    found = json.loads((folder / "k.json").read_text())
    assert found["schema"] == 1
    return found["parameters"], values(model), values(onnx.load(folder / "c.onnx"))


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    constants = {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    return {
        name: numpy_helper.to_array(tensor)
        for name, tensor in [*((t.name, t) for t in model.graph.initializer), *constants.items()]
    }


def sliced(value: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    """Return a parameter sliced as a person would who has only the JSON."""
    assert list(value.shape) == entry["shape"]
    for axis, indices in entry["axes"].items():
        if indices and isinstance(indices[0], list):
            groups = np.split(value, len(indices))
            value = np.concatenate([g.take(i, int(axis)) for g, i in zip(groups, indices, strict=True)])
        else:
            value = value.take(indices, int(axis))
    return value


@pytest.mark.parametrize(
    "change", [lambda model: model, weights_as_constants], ids=["initializers", "constants"]
)
def test_weights_sliced_by_hand_are_the_compact_models(change: Any, tmp_path: Path) -> None:
    kept, before, after = cut(change(build(CHAIN)), tmp_path)
    assert set(kept) == {"w0", "b0", "s", "t", "m", "var", "w1", "w2", "w3"}
    for name, entry in kept.items():
        np.testing.assert_array_equal(sliced(before[name], entry), after[name])


def test_every_group_of_a_grouped_convolution_has_a_list(tmp_path: Path) -> None:
    kept, before, after = cut(build(GROUPED), tmp_path)
    entry = kept["w1"]
    assert len(entry["axes"]["1"]) == 3
    rows = np.split(before["w1"], 3)
    own = np.array(entry["axes"]["0"])
    parts = [rows[g][own[own // 4 == g] - 4 * g].take(entry["axes"]["1"][g], 1) for g in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), after["w1"])


def test_a_weight_that_was_folded_transposed_is_told_as_it_stands_in_the_file(tmp_path: Path) -> None:
    kept, before, after = cut(build(MOVED), tmp_path)
    assert set(kept) == {"w0", "w1"}
    np.testing.assert_array_equal(sliced(before["w0"], kept["w0"]).T, after["a"])
    np.testing.assert_array_equal(sliced(before["w1"], kept["w1"]).T, after["b"])


def test_a_shared_bias_has_an_entry_for_every_layer(tmp_path: Path) -> None:
    text = """g (float[N,5] x) => (float[N,4] y) <float[5,8] w0, float[8,8] w1, float[8,4] w2, float[8] b>
    { a = MatMul(x, w0) i = Identity(b) c = Add(a, b) d = Relu(c) e = MatMul(d, w1) f = Add(e, i) g1 = Relu(f)
      y = MatMul(g1, w2) }"""
    kept, before, after = cut(build(text), tmp_path)
    entry = kept["b"]
    [copy] = entry["copies"]
    assert copy["axes"] != entry["axes"]
    assert len(copy["nodes"]) == 1
    np.testing.assert_array_equal(sliced(before["b"], entry), after["b"])
    np.testing.assert_array_equal(sliced(before["b"], {**entry, **copy}), after["b__use1"])


def test_a_weight_that_is_normalised_in_the_graph_is_said_to_be_computed(tmp_path: Path) -> None:
    text = """g (float[N,5] x) => (float[N,4] y) <float[8,5] w0, float[8,4] w1>
    { m = ReduceMean<axes=[1]>(w0) a = Sub(w0, m) h = Gemm<transB=1>(x, a) r = Relu(h) y = MatMul(r, w1) }"""
    kept, _, _ = cut(build(text), tmp_path)
    assert len(kept["w0"]["axes"]["0"]) == 4
    assert kept["w0"]["computed"]


def test_inspection_tells_which_positions_belong_together(tmp_path: Path) -> None:
    model = build(CHAIN)
    onnx.save(model, tmp_path / "m.onnx")
    report = inspection(open_model(tmp_path / "m.onnx"))
    first = next(d for d in report.dimensions if d.name == "w0")
    assert {(u.param, u.axis) for u in first.uses} >= {("w0", 0), ("b0", 0), ("w1", 1)}
    assert all(use.positions == tuple(range(6)) for use in first.uses)

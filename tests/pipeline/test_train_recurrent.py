"""Recurrent layers through the whole pipeline: trained once, cut, verified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.comparing import compare

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def sequence_classifier(op: str) -> onnx.ModelProto:
    """Return a bidirectional layer of 6 units over 5 steps of 3 inputs, and a layer of 8 behind its last states."""
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17]> g (float[N,5,3] x) => (float[N,2] y) {{
        t = Transpose<perm=[1, 0, 2]>(x)
        , h = {op}<hidden_size=6, direction="bidirectional">(t, w, r, b)
        n = Transpose<perm=[1, 0, 2]>(h) f = Flatten(n) c = Gemm(f, w1, b1) d = Relu(c) y = MatMul(d, w2) }}"""
    )
    gates = GATES[op]
    shapes = {"w": (2, gates * 6, 3), "r": (2, gates * 6, 6), "b": (2, gates * 12)}
    rng = np.random.default_rng(0)
    for name, shape in {**shapes, "w1": (12, 8), "b1": (8,), "w2": (8, 2)}.items():
        array = (rng.standard_normal(shape) * 0.5).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


@pytest.mark.parametrize("op", GATES)
def test_a_recurrent_classifier_is_trained_and_cut(op: str, tmp_path: Path) -> None:
    onnx.save(sequence_classifier(op), tmp_path / "model.onnx")
    rng = np.random.default_rng(1)
    arrays = {}
    for split, count in (("train", 96), ("test", 64)):
        x = rng.standard_normal((count, 5, 3)).astype(np.float32)
        arrays |= {f"x_{split}": x, f"y_{split}": (x[:, :, 0].sum(axis=1) > 0).astype(np.int64)}
    np.savez(tmp_path / "data.npz", **arrays)
    options = TrainOptions(sparsity=0.4, epochs=25, batch=16, direction="adam", lr=0.01)
    result = train(tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "run", options)
    assert result.gain is not None
    full, compact = (onnx.load(tmp_path / "run" / name) for name in ("trained.onnx", "compact.onnx"))
    assert compare(full, compact).passed
    width = next(
        a.i for n in compact.graph.node if n.op_type == op for a in n.attribute if a.name == "hidden_size"
    )
    assert width < 6
    assert result.gain.scores[1].loss < 0.6  # log 2 is what guessing gives


def test_a_loop_of_few_trips_is_trained_and_cut(tmp_path: Path) -> None:
    """Its weights live in the body of a Scan, which training writes out; the compact model has the Scan again."""
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]> g (float[N,5,3] x) => (float[N,2] y) <int64[1] one = {1},
        int64[1] wide = {8}> { t = Transpose<perm=[1, 0, 2]>(x) n = Shape<start = 0, end = 1>(x)
        sh = Concat<axis = 0>(n, wide) h0 = ConstantOfShape(sh)
        h, hs = Scan(h0, t) <num_scan_inputs = 1, body = b (float[A,8] s, float[A,3] p) => (float[A,8] r, float[A,8] e)
          { a = MatMul(p, w) k = MatMul(s, u) m = Add(a, k) l = Add(m, b) r = Tanh(l) e = Identity(r) }>
        y = MatMul(h, w2) }"""
    )
    rng = np.random.default_rng(0)
    body = model.graph.node[4].attribute[1].g
    weights = ((body, "w", (3, 8)), (body, "u", (8, 8)), (body, "b", (8,)), (model.graph, "w2", (8, 2)))
    for graph, name, shape in weights:
        array = (rng.standard_normal(shape) * 0.5).astype(np.float32)
        graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "model.onnx")
    arrays = {}
    for split, count in (("train", 96), ("test", 64)):
        x = rng.standard_normal((count, 5, 3)).astype(np.float32)
        arrays |= {f"x_{split}": x, f"y_{split}": (x[:, :, 0].sum(axis=1) > 0).astype(np.int64)}
    np.savez(tmp_path / "data.npz", **arrays)
    options = TrainOptions(sparsity=0.5, epochs=25, batch=16, direction="adam", lr=0.01)
    result = train(tmp_path / "model.onnx", tmp_path / "data.npz", tmp_path / "run", options)
    assert result.gain is not None
    assert result.gain.scores[1].loss < 0.6  # log 2 is what guessing gives
    full, compact = (onnx.load(tmp_path / "run" / name) for name in ("trained.onnx", "compact.onnx"))
    assert compare(full, compact).passed
    assert "Scan" in {node.op_type for node in compact.graph.node}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in compact.graph.initializer}
    assert shapes["u"] == (4, 4)

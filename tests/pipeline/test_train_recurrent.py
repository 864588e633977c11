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

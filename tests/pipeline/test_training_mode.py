"""A model exported in training mode is trained with batch statistics and Dropout, and handed back in inference form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.pipeline.opening import open_model
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.prune import prune
from onnx_oto.pipeline.train import train
from onnx_oto.pipeline.verifying import verify_files
from onnx_oto.runtime.runner import runner

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,6] x) => (float[N,3] y) <float ratio = {0.2}, bool on = {1}> {
    a = Gemm(x, w1, b1)
    c, rm, rv = BatchNormalization<training_mode=1, momentum=0.8>(a, scale, shift, mean, spread)
    d = Relu(c)
    e, kept = Dropout(d, ratio, on)
    y = MatMul(e, w2)
}
"""
SHORT = {"epochs": 20, "batch": 16, "lr": 0.05, "sparsity": 0.4}


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    model = parser.parse_model(TEXT)
    rng = np.random.default_rng(0)
    arrays = {"w1": rng.standard_normal((6, 10)), "b1": np.zeros(10), "w2": rng.standard_normal((10, 3))}
    arrays |= {"scale": np.ones(10) * 1.1, "shift": np.zeros(10), "mean": np.zeros(10), "spread": np.ones(10)}
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def read(path: Path) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    model = onnx.load(path)
    norm, drop = (
        next(n for n in model.graph.node if n.op_type == op) for op in ("BatchNormalization", "Dropout")
    )
    assert not any(a.name == "training_mode" and a.i for a in norm.attribute)
    assert (len(norm.output), len(drop.input), len(drop.output)) == (1, 2, 1)
    return model, {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


def test_it_is_opened_with_a_note_and_pruned(exported, tmp_path):
    (note,) = open_model(exported).notes
    assert note.startswith("layers in training mode: 1 BatchNormalization and 1 Dropout")
    result = prune(exported, tmp_path / "compact.onnx")
    assert result.notes == (note,)
    read(tmp_path / "compact.onnx")


def test_two_files_are_compared_in_inference_form(exported, tmp_path):
    model = onnx.load(exported)
    del model.graph.node[1].output[1:]
    del model.graph.node[1].attribute[:]
    del model.graph.node[3].input[2:]
    onnx.save(model, tmp_path / "plain.onnx")
    assert verify_files(exported, tmp_path / "plain.onnx").passed


def test_training_updates_the_statistics_and_single_samples_are_judged_alike(exported, data, tmp_path):
    said: list[str] = []
    result = train(exported, data, tmp_path / "run", TrainOptions(shards=1, **SHORT), say=said.append)
    assert any(text.startswith("layers in training mode") for text in said)
    full, small = result.gain.scores
    assert full.value == small.value > 0.9
    for name in ("trained", "compact"):
        model, weights = read(tmp_path / "run" / f"{name}.onnx")
        assert (weights["spread"] > 0).all()
        assert np.abs(weights["mean"]).max() > 0.1
    arrays = np.load(data)
    run = runner(model)
    single = [run({"x": x[None]})[0].argmax() for x in arrays["x_test"]]
    assert np.mean(single == arrays["y_test"]) == small.value


def test_fixed_statistics_stay_bit_equal(exported, data, tmp_path):
    _, before = read_raw(exported)
    result = train(exported, data, tmp_path / "run", TrainOptions(fixed_statistics=True, **SHORT))
    _, after = read(tmp_path / "run" / "trained.onnx")
    for name in ("mean", "spread"):
        np.testing.assert_array_equal(before[name], after[name])
    assert (before["scale"] != after["scale"]).all()
    assert result.gain.scores[1].value > 0.9


def read_raw(path: Path) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    model = onnx.load(path)
    return model, {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}

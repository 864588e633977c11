"""The model as it was brought, judged before anything is trained."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.data import Input, open_data
from onnx_oto.errors import UnsupportedError
from onnx_oto.losses import make
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline import original
from onnx_oto.pipeline.opening import open_model
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.original import Original, Unjudged, original_of
from onnx_oto.pipeline.train import train

HEAD = '<ir_version: 8, opset_import: ["": 17]> g (float[N,6] x) => (float[N,3] y) '
TRAINING = (
    "{ a = MatMul(x, w) b, rm, rv = BatchNormalization<training_mode = 1>(a, s, b0, m, v)"
    " c, mask = Dropout(b, half, yes) y = Softmax(c) }"
)


def saved(path, body, **arrays):
    model = parser.parse_model(HEAD + body)
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    onnx.save(model, path)
    return path


def weights(**more):
    rng = np.random.default_rng(0)
    found = {name: rng.uniform(0.5, 1.5, 3).astype(np.float32) for name in ("s", "b0", "m", "v")}
    return {"w": rng.standard_normal((6, 3)).astype(np.float32), **found, **more}


def dataset(path):
    return open_data(path).fit(
        {"x": Input((6,), np.dtype(np.float32))}, make("cross-entropy").targets([(1, 3)])
    )


def test_it_uses_running_statistics_and_no_dropout(tmp_path, data):
    """What a stock runtime would serve: the value by hand, and the loss read in front of the Softmax."""
    w = weights(half=np.float32(0.5), yes=np.array(True))
    opened = open_model(saved(tmp_path / "m.onnx", TRAINING, **w))
    found_model = original_of(opened, Serving(), ["y"], make("cross-entropy"))
    assert isinstance(found_model, Original)
    test = dataset(data).test
    x = test.batch(np.arange(len(test)), None).inputs["x"].astype(np.float64)
    scores = (x @ w["w"] - w["m"]) / np.sqrt(w["v"] + 1e-5) * w["s"] + w["b0"]
    (found,) = found_model.give(test, most=33)
    np.testing.assert_allclose(found, scores[:33], rtol=1e-4, atol=1e-5)
    labels = test.batch(np.arange(len(test)), None).targets["y"]
    score = found_model.score(test, ("accuracy", "loss"))
    assert score.value == pytest.approx((scores.argmax(1) == labels).mean())
    logs = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    assert score.further["loss"] == pytest.approx(-logs[np.arange(len(labels)), labels].mean(), rel=1e-5)


def test_no_kernel_is_a_reason_and_no_error(tmp_path, data):
    body = "{ a = MatMul(x, w) y = com.nobody.Foo(a) }"
    model = parser.parse_model(HEAD.replace("17]", '17, "com.nobody": 1]') + body)
    model.graph.initializer.append(numpy_helper.from_array(weights()["w"], "w"))
    onnx.save(model, tmp_path / "m.onnx")
    found = original_of(open_model(tmp_path / "m.onnx"), Serving(), ["y"], make("cross-entropy"))
    assert isinstance(found, Unjudged)
    assert "com.nobody" in found.reason


def test_what_cannot_be_judged_beforehand_trains_all_the_same(model, data, tmp_path, monkeypatch):
    def no_kernel(served):
        raise UnsupportedError("no kernel for Foo")

    monkeypatch.setattr(original, "predictor", no_kernel)
    said = []
    options = TrainOptions(epochs=2, batch=16, lr=0.05, sparsity=0.3, skip_latency=True)
    result = train(model, data, tmp_path / "run", options, say=said.append)
    assert "the model as it was brought cannot be judged: no kernel for Foo" in said
    assert result.gain.original is None
    assert result.as_json()["metric"]["original"] is None
    assert result.as_json()["metric"]["full"] == result.gain.scores[0].value

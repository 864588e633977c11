"""What a model is verified on, and what is said when nothing is proved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnx_oto.errors import UsageError
from onnx_oto.pipeline.feeding import parse_shapes

# 700 samples of sound at least: two layers that read 400 and 3 places.
SOUND = """
<ir_version: 8, opset_import: ["" : 17]>
sound (float[N,1,T] wave) => (float[N,4,L] y) {
    a = Conv<strides = [160]>(wave, w1)
    b = Relu(a)
    c = Conv(b, w2)
    d = Relu(c)
    y = Conv(d, w3)
}
"""
SOUND_SHAPES = {"w1": (8, 1, 400), "w2": (8, 8, 3), "w3": (4, 8, 1)}

# The number of rows is a secret of the Reshape: no size that is tried by itself fits.
SECRET = """
<ir_version: 8, opset_import: ["" : 17]>
secret (float[N,T,4] x) => (float[N,2] y) {
    a = MatMul(x, w1)
    b = Relu(a)
    m = ReduceMean<axes = [2]>(b)
    f = Flatten(m)
    p = MatMul(b, w2)
    q = ReduceSum<keepdims = 0>(p, one)
    t = Concat<axis = 1>(f, f)
    g = MatMul(t, w3)
    y = Add(q, g)
}
"""
SECRET_SHAPES = {"w1": (4, 6), "w2": (6, 2), "w3": (9998, 2)}

# Whatever is fed, the output is not a number, and nothing in front of it is there to be compared.
NOTHING = """
<ir_version: 8, opset_import: ["" : 17]>
nothing (float[N,4] x) => (float[N,2] y) {
    l = Div(zero, zero)
    k = Add(x, l)
    a = MatMul(k, w1)
    b = Relu(a)
    y = MatMul(b, w2)
}
"""


@pytest.fixture
def secret(models, write) -> Path:
    made = models(SECRET, SECRET_SHAPES)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "one"))
    return write(made)


def cut(cli, *arguments) -> dict:
    done = cli(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_long_inputs_are_found_and_the_others_counted(cli, models, write, tmp_path):
    found = cut(cli, "prune", write(models(SOUND, SOUND_SHAPES)), "-o", tmp_path / "c.onnx")["verify"]
    assert found["passed"]
    assert found["skipped"] > 0
    assert min(sizes["T"] for sizes in found["sizes"]) >= 720


def test_a_model_that_runs_nowhere_names_the_options(cli, refused, secret, tmp_path):
    message = refused(4, "prune", secret, "-o", tmp_path / "c.onnx")
    assert "does not run on random inputs" in message
    assert "--inputs FILE.npz" in message
    assert "--input-shape" in message
    assert not (tmp_path / "c.onnx").exists()


def test_a_shape_to_begin_with(cli, secret, tmp_path):
    found = cut(cli, "prune", secret, "-o", tmp_path / "c.onnx", "--input-shape", "x:2,4999,4")["verify"]
    assert found["sizes"][0] == {"N": 2, "T": 4999}
    again = cut(cli, "verify", tmp_path / "c.onnx", tmp_path / "c.onnx", "--input-shape", "x:2,4999,4")
    assert again["passed"]


def test_inputs_to_begin_with(cli, secret, tmp_path):
    np.savez(tmp_path / "i.npz", x=np.random.default_rng(0).standard_normal((3, 4999, 4)).astype(np.float32))
    zeroed = tmp_path / "z.onnx"
    options = ("--inputs", tmp_path / "i.npz")
    found = cut(cli, "prune", secret, "-o", tmp_path / "c.onnx", "--save-zeroed", zeroed, *options)["verify"]
    assert found["sizes"] == [{"N": 3, "T": 4999}, {"N": 1, "T": 4999}]
    assert cut(cli, "compact", zeroed, "-o", tmp_path / "d.onnx", *options)["lanes"]["removed"] == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "write NAME:d0,d1"),
        ("x:a,b", "write NAME:d0,d1"),
        ("x:0,1,2", "write NAME:d0,d1"),
        ("q:1,2,3", "has no input 'q'"),
        ("x:2,4999", "has 3 axes"),
        ("x:2,4999,5", "does not fit"),
    ],
)
def test_shapes_that_do_not_fit(refused, secret, tmp_path, text, message):
    assert message in refused(2, "prune", secret, "-o", tmp_path / "c.onnx", "--input-shape", text)


def test_shapes_as_text():
    assert parse_shapes(["a:b:1,2"]) == {"a:b": (1, 2)}
    with pytest.raises(UsageError, match=r"'a:1,-2' is no shape"):
        parse_shapes(["a:1,-2"])


def test_a_fixed_first_size_takes_several_feeds(cli, models, write, tmp_path):
    model = write(models(SOUND.replace("N,1,T", "2,1,1600").replace("N,4,L", "2,4,6"), SOUND_SHAPES))
    wave = np.random.default_rng(0).standard_normal((6, 1, 1600)).astype(np.float32)
    np.savez(tmp_path / "i.npz", wave=wave)
    assert cut(cli, "verify", model, model, "--inputs", tmp_path / "i.npz")["samples"] == 6
    found = cut(cli, "prune", model, "-o", tmp_path / "c.onnx", "--inputs", tmp_path / "i.npz")
    assert found["verify"]["samples"] == 6


def test_nothing_is_written_when_nothing_is_proved(refused, models, write, tmp_path):
    made = models(NOTHING, {"w1": (4, 6), "w2": (6, 2)})
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0, np.float32), "zero"))
    source = write(made)
    message = refused(4, "prune", source, "-o", tmp_path / "c.onnx")
    assert "nothing is proved" in message
    assert "--inputs" in message
    assert not (tmp_path / "c.onnx").exists()
    assert "nothing is proved" in refused(4, "verify", source, source)


def test_the_rehearsal_of_training_takes_them_too(refused, model, data, tmp_path):
    arguments = ("train", model, "--data", data, "--run", tmp_path / "run")
    assert "has 4 axes" in refused(2, *arguments, "--input-shape", "image:2,17")
    np.savez(tmp_path / "i.npz", image=np.ones((2, 1, 8, 9), np.float32))
    assert "'image' is float32 [2, 1, 8, 9]" in refused(5, *arguments, "--inputs", tmp_path / "i.npz")


def test_what_the_runtime_refuses_is_said(cli, models, write, tmp_path):
    text = """<ir_version: 8, opset_import: ["" : 14]>
    r (float[N,7,5] x) => (float[N,4] y) { o, h = LSTM<hidden_size = 8, layout = 1>(x, w, r) s = Squeeze(h, one)
    y = MatMul(s, v) }"""
    made = models(text, {"w": (1, 32, 5), "r": (1, 32, 8), "v": (8, 4)})
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "one"))
    done = cli("prune", write(made), "-o", tmp_path / "c.onnx")
    assert done.returncode == 0, done.stderr
    assert "in onnx reference evaluator" in done.stdout
    assert "NOT in ONNX Runtime" in done.stdout

"""Training with norms put back: the files hold the graph that was brought."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.pipeline.options import TrainOptions
from onnx_oto.pipeline.train import train
from onnx_oto.runtime.comparing import compare
from tests.contract.builder import build

SHORT = {"epochs": 20, "batch": 16, "lr": 0.05, "shards": 1, "batch_norm": "put-back"}
TEXT = """g (float[N,1,8,8] x) => (float[N,3] y)
<float[8,1,3,3] w1, float[8] b1, float[8,1,3,3] w2, float[8] b2, float[8,8,1,1] w3, float[8] b3,
 float[8,3] w4, float[3] b4> {
    a = Conv<pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(a)
    c = Conv<group=8, pads=[1,1,1,1]>(r, w2, b2)
    e = Relu(c)
    f = Conv(e, w3, b3)
    s = Add(f, r)
    p = GlobalAveragePool(s)
    q = Flatten(p)
    y = Gemm(q, w4, b4)
}"""


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((3, 8, 8))
    arrays = {}
    for split, count in (("train", 128), ("test", 48)):
        y = np.arange(count) % 3
        x = patterns[y] + 0.5 * rng.standard_normal((count, 8, 8))
        arrays |= {f"x_{split}": x.astype(np.float32), f"y_{split}": y}
    np.savez(tmp_path / "images.npz", **arrays)
    return tmp_path / "images.npz"


def saved(tmp_path, model=None):
    onnx.save(build(TEXT) if model is None else model, tmp_path / "cnn.onnx")
    return tmp_path / "cnn.onnx"


def values(path):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def kinds(path):
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("optimizer", ["dhspg", "dense"])
def test_the_structure_that_was_brought_comes_back(tmp_path, images, optimizer):
    model, said = saved(tmp_path), []
    options = TrainOptions(optimizer=optimizer, round_to=1, **SHORT)
    result = train(model, images, tmp_path / "run", options, say=said.append)
    for name in ("trained", "compact"):
        assert kinds(tmp_path / "run" / f"{name}.onnx") == kinds(model)
    before, after = values(model), values(tmp_path / "run" / "trained.onnx")
    assert {name: value.shape for name, value in before.items()} == {n: v.shape for n, v in after.items()}
    assert all(not np.array_equal(before[name], after[name]) for name in before)
    assert any(
        text.startswith("a BatchNormalization is put back behind '") and "and 2 more layers" in text
        for text in said
    )
    assert any("1 that give an output" in text for text in said)
    folded = [
        text for text in said if text.startswith("the norms put back are folded in again: largest difference")
    ]
    assert len(folded) == 1
    full, small = result.gain.scores
    assert full.value == small.value > 0.8
    if optimizer == "dhspg":
        zero = [k for k in range(8) if not after["w1"][k].any()]
        assert len(zero) == result.gain.summary.removed == 4
        for weight, bias in (("w1", "b1"), ("w2", "b2"), ("w3", "b3")):
            assert all(not after[weight][k].any() and after[bias][k] == 0 for k in zero)
        trained, compact = (onnx.load(tmp_path / "run" / f"{name}.onnx") for name in ("trained", "compact"))
        assert compare(trained, compact, seed=5).passed
        scores = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
        last = [each["value"] for each in scores if each.get("kind") == "epoch"][-1]
        assert full.value == pytest.approx(last)  # the session with norms, the file without


def test_before_the_first_real_step_the_function_is_what_it_was(tmp_path, images):
    options = TrainOptions(
        **{**SHORT, "lr": 1e-12, "epochs": 1}, optimizer="dense", weight_decay=0.0, fixed_statistics=True
    )
    model = saved(tmp_path)
    train(model, images, tmp_path / "run", options)
    before, after = values(model), values(tmp_path / "run" / "trained.onnx")
    for name, value in before.items():
        np.testing.assert_allclose(after[name], value, rtol=1e-5, atol=1e-6)


def test_the_scale_of_a_norm_has_no_decay_and_its_gradient_is_used(tmp_path, images):
    from onnx_oto.training.checkpoint import load_checkpoint

    train(
        saved(tmp_path), images, tmp_path / "run", TrainOptions(optimizer="dense", **{**SHORT, "epochs": 1})
    )
    checkpoint = load_checkpoint(tmp_path / "run" / "checkpoint.npz")
    assert {"b1__scale1", "b2__scale1", "b3__scale1"} <= set(checkpoint.slices)
    assert {"b1__mean1", "b1__variance1"} <= set(checkpoint.buffers)


def test_a_frozen_layer_stays_as_it_was(tmp_path, images):
    model, said = saved(tmp_path), []
    options = TrainOptions(freeze=("w3", "b3"), optimizer="dense", **SHORT)
    train(model, images, tmp_path / "run", options, say=said.append)
    before, after = values(model), values(tmp_path / "run" / "trained.onnx")
    assert np.array_equal(before["w3"], after["w3"])
    assert np.array_equal(before["b3"], after["b3"])
    assert not np.array_equal(before["b2"], after["b2"])
    assert any("1 that do not train" in text for text in said)


def test_half_precision_comes_back(tmp_path, images):
    model = build(TEXT)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    path = saved(tmp_path, model)
    result = train(path, images, tmp_path / "run", TrainOptions(round_to=1, **SHORT))
    assert kinds(tmp_path / "run" / "compact.onnx") == kinds(path)
    assert {value.dtype for value in values(tmp_path / "run" / "compact.onnx").values()} == {
        np.dtype(np.float16)
    }
    assert result.gain.scores[1].value > 0.8


def test_the_same_seed_gives_the_same_bytes(tmp_path, images):
    model = saved(tmp_path)
    for name in ("one", "two"):
        train(model, images, tmp_path / name, TrainOptions(**{**SHORT, "epochs": 2}))
    one, two = ((tmp_path / name / "compact.onnx").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_model_without_such_layers_is_refused(tmp_path, images):
    text = "g (float[N,1,8,8] x) => (float[N,3] y) <float[4,1,3,3] w, float[400,3] v> " \
        "{ a = Conv(x, w) r = Relu(a) f = Flatten(r) y = MatMul(f, v) }"  # fmt: skip
    text = text.replace("[400,3]", "[144,3]")
    with pytest.raises(
        UnsupportedError, match=r"finds no layer with a bias .* in 'cnn.onnx'; leave --batch-norm out"
    ):
        train(saved(tmp_path, build(text)), images, tmp_path / "run", TrainOptions(**SHORT))
    assert not (tmp_path / "run").exists()


def test_it_goes_with_a_teacher(tmp_path, images):
    arrays = {name: value for name, value in np.load(images).items() if name.startswith("x_")}
    np.savez(tmp_path / "plain.npz", **arrays)
    model, said = saved(tmp_path), []
    options = TrainOptions(round_to=1, **{**SHORT, "epochs": 2})
    result = train(model, tmp_path / "plain.npz", tmp_path / "run", options, say=said.append)
    assert result.gain.summary.removed == 4
    assert kinds(tmp_path / "run" / "compact.onnx") == kinds(model)
    assert any(text.startswith("the norms put back are folded in again") for text in said)


def test_layers_that_the_loss_does_not_need_are_left_as_they_are(tmp_path):
    """Data have nothing for an input that only they read."""
    text = TEXT.replace("x) => (float[N,3] y)", "x, float[N,4] z) => (float[N,3] y, float[N,2] o)")
    text = text.replace("float[3] b4>", "float[3] b4, float[4,5] w5, float[5] b5, float[5,2] w6>")
    text = text.replace(
        "    y = Gemm", "    h = Gemm(z, w5, b5)\n    i = Relu(h)\n    o = MatMul(i, w6)\n    y = Gemm"
    )
    model, said, rng = saved(tmp_path, build(text)), [], np.random.default_rng(0)
    x = {
        f"x_{split}__x": rng.random((count, 1, 8, 8), np.float32)
        for split, count in [("train", 32), ("test", 8)]
    }
    np.savez(tmp_path / "unlabelled.npz", **x)
    options = TrainOptions(
        **{**SHORT, "epochs": 2, "lr": 0.001}, loss="distill", model_output="y", optimizer="dense"
    )
    train(model, tmp_path / "unlabelled.npz", tmp_path / "run", options, say=said.append)
    line = next(each for each in said if "is put back" in each)
    assert "'Conv_0' and 2 more layers for training" in line
    assert "1 that do not train" in line
    before, after = values(model), values(tmp_path / "run" / "trained.onnx")
    assert all(np.array_equal(before[name], after[name]) for name in ("w5", "b5", "w6"))


def test_who_brings_a_trained_model_without_norms_is_told(tmp_path, images):
    hint = "3 layers have a bias and no norm: if an exporter folded norms away, --batch-norm put-back trains with them"
    short = {"epochs": 1, "batch": 16, "shards": 1, "lr": 0.01, "optimizer": "dense"}
    model = saved(tmp_path)
    for name, options, told in (
        ("a", TrainOptions(from_="trained", **short), True),
        ("b", TrainOptions(from_="scratch", **short), False),
        ("c", TrainOptions(from_="trained", batch_norm="put-back", **short), False),
    ):
        said: list[str] = []
        train(model, images, tmp_path / name, options, say=said.append)
        assert (hint in said) is told

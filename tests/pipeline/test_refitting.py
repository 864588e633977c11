"""`prune --data`: what can be kept is kept, compact equals the zeroed full model, odd models and data are survived."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import onnx_oto
from onnx_oto.model import load
from onnx_oto.pipeline.prune import Pruned
from onnx_oto.runtime.comparing import random_inputs
from onnx_oto.runtime.runner import runner
from tests.contract.builder import build, in_half_precision, in_precision
from tests.contract.test_graphs import GRAPHS

Prune = Callable[..., Pruned]

BEGIN = """g (float[N,3,8,8] x) => (float[N,4] y) <float[16,3,3,3] w0, float[16] b0, float[8,4] w2, {}>
{{ a = Conv<pads=[1,1,1,1]>(x, w0, b0) r = Relu(a) {} d = Relu(n) p = GlobalAveragePool(d) q = Flatten(p)
  y = MatMul(q, w2) }}"""
DENSE = """g (float[N,6] x) => (float[N,4] y) <float[6,16] w0, float[16] b0, float[8,4] w2, {}>
{{ a = Gemm(x, w0, b0) r = Relu(a) {} d = Relu(n) y = MatMul(d, w2) }}"""
FORMS = {
    "Conv, bias": BEGIN.format("float[8,16,3,3] w1, float[8] b1", "n = Conv<pads=[1,1,1,1]>(r, w1, b1)"),
    "Conv, BatchNormalization": BEGIN.format(
        "float[8,16,3,3] w1, float[8] s, float[8] t, float[8] m, float[8] var",
        "c = Conv<strides=[2,2]>(r, w1) n = BatchNormalization(c, s, t, m, var)",
    ),
    "Conv, Add": BEGIN.format("float[8,16,1,1] w1, float[8,1,1] b1", "c = Conv(r, w1) n = Add(c, b1)"),
    "Conv, no bias": BEGIN.format("float[8,16,3,3] w1", "n = Conv(r, w1)"),
    "Conv, two groups": BEGIN.format("float[8,8,3,3] w1, float[8] b1", "n = Conv<group=2>(r, w1, b1)"),
    "Gemm": DENSE.format("float[16,8] w1, float[8] b1", "n = Gemm(r, w1, b1)"),
    "Gemm, alpha and beta": DENSE.format(
        "float[8,16] w1, float[8] b1", "n = Gemm<transB=1,alpha=0.25,beta=3.0>(r, w1, b1)"
    ),
    "Gemm, alpha, Add": DENSE.format(
        "float[16,8] w1, float[8] b1", "c = Gemm<alpha=0.25>(r, w1) n = Add(c, b1)"
    ),
    "MatMul, Add": DENSE.format("float[16,8] w1, float[8] b1", "c = MatMul(r, w1) n = Add(c, b1)"),
    "MatMul, no bias": DENSE.format("float[16,8] w1", "n = MatMul(r, w1)"),
}


def values(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {each.name: numpy_helper.to_array(each).copy() for each in model.graph.initializer}


def put(model: onnx.ModelProto, **arrays: np.ndarray) -> onnx.ModelProto:
    """Set initializers, in place and in their types."""
    for tensor in model.graph.initializer:
        if tensor.name in arrays:
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
            tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name].astype(kind), tensor.name))
    return model


def copies(model: onnx.ModelProto, *, interleaved: bool = False) -> onnx.ModelProto:
    """Let every second half of what w0 and b0 make be a copy of the first, in place."""
    found = values(model)
    axis = 1 if found["w0"].ndim == 2 else 0
    half = np.repeat(np.arange(8), 2) if interleaved else np.arange(16) % 8
    return put(model, w0=found["w0"].take(half, axis), b0=found["b0"][half])


def inputs(shape: tuple[int, ...], count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, *shape)).astype(np.float32)


@pytest.fixture
def prune(tmp_path: Path) -> Prune:
    """Prune a model by samples of these shapes; compact equals zeroed, by the files that were written."""

    def run(
        model: onnx.ModelProto,
        arrays: Mapping[str, np.ndarray] | tuple[int, ...],
        count: int = 200,
        **settings: Any,
    ) -> Pruned:
        onnx.save(model, tmp_path / "model.onnx")
        if isinstance(arrays, tuple):
            arrays = {"x_train": inputs(arrays, count), "x_test": inputs(arrays, 40, 1)}
        np.savez(tmp_path / "data.npz", **arrays)
        told: list[str] = []
        result = onnx_oto.prune(
            tmp_path / "model.onnx",
            tmp_path / "compact.onnx",
            data=tmp_path / "data.npz",
            save_zeroed=tmp_path / "zeroed.onnx",
            **{"round_to": 1, "skip_latency": True, "say": told.append, **settings},
        )
        result.__dict__["told"] = told
        assert result.summary.verdict.passed
        return result

    return run


def ran(path: Path, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return runner(load(path))(dict(feed))


def kept(path: Path, name: str = "w0") -> tuple[int, ...]:
    return values(load(path))[name].shape


# --- what the others say as well is kept ------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FORMS)
def test_copies_go_and_nothing_is_lost(prune: Prune, tmp_path: Path, name: str) -> None:
    """A third of 24 channels: the eight copies, of all, and outputs are what they were, to rounding."""
    model = copies(build(FORMS[name]), interleaved="groups" in name)
    shape = (6,) if name.startswith(("Gemm", "MatMul")) else (3, 8, 8)
    result = prune(model, shape, sparsity=8 / 24)
    assert result.summary.removed == 8
    assert sorted(kept(tmp_path / "compact.onnx"))[-1] == 8
    assert result.judged is not None
    assert result.judged.refitted is not None
    assert result.judged.cut.change > 0.01
    assert result.judged.refitted.change < 1e-5
    assert result.judged.left < 1e-5
    feed = {"x": inputs(shape, 5, 3)}
    (full,), (small,) = runner(model)(feed), ran(tmp_path / "compact.onnx", feed)
    np.testing.assert_allclose(small, full, atol=1e-5 * np.abs(full).max())


@pytest.mark.parametrize("change", [in_half_precision, lambda m: in_precision(m, TensorProto.DOUBLE)])
def test_other_floats(prune: Prune, tmp_path: Path, change: Any) -> None:
    for name, shape in (("Conv, bias", (3, 8, 8)), ("MatMul, Add", (6,))):
        result = prune(change(copies(build(FORMS[name]))), shape, sparsity=8 / 24)
        assert result.judged.refitted.change < min(5e-3, 0.1 * result.judged.cut.change)


def test_a_fixed_batch_takes_fewer_samples_too(prune: Prune, tmp_path: Path) -> None:
    """32 samples of which the model takes ten, or forty, at once: all are seen, none twice."""
    for batch in (10, 40):
        model = copies(build(FORMS["MatMul, Add"].replace("[N,", f"[{batch},")))
        result = prune(model, (6,), count=64, sparsity=8 / 24)
        assert any("watched on 52 samples" in line for line in result.__dict__["told"])
        assert result.judged.refitted.change < 1e-5


# --- what is left alone -----------------------------------------------------------------------------------------------
TIED = """g (float[N,6] x) => (float[N,4] y) <float[6,16] w0, float[16,16] t, float[16,4] w2>
{ a = MatMul(x, w0) r = Relu(a) b = MatMul(r, t) c = Relu(b) d = MatMul(c, t) e = Relu(d) y = MatMul(e, w2) }"""
TWICE = """g (float[N,6] x) => (float[N,4] y) <float[6,16] w0, float[6,16] v0, float[16,4] w1>
{ a = MatMul(x, w0) r = Relu(a) c = MatMul(r, w1) b = MatMul(x, v0) s = Tanh(b) d = MatMul(s, w1) y = Add(c, d) }"""


@pytest.mark.parametrize("text", [TIED, TWICE])
def test_tied_weights_stay_as_they_are(prune: Prune, tmp_path: Path, text: str) -> None:
    """One parameter of the file, though the normal form may have copies: no values change, and it stays one."""
    model = build(text)
    before = {value for array in values(model).values() for value in array.ravel().tolist()}
    result = prune(model, (6,), sparsity=0.4)
    assert result.summary.removed > 0
    small, full = values(onnx.load(tmp_path / "compact.onnx")), values(model)
    for name, array in small.items():
        if name in ("t", "w1"):
            assert set(array.ravel().tolist()) <= before
            assert array.size < full[name].size
    assert len(small) <= len(full)


def test_a_bias_that_is_an_output_stays(prune: Prune, tmp_path: Path) -> None:
    text = FORMS["Gemm"].replace("=> (float[N,4] y)", "=> (float[N,4] y, float[8] z)")
    model = build(text.replace("d = Relu(n)", "d = Relu(n) z = Identity(b1)"))
    prune(model, (6,), sparsity=0.3, model_output="y")
    feed = {"x": inputs((6,), 2)}
    np.testing.assert_array_equal(ran(tmp_path / "compact.onnx", feed)[1], values(model)["b1"])


def test_what_a_loop_reads_too_stays(prune: Prune, tmp_path: Path) -> None:
    text = """g (float[N,6] x) => (float[N,4] y) <float[6,16] w0, float[16,12] w1, float[12,4] w> {
      a = MatMul(x, w0) r = Relu(a) e = MatMul(r, w1) f = Relu(e) c = MatMul(f, w)
      n = Constant<value_int=2>() cond = Constant<value=bool {1}>()
      y = Loop<body = b (int64 i, bool go, float[N,4] s) => (bool on, float[N,4] t)
        { on = Identity(go) k = MatMul(f, w) t = Add(s, k) }>(n, cond, c)
    }"""
    result = prune(build(text), (6,), sparsity=0.3)
    assert result.summary.removed > 0
    assert result.judged.refitted is not None


def test_what_no_known_layer_reads_goes_by_its_weights(prune: Prune, tmp_path: Path) -> None:
    """An LSTM reads the first half of a layer, a product the second: the half that is not seen is not free."""
    text = """g (float[N,T,6] x) => (float[N,T,4] y)
    <float[6,16] w0, float[1,32,8] wx, float[1,32,8] wr, float[8,8] w1, float[8,4] w2, float[8,4] w3> {
      a = MatMul(x, w0) r = Relu(a) b, c = Split<axis=2>(r) t = Transpose<perm=[1,0,2]>(b)
      l, h, s = LSTM<hidden_size=8>(t, wx, wr) q = Squeeze(l, one) u = Transpose<perm=[1,0,2]>(q) v = MatMul(u, w2)
      d = MatMul(c, w1) e = Relu(d) f = MatMul(e, w3) y = Add(v, f) }"""
    model = build(text.replace("<float[6,16] w0,", "<float[6,16] w0, int64[1] one = {1},"))
    result = prune(model, (5, 6), sparsity=0.4)
    assert 0.3 < result.summary.removed / result.summary.prunable < 0.5
    plain = prune(model, (5, 6), sparsity=0.4, by="magnitude", scope="global", skip_refit=True)
    assert result.judged.refitted.change < plain.judged.cut.change


def test_before_opset_nine_channels_are_ranked_all_the_same(prune: Prune) -> None:
    result = prune(build(FORMS["Conv, bias"], opset=8), (3, 8, 8), sparsity=0.4)
    told = result.__dict__["told"]
    assert any("no layers (that needs opset 9, the model has 8)" in line for line in told), told
    assert result.judged.refitted is not None
    assert result.judged.layers == 0


# --- odd values -------------------------------------------------------------------------------------------------------
def test_all_weights_zero(prune: Prune, tmp_path: Path) -> None:
    """Of one branch: the other one makes the outputs, and is left."""
    model = build(
        TWICE.replace("d = MatMul(s, w1)", "d = MatMul(s, v1)").replace("v0,", "v0, float[16,4] v1,")
    )
    put(model, **{name: np.zeros_like(values(model)[name]) for name in ("v0", "v1")})
    result = prune(model, (6,), sparsity=0.5)
    assert result.judged.refitted.change < 0.1
    assert kept(tmp_path / "compact.onnx", "w0")[1] > 12


def test_dead_channels_go_first(prune: Prune, tmp_path: Path) -> None:
    model = build(FORMS["Conv, bias"])
    found = values(model)
    found["w0"][::2], found["b0"][::2] = 0, -1
    result = prune(put(model, **found), (3, 8, 8), sparsity=8 / 24)
    assert kept(tmp_path / "compact.onnx")[0] == 8
    assert result.judged.refitted.change < 1e-5
    np.testing.assert_array_equal(values(onnx.load(tmp_path / "compact.onnx"))["w0"], found["w0"][1::2])


def test_a_weight_that_is_no_number_is_survived(prune: Prune) -> None:
    """One channel of 24 gives no numbers; nobody can say what the others are worth, but nothing breaks."""
    model = build(FORMS["MatMul, Add"])
    found = values(model)
    found["w1"][3, 2] = np.nan
    onnx.checker.check_model(put(model, **found))
    try:
        prune(model, (6,), sparsity=0.3)
    except onnx_oto.OtoError as error:
        assert "nan" in str(error).lower() or "not finite" in str(error)  # noqa: PT017


def test_samples_on_which_the_model_overflows_are_left_out(prune: Prune) -> None:
    x = inputs((6,), 200)
    x[::7] = 3e38
    result = prune(
        copies(build(FORMS["MatMul, Add"])), {"x_train": x, "x_test": inputs((6,), 40)}, sparsity=8 / 24
    )
    assert result.judged.refitted.change < 1e-5


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_few_samples_harm_little(prune: Prune, count: int) -> None:
    """Of so few nothing is believed but means: no worse than magnitude alone by much."""
    model = build(FORMS["Conv, bias"])
    result = prune(model, (3, 8, 8), count=count, sparsity=0.3)
    plain = prune(model, (3, 8, 8), count=count, sparsity=0.3, by="magnitude", skip_refit=True)
    assert result.judged.refitted.change < 1.1 * plain.judged.cut.change


def test_constant_data_tell_nothing_and_break_nothing(prune: Prune) -> None:
    x = np.ones((50, 6), np.float32)
    result = prune(build(FORMS["MatMul, Add"]), {"x_train": x, "x_test": x}, sparsity=0.4)
    assert result.judged.refitted.change < 0.05  # biases make up for all of a constant


# --- what is asked for ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "settings",
    [
        {"scope": "dimension", "sparsity": 0.4},
        {"by": "magnitude", "sparsity": 0.4},
        {"by": "random", "seed": 3, "sparsity": 0.4},
        {"macs": 0.5},
        {"params": 0.6, "sparsity": 0.2},
        {"macs": 0.6, "round_to": 4},
        {"sparsity": 0.4, "round_to": "auto"},
        {"sparsity": 0.9, "min_keep": 0.25},
    ],
    ids=str,
)
def test_any_budget_and_order(prune: Prune, settings: dict[str, Any]) -> None:
    model = build(FORMS["Conv, BatchNormalization"])
    result = prune(model, (3, 8, 8), **settings)
    judged = result.judged
    assert result.summary.removed > 0
    assert judged.refitted.change < judged.cut.change
    again = prune(model, (3, 8, 8), **settings)
    assert again.judged == judged


def test_without_refit_weights_stay(prune: Prune, tmp_path: Path) -> None:
    model = build(FORMS["Conv, bias"])
    result = prune(model, (3, 8, 8), sparsity=0.4, skip_refit=True)
    assert result.judged.refitted is None
    before = set(values(model)["w1"].ravel().tolist())
    assert set(values(onnx.load(tmp_path / "compact.onnx"))["w1"].ravel().tolist()) <= before
    assert set(result.as_json()["judged"]) == {"original", "cut"}


def test_nothing_goes_and_nothing_changes(prune: Prune, tmp_path: Path) -> None:
    model = build(FORMS["Conv, bias"])
    result = prune(model, (3, 8, 8), sparsity=0.0)
    assert result.judged.refitted is None
    for name, array in values(onnx.load(tmp_path / "compact.onnx")).items():
        np.testing.assert_array_equal(array, values(model)[name])


def test_labels_give_a_metric(prune: Prune) -> None:
    x, y = inputs((6,), 300), np.arange(300) % 4
    model = build(FORMS["Gemm"])
    result = prune(
        model, {"x_train": x[:200], "y_train": y[:200], "x_test": x[200:], "y_test": y[200:]}, sparsity=0.3
    )
    found = json.loads(json.dumps(result.as_json()))["judged"]
    assert found["original"]["metric"]["name"] == "accuracy"
    assert found["original"]["samples"] == 100
    assert set(found) == {"original", "cut", "refitted", "layers", "error_left"}


def test_several_inputs(prune: Prune) -> None:
    text = """g (float[N,6] x, float[N,3,8,8] z) => (float[N,4] y)
    <float[6,16] w0, float[16] b0, float[12,3,3,3] v0, float[16,8] w1, float[8,12,3,3] v1, float[8,4] w2, float[8,4] v2>
    { a = Gemm(x, w0, b0) r = Relu(a) b = MatMul(r, w1) c = MatMul(b, w2)
      d = Conv(z, v0) e = Relu(d) f = Conv(e, v1) p = GlobalAveragePool(f) q = Flatten(p)
      g = MatMul(q, v2) y = Add(c, g) }"""
    arrays = {
        f"x_{split}__{name}": inputs(shape, count, count)
        for split, count in (("train", 100), ("test", 20))
        for name, shape in (("x", (6,)), ("z", (3, 8, 8)))
    }
    result = prune(build(text), arrays, sparsity=0.3)
    assert result.judged.layers >= 2
    assert result.judged.refitted.change < result.judged.cut.change


def test_weights_outside_the_file(prune: Prune, tmp_path: Path) -> None:
    model = copies(build(FORMS["Conv, bias"]))
    onnx.save(model, tmp_path / "outside.onnx", save_as_external_data=True, location="w", size_threshold=0)
    np.savez(tmp_path / "d.npz", x_train=inputs((3, 8, 8), 100), x_test=inputs((3, 8, 8), 20))
    result = onnx_oto.prune(
        tmp_path / "outside.onnx",
        tmp_path / "c.onnx",
        data=tmp_path / "d.npz",
        sparsity=8 / 24,
        round_to=1,
        skip_latency=True,
        kept=tmp_path / "kept.json",
    )
    assert result.judged.refitted.change < 1e-3
    found = json.loads((tmp_path / "kept.json").read_text())
    assert len(found["parameters"]["w0"]["axes"]["0"]) == kept(tmp_path / "c.onnx")[0]
    assert {"b1", "w1"} <= set(found["refitted"]) <= {"b0", "b1", "w0", "w1", "w2"}


# --- kinds of models --------------------------------------------------------------------------------------------------
def some(model: onnx.ModelProto, count: int, seed: int) -> dict[str, np.ndarray]:
    """Return samples of every input of a model, whose batch may be fixed."""
    parts: list[dict[str, np.ndarray]] = []
    while sum(len(next(iter(part.values()))) for part in parts) < count:
        rng = np.random.default_rng([seed, len(parts)])
        parts.append(random_inputs(model, rng, batch=count, size=8))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize(
    "name",
    [
        "attention with a mask and positions added",
        "rotary positions by Slice, Neg, Concat",
        "class token and positions (ViT)",
        "squeeze and excitation",
        "depthwise, multiplier 3",
        "recurrent layer in the middle",
    ],
)
def test_less_is_lost_than_by_magnitude(prune: Prune, name: str) -> None:
    model = next(each for each in GRAPHS if each.name == name).model()
    arrays = {}
    for split, count in (("train", 160), ("test", 32)):
        found = some(model, count, count)
        arrays |= {f"x_{split}__{key}" if len(found) > 1 else f"x_{split}": x for key, x in found.items()}
    result = prune(model, arrays, sparsity=0.25)
    plain = prune(model, arrays, sparsity=0.25, by="magnitude", scope="global", skip_refit=True)
    assert result.summary.removed == plain.summary.removed > 0
    assert result.judged.last.change < plain.judged.last.change


def test_a_detector_is_fitted_in_front_of_what_chooses(prune: Prune, tmp_path: Path) -> None:
    """What NonMaxSuppression gives is no function that changes little: boxes and scores in front of it are compared."""
    text = """g (float[1,3,8,8] x) => (int64[K,3] chosen)
    <float[16,3,3,3] w0, float[16] b0, float[12,16,3,3] w1, float[12] b1, float[4,12,1,1] wb, float[2,12,1,1] ws,
     int64[3] flat = {1,-1,4}, int64[3] classes = {1,2,-1}, int64 most = {5}, float share = {0.5}> {
      a = Conv<pads=[1,1,1,1]>(x, w0, b0) r = Relu(a) c = Conv<pads=[1,1,1,1]>(r, w1, b1) d = Relu(c)
      e = Conv(d, wb) t = Transpose<perm=[0,2,3,1]>(e) boxes = Reshape(t, flat)
      f = Conv(d, ws) g = Sigmoid(f) scores = Reshape(g, classes)
      chosen = NonMaxSuppression(boxes, scores, most, share) }"""
    result = prune(copies(build(text)), (3, 8, 8), sparsity=8 / 28)
    assert result.judged.refitted.change < 1e-4
    assert result.judged.cut.change > 0.01


def test_more_features_than_moments_are_kept_of(
    prune: Prune, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows in place of moments: 16 channels of 36 positions each, behind a Flatten."""
    monkeypatch.setattr("onnx_oto.refit.moments.WIDE", 500)
    text = """g (float[N,3,6,6] x) => (float[N,4] y) <float[16,3,3,3] w0, float[16] b0, float[576,8] w1, float[8] b1,
      float[8,4] w2> { a = Conv<pads=[1,1,1,1]>(x, w0, b0) r = Relu(a) f = Flatten(r) n = Gemm(f, w1, b1) d = Relu(n)
      y = MatMul(d, w2) }"""
    settings = {"sparsity": 4 / 24, "keep": ["w1"], "refit_samples": 1000}
    result = prune(copies(build(text)), (3, 6, 6), count=1000, **settings)
    assert result.judged.layers == 1
    assert result.judged.refitted.change < result.judged.cut.change
    assert 0.3 < result.judged.left < 0.95  # of rows that were left out


def test_few_large_samples_have_room(prune: Prune) -> None:
    """Of four samples 2,304 features are looked at everywhere, were it not for the memory of a run."""
    text = """g (float[N,3,16,16] x) => (float[N,4] y) <float[256,3,1,1] w0, float[16,256,3,3] w1, float[16,4] w2>
      { a = Conv(x, w0) r = Relu(a) c = Conv(r, w1) d = Relu(c) p = GlobalAveragePool(d) q = Flatten(p)
        y = MatMul(q, w2) }"""
    result = prune(build(text), (3, 16, 16), count=4, sparsity=0.3)
    assert result.judged.layers >= 1
    assert result.judged.refitted.change < result.judged.cut.change


def test_the_batch_may_be_on_another_axis(prune: Prune) -> None:
    text = """g (float[T,N,6] x) => (float[T,N,4] y) <float[6,16] w0, float[16] b0, float[16,8] w1, float[8,4] w2>
      { a = MatMul(x, w0) b = Add(a, b0) r = Relu(b) c = MatMul(r, w1) d = Relu(c) y = MatMul(d, w2) }"""
    result = prune(copies(build(text)), (5, 6), sparsity=8 / 24)
    assert result.judged.refitted.change < 1e-5


def test_large_models_are_measured_on_fewer_samples(prune: Prune, monkeypatch: pytest.MonkeyPatch) -> None:
    """By counting what it takes, not by a clock: the same samples on any machine."""
    for most, samples in ((3e12, 40), (1, 16)):
        monkeypatch.setattr("onnx_oto.pipeline.refitting.MOST_MACS", most)
        result = prune(build(FORMS["Conv, bias"]), (3, 8, 8), sparsity=0.3)
        assert any(f"was measured on {samples} samples" in line for line in result.__dict__["told"])

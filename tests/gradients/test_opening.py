"""Models exported for a fixed batch train on any batch, or are refused; never silently wrong."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients import TrainingSpec, choose_backend, prepare

from .conftest import Build, model_from, normal

W = {"w": normal(3, seed=1)}


def per_sample(model: onnx.ModelProto, x: np.ndarray, size: int) -> np.ndarray:
    """Return the outputs of the model for `size` samples at a time, as it was exported."""
    run = ReferenceEvaluator(model)
    return np.concatenate([run.run(None, {"x": x[i : i + size]})[0] for i in range(0, len(x), size)])


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


CASES = {
    "reshape target": (
        1,
        "(float[1, 3, 2] x) => (float[1, 6] y) { t = Transpose<perm=[0, 2, 1]>(x) a = Mul(t, w) y = Reshape(a, s) }",
        {"s": ints(1, 6)},
    ),
    "reshape target of four": (
        4,
        "(float[4, 2, 3] x) => (float[4, 6] y) { a = Mul(x, w) y = Reshape(a, s) }",
        {"s": ints(4, -1)},
    ),
    "batch merged and split again": (
        1,
        """(float[1, 4, 3] x) => (float[1, 4, 3] y) {
            a = Reshape(x, flat) b = Mul(a, w) c = Relu(b) y = Reshape(c, apart)
        }""",
        {"flat": ints(4, 3), "apart": ints(1, 4, 3)},
    ),
    "heads": (
        2,
        """(float[2, 4, 6] x) => (float[2, 4, 6] y) {
            a = Reshape(x, split) q = Transpose<perm=[0, 2, 1, 3]>(a) k = Transpose<perm=[0, 2, 3, 1]>(a)
            m = MatMul(q, k) p = Softmax(m) c = MatMul(p, q) v = Mul(c, w) t = Transpose<perm=[0, 2, 1, 3]>(v)
            y = Reshape(t, merge)
        }""",
        {"split": ints(2, 4, 2, 3), "merge": ints(2, 4, 6)},
    ),
    "initial state of zeros": (
        4,
        """(float[4, 5, 3] x) => (float[4, 2] y) { a = Mul(x, w) t = Transpose<perm=[1, 0, 2]>(a)
            o, h = GRU<hidden_size=2>(t, gw, gr, "", "", h0) y = Squeeze(h, zero) }""",
        {
            "gw": normal(1, 6, 3, seed=3), "gr": normal(1, 6, 2, seed=4), "h0": np.zeros((1, 4, 2), np.float32),
            "zero": ints(0),
        },
    ),
    "initial states that all samples share": (
        2,
        """(float[2, 5, 3] x) => (float[2, 2] y) { a = Mul(x, w) t = Transpose<perm=[1, 0, 2]>(a)
            o, h, c = LSTM<hidden_size=2>(t, gw, gr, "", "", h0, c0) y = Squeeze(h, zero) }""",
        {
            "gw": normal(1, 8, 3, seed=3), "gr": normal(1, 8, 2, seed=4), "zero": ints(0),
            "h0": np.repeat(normal(1, 1, 2, seed=5), 2, 1), "c0": np.repeat(normal(1, 1, 2, seed=6), 2, 1),
        },
    ),
    "an initial state of one row that trains": (
        1,
        """(float[1, 5, 3] x) => (float[1, 2] y) { a = Mul(x, w) t = Transpose<perm=[1, 0, 2]>(a)
            o, h = RNN<hidden_size=2>(t, gw, gr, "", "", w0) y = Squeeze(h, zero) }""",
        {
            "gw": normal(1, 2, 3, seed=3), "gr": normal(1, 2, 2, seed=4), "w0": normal(1, 1, 2, seed=5),
            "zero": ints(0),
        },
    ),
    "class token": (
        1,
        "(float[1, 2, 3] x) => (float[1, 3, 3] y) { c = Concat<axis=1>(token, x) y = Mul(c, w) }",
        {"token": normal(1, 1, 3, seed=2)},
    ),
    "resize sizes": (
        1,
        """(float[1, 2, 2, 3] x) => (float[1, 2, 4, 6] y) {
            a = Mul(x, w) y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric">(a, , , s)
        }""",
        {"s": ints(1, 2, 4, 6)},
    ),
    "nothing to change": (1, "(float[1, 2, 3] x) => (float[1, 2, 3] y) { y = Mul(x, w) }", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_opened_model_equals_the_fixed_one(build: Build, name: str) -> None:
    size, text, constants = CASES[name]
    model = model_from(text, {**W, **constants})
    session = build(model, ("w",), batch=8, shards=2)
    x = normal(8, *(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim[1:]), seed=5)
    expected = per_sample(model, x, size)
    np.testing.assert_allclose(session.predict({"x": x}), expected, rtol=1e-5, atol=1e-6)
    target = normal(*expected.shape, seed=6)
    assert session.step({"x": x}, target) == pytest.approx(float(((expected - target) ** 2).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "(float[1, 3] x) => (float[3] y) { a = Mul(x, w) y = Squeeze(a, zero) }",
            "cannot be followed to output 'y'",
        ),
        (
            "(float[1, 3] x) => (float[1, 1, 3] y) { a = Mul(x, w) y = Unsqueeze(a, zero) }",
            "cannot be followed",
        ),
        (
            "(float[1, 3] x, float[2, 3] z) => (float[2, 3] y) { a = Add(x, z) y = Mul(a, w) }",
            "first axes differ",
        ),
        (
            """(float[1, 9, 6] x) => (float[1, 9, 6] y) { a = MatMul(x, v) t = Transpose<perm=[1, 0, 2]>(a)
                r = Reshape(t, flat) g = Gemm(r, v) s = Reshape(g, apart) u = Transpose<perm=[1, 0, 2]>(s)
                y = Add(u, x) }""",
            "fixed to a batch of 1, and the shapes in it contradict each other with another one: export it with",
        ),
        (
            """(float[2, 5, 3] x) => (float[2, 3] y) { t = Transpose<perm=[1, 0, 2]>(x)
                o, h = RNN<hidden_size=3>(t, gw, gw, "", "", w) y = Squeeze(h, zero) }""",
            "fixed to a batch of 2, and the initial state 'w' has a row for each sample: export it with",
        ),
        # the mean over the batch is invisible with one sample
        (
            "(float[1, 3] x) => (float[1, 3] y) { a = Mul(x, w) m = ReduceMean<axes=[0]>(a) y = Sub(a, m) }",
            "computes something else with more samples at once",
        ),
    ],
)
def test_refusals(build: Build, text: str, message: str) -> None:
    more: dict[str, np.ndarray] = {}
    if "RNN" in text:
        more = {"w": normal(1, 2, 3, seed=3), "gw": normal(1, 3, 3, seed=4)}
    elif "flat" in text:
        more = {"v": normal(6, 6, seed=2), "flat": ints(9, 6), "apart": ints(9, 1, 6)}
    model = model_from(text, {**W, "zero": ints(0), **more})
    with pytest.raises(UnsupportedError, match=message):
        build(model, ("v" if "v" in more else "w",), batch=4)


def test_refusals_before_any_data() -> None:
    model = model_from(
        "(float[1, 3] x) => (float[3] y) { a = Mul(x, w) y = Squeeze(a, zero) }", {**W, "zero": ints(0)}
    )
    with pytest.raises(UnsupportedError, match="export it with a dynamic first axis"):
        prepare(model, TrainingSpec(("w",), "mse", 4), choose_backend())

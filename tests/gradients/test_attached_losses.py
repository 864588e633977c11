"""Each loss and its gradient with respect to the logits, against formulas in float64."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.gradients import TrainingSpec

from .conftest import Build, gradient_of, model_from, normal

N, C = 4, 3
LABELS = np.array([0, 2, 1, 2])


def softmax(z: np.ndarray, axis: int = 1) -> np.ndarray:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def logits_model(tail: str, shape: str = "3") -> object:
    """z = x + w, with the parameter w of the shape of one sample; `tail` computes y from z."""
    sizes = tuple(int(size) for size in shape.split(","))
    return model_from(
        f"(float[N, {shape}] x) => (float[N, {shape}] y) {{ z = Add(x, w) {tail} }}",
        {"w": np.zeros((1, *sizes), np.float32)},
    )


@pytest.mark.parametrize(
    "tail",
    ["y = Identity(z)", "y = Softmax<axis=1>(z)", "y = LogSoftmax(z)", "p = Softmax(z) y = Identity(p)"],
)
@pytest.mark.parametrize("shards", [1, 2])
def test_cross_entropy(build: Build, tail: str, shards: int) -> None:
    """A model that ends in Softmax is trained on its logits: -log softmax(z)[label], averaged."""
    session = build(logits_model(tail), ("w",), "cross-entropy", batch=N, shards=shards)
    x = normal(N, C)
    p = softmax(x.astype(np.float64))
    loss = session.step({"x": x}, LABELS.astype(np.uint8))
    assert loss == pytest.approx(-np.log(p[np.arange(N), LABELS]).mean(), rel=1e-6)
    expected = (p - np.eye(C)[LABELS]).mean(axis=0)
    np.testing.assert_allclose(gradient_of(session, "w").ravel(), expected, atol=1e-6)


def test_softmax_over_another_axis_is_part_of_the_model(build: Build) -> None:
    session = build(logits_model("y = Softmax<axis=2>(z)", "3, 2"), ("w",), "cross-entropy", batch=N)
    x = normal(N, C, 2)
    y = softmax(x.astype(np.float64), axis=2)
    labels = np.array([[0, 1], [2, 2], [1, 0], [0, 0]])
    p = softmax(y)
    expected = -np.log(np.take_along_axis(p, labels[:, None], axis=1)).mean()
    assert session.step({"x": x}, labels) == pytest.approx(expected, rel=1e-6)


def test_cross_entropy_per_pixel(build: Build) -> None:
    session = build(logits_model("y = Identity(z)", "3, 2, 2"), ("w",), "cross-entropy", batch=N)
    x, labels = normal(N, C, 2, 2), np.random.default_rng(0).integers(0, C, (N, 2, 2))
    p = softmax(x.astype(np.float64))
    expected = -np.log(np.take_along_axis(p, labels[:, None], axis=1)).mean()
    assert session.step({"x": x}, labels) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("loss", "value", "slope"),
    [
        ("mse", lambda z, t: (z - t) ** 2, lambda z, t: 2 * (z - t)),
        ("l1", lambda z, t: np.abs(z - t), lambda z, t: np.sign(z - t)),
        (
            "bce-with-logits",
            lambda z, t: np.logaddexp(0, z) - z * t,
            lambda z, t: 1 / (1 + np.exp(-z)) - t,
        ),
    ],
)
def test_elementwise_losses(build: Build, loss: str, value: object, slope: object) -> None:
    session = build(logits_model("y = Identity(z)"), ("w",), loss, batch=N, shards=2)
    x, target = normal(N, C), np.random.default_rng(1).random((N, C)).astype(np.float32)
    x[0] = [0.0, 60.0, -60.0]
    z = x.astype(np.float64)
    assert session.step({"x": x}, target) == pytest.approx(value(z, target).mean(), rel=1e-6)
    expected = slope(z, target).sum(axis=0) / (N * C)
    np.testing.assert_allclose(gradient_of(session, "w").ravel(), expected, atol=1e-6)


def test_bce_looks_through_a_final_sigmoid(build: Build) -> None:
    plain, squashed = (
        build(logits_model(tail), ("w",), "bce-with-logits", batch=N)
        for tail in ("y = Identity(z)", "y = Sigmoid(z)")
    )
    x, target = normal(N, C), np.ones((N, C), np.float32)
    assert squashed.step({"x": x}, target) == pytest.approx(plain.step({"x": x}, target), rel=1e-6)
    np.testing.assert_array_equal(squashed.predict({"x": x}), x)


def test_model_output_as_loss(build: Build) -> None:
    model = model_from(
        "(float[N, 3] x) => (float[1] y) {"
        " z = Mul(x, w) q = Mul(z, z) m = ReduceMean<keepdims=0>(q) y = Reshape(m, one) }",
        {"w": np.ones(3, np.float32), "one": np.array([1])},
    )
    session = build(model, ("w",), "output", batch=N, shards=2)
    x = normal(N, C)
    assert session.step({"x": x}, None) == pytest.approx(float((x.astype(np.float64) ** 2).mean()), rel=1e-6)
    np.testing.assert_allclose(
        gradient_of(session, "w"), 2 * (x.astype(np.float64) ** 2).sum(axis=0) / x.size, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("loss", "text", "message"),
    [
        (
            "cross-entropy",
            "(float[N, 1] x) => (float[N, 1] y) { y = Mul(x, w) }",
            "at least 2 classes on axis 1",
        ),
        ("cross-entropy", "(float[N] x) => (float[N] y) { y = Mul(x, w) }", "at least 2 classes on axis 1"),
        ("output", "(float[N, 1] x) => (float[N, 1] y) { y = Mul(x, w) }", "needs one number per batch"),
        (
            "mse",
            "(float[N, 1] x) => (float[1] y) { z = Mul(x, w) y = ReduceSum<keepdims=0>(z, axes) }",
            "must be the batch",
        ),
        (
            "mse",
            "(float[N, 1] x) => (double[N, 1] y) { z = Mul(x, w) y = Cast<to=11>(z) }",
            "the loss needs float32",
        ),
    ],
)
def test_outputs_that_do_not_suit(build: Build, loss: str, text: str, message: str) -> None:
    model = model_from(text, {"w": np.ones(1, np.float32), "axes": np.array([0])})
    with pytest.raises(UnsupportedError, match=message):
        build(model, ("w",), loss, batch=4)


def test_unknown_loss() -> None:
    with pytest.raises(UsageError, match="unknown loss 'hinge': choose one of cross-entropy, mse"):
        TrainingSpec(("w",), "hinge", 4)


@pytest.mark.parametrize("opset", [9, 12, 13, 21, 23])
@pytest.mark.parametrize(
    ("signature", "tail", "shape"),
    [
        ("(float[N,4,1,1] x) => (float[N,4] y)", "p = Softmax<axis=1>(z) y = Flatten(p)", (4, 1, 1)),
        (
            "(float[N,3,4] x) => (float[N,4,3] y)",
            "p = Softmax<axis=2>(z) y = Transpose<perm=[0,2,1]>(p)",
            (3, 4),
        ),
        (
            "(float[1,3,4] x) => (float[1,4,3] y)",
            "p = LogSoftmax<axis=2>(z) y = Transpose<perm=[0,2,1]>(p)",
            (3, 4),
        ),
    ],
)
def test_logits_behind_moves_in_every_opset(
    build: Build, opset: int, signature: str, tail: str, shape: tuple[int, ...]
) -> None:
    """Also where the batch is fixed and the opset is converted first; `predict` gives what training reads."""
    model = model_from(
        f"{signature} {{ z = Add(x, w) {tail} }}", {"w": np.zeros((1, *shape), np.float32)}, opset=opset
    )
    session = build(model, ("w",), "cross-entropy", batch=N, shards=2)
    x = normal(N, *shape)
    logits = x.reshape(N, 4) if len(shape) == 3 else x.transpose(0, 2, 1)
    labels = np.random.default_rng(1).integers(0, 4, (N, *logits.shape[2:]))
    picked = np.take_along_axis(softmax(logits.astype(np.float64)), labels[:, None], axis=1)
    assert session.step({"x": x}, labels) == pytest.approx(-np.log(picked).mean(), rel=1e-6)
    np.testing.assert_array_equal(session.predict({"x": x}), logits)

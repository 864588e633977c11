"""Sessions: shared memory, shards, prediction, and what happens to the user's model (nothing)."""

from __future__ import annotations

import gc

import numpy as np
import onnx
import pytest

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.gradients.preparation import shard_sizes

from .conftest import Build, gradient_of, model_from, normal

NET = """(float[N, 2, 6, 6] x) => (float[N, 4] y) {
    a = Conv<pads=[1, 1, 1, 1]>(x, w1, b1) r = Relu(a) p = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(r)
    f = Flatten(p) y = Gemm<transB=1>(f, w2, b2)
}"""
WEIGHTS = {
    "w1": normal(5, 2, 3, 3, seed=1) * 0.3,
    "b1": normal(5, seed=2),
    "w2": normal(4, 45, seed=3) * 0.1,
    "b2": normal(4, seed=4),
}
NAMES = ("w2", "b1", "w1", "b2")


def net() -> onnx.ModelProto:
    return model_from(NET, WEIGHTS)


def batch(n: int = 8) -> tuple[dict[str, np.ndarray], np.ndarray]:
    return {"x": normal(n, 2, 6, 6, seed=9)}, np.arange(n) % 4


def test_flat_layout_follows_the_spec(build: Build) -> None:
    session = build(net(), NAMES, "cross-entropy", batch=8)
    assert list(session.slices) == list(NAMES)
    assert session.params.shape == session.grads.shape == (sum(w.size for w in WEIGHTS.values()),)
    assert session.params.dtype == session.grads.dtype == np.float32
    expected = np.concatenate([WEIGHTS[name].ravel() for name in NAMES])
    np.testing.assert_array_equal(session.params, expected)
    assert session.params.ctypes.data % 64 == 0


@pytest.mark.parametrize("shards", [2, 3, 8])
def test_sharded_gradients_equal_the_unsharded(build: Build, shards: int) -> None:
    x, labels = batch()
    whole = build(net(), NAMES, "cross-entropy", batch=8, shards=1)
    split = build(net(), NAMES, "cross-entropy", batch=8, shards=shards)
    assert split.step(x, labels) == pytest.approx(whole.step(x, labels), abs=1e-6)
    np.testing.assert_allclose(split.grads, whole.grads, rtol=0, atol=1e-6)


def test_same_shards_are_bit_identical(build: Build) -> None:
    x, labels = batch()
    first, second = (build(net(), NAMES, "cross-entropy", batch=8, shards=2) for _ in range(2))
    assert first.step(x, labels) == second.step(x, labels)
    np.testing.assert_array_equal(first.grads, second.grads)


def test_parameters_are_shared_with_the_runtime(build: Build) -> None:
    """A change in place is seen by the next step and by predict, with every shard."""
    x, labels = batch()
    session = build(net(), NAMES, "cross-entropy", batch=8, shards=2)
    before, output = session.step(x, labels), session.predict(x)
    gc.collect()
    for _ in range(20):
        session.params -= 0.1 * session.grads
        after = session.step(x, labels)
    assert after < 0.5 * before
    assert not np.array_equal(session.predict(x), output)
    session.params[:] = 0.0
    np.testing.assert_array_equal(session.predict(x), np.zeros((8, 4), np.float32))


def test_gradients_land_in_the_same_array(build: Build) -> None:
    session = build(net(), NAMES, "cross-entropy", batch=8, shards=2)
    grads, address = session.grads, session.grads.ctypes.data
    x, labels = batch()
    session.step(x, labels)
    first = grads.copy()
    grads[:] = np.nan
    session.step(x, labels)
    assert session.grads is grads
    assert grads.ctypes.data == address
    np.testing.assert_array_equal(grads, first)


def test_gradient_against_differences_of_the_loss(build: Build) -> None:
    session = build(net(), NAMES, "cross-entropy", batch=8, shards=2)
    x, labels = batch()
    session.step(x, labels)
    direction = session.grads / np.linalg.norm(session.grads)
    slope, start = float(np.linalg.norm(session.grads)), session.params.copy()
    ends = []
    for sign in (1, -1):
        session.params[:] = start + sign * 1e-2 * direction
        ends.append(session.step(x, labels))
    assert (ends[0] - ends[1]) / 2e-2 == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("count", [1, 7, 8, 30])
def test_predict_takes_any_number(build: Build, count: int) -> None:
    session = build(net(), NAMES, "cross-entropy", batch=8, shards=2)
    x, _ = batch(count)
    runner = onnx.reference.ReferenceEvaluator(net())
    np.testing.assert_allclose(session.predict(x), runner.run(None, x)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("samples", [8, 100_000])
def test_an_evaluation_is_of_the_parameters_as_they_are_then(build: Build, samples: int) -> None:
    """Long ones hold the weights as constants: the same but for sums in another order."""
    session = build(net(), NAMES, "cross-entropy", batch=8, shards=2)
    x, _ = batch(30)
    session.step(*batch())
    for _ in range(2):
        session.params -= 0.5 * session.grads
        with session.evaluating(samples) as predict:
            found = predict(x)
            np.testing.assert_allclose(found, session.predict(x), rtol=0, atol=2e-6)
            if samples == 8:
                np.testing.assert_array_equal(found, session.predict(x))
            else:
                session.params += 1.0
                np.testing.assert_array_equal(predict(x), found)
                session.params -= 1.0


def test_weights_are_copies_under_their_names(build: Build) -> None:
    session = build(net(), NAMES, "cross-entropy", batch=8)
    weights = session.weights()
    assert {name: value.shape for name, value in weights.items()} == {n: w.shape for n, w in WEIGHTS.items()}
    session.params[:] = 0.0
    np.testing.assert_array_equal(weights["w1"], WEIGHTS["w1"])


def test_the_model_is_not_modified(build: Build) -> None:
    model = net()
    content = model.SerializeToString()
    session = build(model, NAMES, "cross-entropy", batch=8)
    session.params[:] = 0.0
    assert model.SerializeToString() == content


def test_untrained_weights_stay_and_unreached_ones_get_zero(build: Build) -> None:
    model = model_from(
        "(float[N, 2] x) => (float[N, 2] y, float[N, 2] other) {"
        " a = Mul(x, w) y = Mul(a, frozen) other = Mul(x, unused) }",
        {"w": normal(2), "frozen": normal(2, seed=1), "unused": normal(2, seed=2)},
    )
    session = build(model, ("unused", "w"), batch=2)
    x = {"x": normal(2, 2)}
    session.step(x, np.zeros((2, 2), np.float32))
    assert not gradient_of(session, "unused").any()
    assert gradient_of(session, "w").all()
    assert set(session.weights()) == {"unused", "w"}


@pytest.mark.parametrize("shards", [1, 2])
def test_unreached_weights_do_not_move_whatever_the_caller_leaves_in_the_gradients(
    build: Build, shards: int
) -> None:
    """An optimizer overwrites the gradients: read again as such they would grow without end."""
    model = model_from(
        "(float[N, 2] x) => (float[N, 2] y, float[N, 2] other) { y = Mul(x, w) other = Mul(x, unused) }",
        {"w": normal(2), "unused": normal(2, seed=2)},
    )
    session = build(model, ("unused", "w"), batch=2, shards=shards)
    for _ in range(3):
        session.step({"x": normal(2, 2)}, np.zeros((2, 2), np.float32))
        assert not gradient_of(session, "unused").any()
        session.grads[:] = 7.0
    assert session.still == {"unused"}


def test_held_weights_lie_behind_the_trained_ones_and_are_read(build: Build) -> None:
    model = model_from(
        "(float[N, 2] x) => (float[N, 2] y) { a = Mul(x, w) y = Mul(a, held) }",
        {"w": normal(2), "held": normal(2, seed=1)},
    )
    session = build(model, ("w",), batch=2, held=("held",))
    assert list(session.slices) == ["w", "held"]
    assert session.still == {"held"}
    x = {"x": normal(2, 2)}
    session.step(x, np.zeros((2, 2), np.float32))
    assert not gradient_of(session, "held").any()
    assert gradient_of(session, "w").all()
    session.params[2:] = 0.0
    assert not session.predict(x).any()
    assert session.step(x, np.zeros((2, 2), np.float32)) == 0.0
    assert not session.weights()["held"].any()


def test_large_frozen_weights_are_bound(build: Build) -> None:
    frozen = normal(80, 80)
    model = model_from(
        "(float[N, 80] x) => (float[N, 80] y) { a = Mul(x, w) y = MatMul(a, frozen) }",
        {"w": normal(80, seed=1), "frozen": frozen},
    )
    session = build(model, ("w",), batch=2, shards=2)
    x = normal(2, 80, seed=2)
    np.testing.assert_allclose(
        session.predict({"x": x}), (x * model_weight(model, "w")) @ frozen, rtol=1e-4, atol=1e-4
    )
    assert session.step({"x": x}, session.predict({"x": x})) == pytest.approx(0.0, abs=1e-9)


def model_weight(model: onnx.ModelProto, name: str) -> np.ndarray:
    return onnx.numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == name))


def test_tied_weights_get_the_sum(build: Build) -> None:
    model = model_from(
        "(float[N, 3] x) => (float[N, 3] y) { a = MatMul(x, w) y = MatMul(a, w) }", {"w": normal(3, 3)}
    )
    session = build(model, ("w",), batch=4)
    x, target = normal(4, 3, seed=1), normal(4, 3, seed=2)
    session.step({"x": x}, target)
    w, x64 = model_weight(model, "w").astype(np.float64), x.astype(np.float64)
    error = 2 * (x64 @ w @ w - target) / target.size
    expected = (x64 @ w).T @ error + x64.T @ (error @ w.T)
    np.testing.assert_allclose(gradient_of(session, "w"), expected, rtol=1e-4, atol=1e-5)


def test_nan_loss_is_returned(build: Build) -> None:
    session = build(net(), NAMES, "cross-entropy", batch=8)
    session.params[:] = np.nan
    assert np.isnan(session.step(*batch()))


def test_automatic_shards() -> None:
    assert shard_sizes(64, 0, 2, 16) == [32, 32]
    assert shard_sizes(31, 0, 8, 16) == [31]
    assert shard_sizes(31, 0, 8, 1) == [4] * 7 + [3]
    assert shard_sizes(100, 0, 4, 16) == [25] * 4
    assert shard_sizes(100, 3, 1, 16) == [34, 33, 33]
    assert shard_sizes(4, 0, 64, 16) == [4]
    assert shard_sizes(4, 0, 64, 1) == [1] * 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trainable": ("nope",)}, "trainable parameter 'nope' is not an initializer"),
        ({"trainable": ("w1", "w1")}, "trainable parameter 'w1' is named twice"),
        ({"trainable": ()}, "nothing to train"),
        ({"batch": 0}, "batch is 0"),
        ({"shards": 9}, "shards is 9: choose 0"),
        ({"output": "z"}, "the model has no output 'z': choose one of y"),
        ({"sample_shapes": {"q": (3,)}}, "no such input"),
    ],
)
def test_wrong_specs(build: Build, fields: dict[str, object], message: str) -> None:
    spec = {"trainable": NAMES, "loss": "cross-entropy", "batch": 8, **fields}
    with pytest.raises(UsageError, match=message):
        build(net(), spec.pop("trainable"), spec.pop("loss"), **spec)


def test_other_dtypes_are_refused(build: Build) -> None:
    model = model_from(
        "(float[N, 3] x) => (float[N, 3] y) { h = Cast<to=1>(w) y = Mul(x, h) }",
        {"w": np.ones(3, np.float16)},
    )
    with pytest.raises(UnsupportedError, match="parameter 'w' is float16: training needs float32"):
        build(model, ("w",), batch=4)


def test_nothing_reaches_the_loss(build: Build) -> None:
    model = model_from("(float[N, 3] x) => (float[N, 3] y) { y = Relu(x) z = Abs(w) }", {"w": normal(3)})
    with pytest.raises(UnsupportedError, match="no trainable parameter reaches the loss"):
        build(model, ("w",), batch=4)

"""What a batch must look like; every message names the array, and the sample where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from onnx_oto.errors import DataError
from onnx_oto.gradients import GradientSession

from .conftest import Build, model_from, normal

MODEL = """(float[N, 3] x, int64[N] ids, float[2] scale) => (float[N, 4] y) {
    e = Gather(table, ids) z = Concat<axis=1>(x, e) s = ReduceSum(scale) q = Mul(z, s) y = MatMul(q, w)
}"""
WEIGHTS = {"table": normal(5, 2), "w": normal(5, 4)}
GOOD: dict[str, Any] = {"x": normal(4, 3), "ids": np.array([0, 1, 2, 4]), "scale": normal(2)}
LABELS = np.array([0, 1, 2, 3])


@pytest.fixture
def session(build: Build) -> GradientSession:
    return build(model_from(MODEL, WEIGHTS), ("table", "w"), "cross-entropy", batch=4)


def poisoned(value: float) -> np.ndarray:
    x = normal(4, 3)
    x[2, 1] = value
    return x


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "input 'x' is missing: the batch must hold exactly x, ids, scale"),
        ({"extra": normal(4)}, "the model has no input 'extra'"),
        ({"x": [[1.0]]}, "x is a list: give a numpy array"),
        ({"x": np.zeros((4, 3))}, r"x is float64, the model reads float32: convert it with \.astype"),
        ({"ids": np.zeros(4, np.int32)}, "ids is int32, the model reads int64"),
        ({"x": normal(4, 2)}, r"x has shape \[4, 2\], the model reads \[N, 3\]"),
        ({"x": np.array(1.0, np.float32)}, r"x has shape \[\], the model reads \[N, 3\]"),
        ({"scale": normal(3)}, r"scale has shape \[3\], the model reads \[2\]"),
        ({"x": normal(0, 3)}, "x is empty: a batch needs at least one sample"),
        ({"x": normal(3, 3)}, "x has 3 samples, a training step takes exactly 4"),
        ({"x": poisoned(np.nan)}, r"x\[2\] holds nan at \[2, 1\]: inputs must be finite"),
        ({"x": poisoned(-np.inf)}, r"x\[2\] holds -inf"),
        ({"ids": np.array([0, 1, 9, 0])}, "ONNX Runtime refused the batch"),
    ],
)
def test_bad_batches(session: GradientSession, change: dict[str, Any], message: str) -> None:
    batch = {**GOOD, **change}
    batch = {name: array for name, array in batch.items() if array is not None}
    before = session.params.copy()
    with pytest.raises(DataError, match=message):
        session.step(batch, LABELS)
    assert session.steps == 0
    np.testing.assert_array_equal(session.params, before)
    assert np.isfinite(session.step(GOOD, LABELS))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "the target 'y' is NoneType"),
        (np.array([0, 1, 4, 0]), r"y\[2\] is 4: labels must lie in 0 to 3, the model has 4 classes"),
        (np.array([0, -1, 0, 0]), r"y\[1\] is -1"),
        (np.array([0, 10**9, 0, 0]), r"y\[1\] is 1000000000"),
        (np.array([0.0, 1.0, 2.0, 3.0]), "y is float64, the loss reads integer labels"),
        (np.array([True, False, True, True]), "y is bool, the loss reads integer labels"),
        (np.array([0, 1, 2]), r"y has shape \[3\], the loss reads \[4\]"),
        (np.zeros((4, 1), int), r"y has shape \[4, 1\], the loss reads \[4\]"),
    ],
)
def test_bad_labels(session: GradientSession, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        session.step(GOOD, labels)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (np.zeros((4, 4), int), "y is int64, the loss reads float32"),
        (np.zeros((4, 3), np.float32), r"y has shape \[4, 3\], the loss reads \[4, 4\]"),
        (np.full((4, 4), np.inf, np.float32), r"y\[0\] holds inf"),
    ],
)
def test_bad_regression_targets(build: Build, target: Any, message: str) -> None:
    session = build(model_from(MODEL, WEIGHTS), ("table", "w"), "mse", batch=4)
    with pytest.raises(DataError, match=message):
        session.step(GOOD, target)


def test_predict_is_validated_too(session: GradientSession) -> None:
    with pytest.raises(DataError, match="x is empty"):
        session.predict({**GOOD, "x": normal(0, 3)})
    with pytest.raises(DataError, match="x has 4, ids has 2"):
        session.predict({**GOOD, "ids": np.zeros(2, np.int64)})


def test_large_finite_values_pass(session: GradientSession) -> None:
    """Their sum overflows, so the quick check is not enough."""
    session.params[:] = 0.0
    loss = session.step({**GOOD, "x": np.full((4, 3), 3e38, np.float32)}, LABELS)
    assert loss == pytest.approx(np.log(4.0), rel=1e-6)


def test_strided_arrays_are_copied(session: GradientSession) -> None:
    wide = normal(4, 6, seed=3)
    strided = {**GOOD, "x": wide[:, ::2]}
    expected = session.predict({**GOOD, "x": wide[:, ::2].copy()})
    np.testing.assert_array_equal(session.predict(strided), expected)

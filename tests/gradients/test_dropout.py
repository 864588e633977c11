"""Dropout: on in training, off in inference, and reproducible from (seed, step)."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.errors import UnsupportedError

from .conftest import Build, gradient_of, model_from, normal

MODEL = "(float[N, 64] x) => (float[N, 64] y) { z = Mul(x, w) y = Dropout(z, ratio) }"
WEIGHTS = {"w": np.ones(64, np.float32), "ratio": np.float32(0.25)}
X = np.ones((32, 64), np.float32)
ZERO = np.zeros_like(X)


def test_forward_and_gradient_share_the_mask(build: Build) -> None:
    """With x = w = 1 and target 0, y is the mask m itself and dloss/dw_j = 2 sum_i m_ij^2 / (32 * 64)."""
    session = build(model_from(MODEL, WEIGHTS), ("w",), batch=32, shards=1)
    loss = session.step({"x": X}, ZERO)
    gradient = gradient_of(session, "w")
    assert loss == pytest.approx(gradient.sum() / 2, rel=1e-5)
    kept = gradient * (32 * 64 / 2) / (1 / 0.75) ** 2
    np.testing.assert_allclose(kept, kept.round(), atol=1e-3)
    assert kept.sum() / X.size == pytest.approx(0.75, abs=0.05)  # 3 standard deviations are 0.03


def test_inference_drops_nothing(build: Build) -> None:
    session = build(model_from(MODEL, WEIGHTS), ("w",), batch=32, shards=1)
    np.testing.assert_array_equal(session.predict({"x": X}), X)


def test_masks_follow_seed_and_step(build: Build) -> None:
    first, same, other = (
        build(model_from(MODEL, WEIGHTS), ("w",), batch=32, shards=2, seed=seed) for seed in (1, 1, 2)
    )
    losses = [first.step({"x": X}, ZERO) for _ in range(3)]
    assert len(set(losses)) == 3
    same.steps = 1
    assert same.step({"x": X}, ZERO) == losses[1]
    assert same.step({"x": X}, ZERO) == losses[2]
    assert other.step({"x": X}, ZERO) != losses[0]


def test_shards_draw_different_masks(build: Build) -> None:
    session = build(model_from(MODEL, WEIGHTS), ("w",), batch=2, shards=2)
    session.step({"x": X[:2]}, ZERO[:2])
    kept = gradient_of(session, "w") / (2 / (2 * 64) * (1 / 0.75) ** 2)
    assert set(kept.round(3)) == {0.0, 1.0, 2.0}


def test_ratio_zero_and_mask_output(build: Build) -> None:
    model = model_from(
        "(float[N, 8] x) => (float[N, 8] y) { z = Mul(x, w) d, m = Dropout(z, ratio) f = Cast<to=1>(m) y = Add(d, f) }",
        {"w": np.ones(8, np.float32), "ratio": np.float32(0.0)},
    )
    x = normal(4, 8)
    session = build(model, ("w",), batch=4, shards=1)
    assert session.step({"x": x}, x) == pytest.approx(1.0, rel=1e-6)


def test_mask_output_says_what_was_kept(build: Build) -> None:
    """y = d - m with x = w = 1: 1/(1-ratio) - 1 where kept and 0 where dropped, never -1."""
    model = model_from(
        "(float[N, 64] x) => (float[N, 64] y) {"
        " z = Mul(x, w) d, m = Dropout(z, ratio) f = Cast<to=1>(m) y = Sub(d, f) }",
        {"w": np.ones(64, np.float32), "ratio": np.float32(0.5)},
    )
    session = build(model, ("w",), batch=32, shards=1)
    loss = session.step({"x": X}, ZERO)
    assert loss == pytest.approx(gradient_of(session, "w").sum() / 4, rel=1e-5)


def test_computed_ratio_is_refused(build: Build) -> None:
    model = model_from(
        "(float[N, 8] x, float[1] p) => (float[N, 8] y) { r = Squeeze(p) z = Mul(x, w) y = Dropout(z, r) }",
        {"w": np.ones(8, np.float32)},
    )
    with pytest.raises(UnsupportedError, match="its ratio 'r' is computed by the model"):
        build(model, ("w",), batch=4)

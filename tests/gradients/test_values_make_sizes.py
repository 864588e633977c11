"""Models whose sizes depend on values train, by every backend."""

from __future__ import annotations

import numpy as np
import pytest

from .conftest import Build, gradient_of, model_from, normal

CHOSEN = """(float[N, 3] x) => (float[N, 2] y) {
    zero = Constant<value_float = 0.0>() first = Constant<value_ints = [0]>() one = Constant<value_ints = [1]>()
    cut = Slice(x, first, one, one) positive = Greater(cut, zero) flat = Squeeze(positive, one)
    at = NonZero(flat) rows = Squeeze(at, first)
    h = MatMul(x, w) r = Relu(h) chosen = Gather(r, rows)
    pooled = ReduceMean<axes = [0], keepdims = 1>(chosen) around = Add(h, pooled)
    y = MatMul(around, v) }"""
"""What is positive in the first column is averaged and added to every row."""


def test_rows_that_are_chosen_by_value(build: Build) -> None:
    w, v, x = normal(3, 4), normal(4, 2, seed=1), normal(6, 3, seed=4)
    session = build(model_from(CHOSEN, {"w": w, "v": v}), ("w", "v"), batch=6, shards=1)
    target = normal(6, 2, seed=3)
    loss = session.step({"x": x}, target)
    h = x @ w
    rows = np.flatnonzero(x[:, 0] > 0)
    assert 1 < len(rows) < 6
    around = h + np.maximum(h, 0)[rows].mean(axis=0)
    off = around @ v - target
    assert loss == pytest.approx((off**2).mean(), rel=1e-5)
    back = 2 * off / off.size
    np.testing.assert_allclose(gradient_of(session, "v"), around.T @ back, rtol=1e-4, atol=1e-5)
    down = back @ v.T
    through = np.zeros_like(h)
    through[rows] = down.sum(axis=0) / len(rows) * (h[rows] > 0)
    np.testing.assert_allclose(gradient_of(session, "w"), x.T @ (down + through), rtol=1e-4, atol=1e-5)

"""What several initializers hold is one parameter: each gets the sum of the gradients."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.gradients.session.tied import TiedPlaces
from onnx_oto.model.normal.origins import Tie

from .conftest import Build, gradient_of, model_from, normal


def test_gradients_of_copies_are_added_up(build: Build) -> None:
    text = (
        "(float[N, 6] x) => (float[N, 4] y) { a = Gemm(x, v, b) c = Tanh(a) d = Gemm(x, w, e) y = Mul(c, d) }"
    )
    weights = {"v": normal(6, 4, seed=1), "w": normal(6, 4, seed=2), "b": normal(4), "e": normal(4)}
    tie = Tie(("b", "e"), np.tile(np.arange(4), 2))
    names = tuple(weights)
    apart = build(model_from(text, weights), names, batch=6, shards=2)
    tied = build(model_from(text, weights), names, batch=6, shards=2, ties=(tie,))
    x, target = normal(6, 6), normal(6, 4)
    for session in (apart, tied):
        session.step({"x": x}, target)
    total = gradient_of(apart, "b") + gradient_of(apart, "e")
    for name in "be":
        np.testing.assert_allclose(gradient_of(tied, name), total, rtol=1e-5)
    for name in "vw":
        np.testing.assert_array_equal(gradient_of(tied, name), gradient_of(apart, name))


def test_elements_that_one_initializer_repeats_are_added_up() -> None:
    """A table that was looked up: dense [3, 2] of a table with 4 elements, and the table itself."""
    ties = TiedPlaces(
        [Tie(("dense", "table"), np.array([0, 1, 1, 3, 3, 3, 0, 1, 2, 3]))],
        {"other": (0, (2,)), "table": (2, (4,)), "dense": (6, (3, 2))},
    )
    grads = np.arange(12, dtype=np.float32)
    ties.add_up(grads)
    sums = [6 + 2, 7 + 8 + 3, 4, 9 + 10 + 11 + 5]
    np.testing.assert_array_equal(grads[:2], [0, 1])
    np.testing.assert_array_equal(grads[2:6], sums)
    np.testing.assert_array_equal(grads[6:], np.take(sums, [0, 1, 1, 3, 3, 3]))


@pytest.mark.parametrize("count", [0, 1])
def test_without_ties_nothing_changes(count: int) -> None:
    grads = np.arange(3, dtype=np.float32)
    TiedPlaces([Tie(("a",), np.arange(3))] * count, {"a": (0, (3,))}).add_up(grads)
    np.testing.assert_array_equal(grads, [0, 1, 2])

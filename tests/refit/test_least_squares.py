"""New weights of readers: those that numpy's least squares finds, and where the constant goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onnx_oto.refit import Moments, refitted
from onnx_oto.refit.readers import Bias
from tests.refit.made import correlated, reader, seen


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(2)


def gone(*lanes: int, count: int) -> np.ndarray:
    drop = np.zeros(count, bool)
    drop[list(lanes)] = True
    return drop


@pytest.mark.parametrize("bias", [True, False])
def test_numpy_finds_the_same(rng: np.random.Generator, bias: bool) -> None:
    x = (1 + correlated(rng, 20000, 8)).astype(np.float32).astype(np.float64)
    weight, constant = (
        rng.standard_normal((5, 8)).astype(np.float32),
        rng.standard_normal(5).astype(np.float32),
    )
    found = refitted([seen(x, bias=bias)], gone(1, 4, 6, count=8), {"w": weight, "b": constant})
    assert set(found.values) == ({"w", "b"} if bias else {"w"})
    new, stays = found.values["w"], [0, 2, 3, 5, 7]
    assert (new[:, [1, 4, 6]] == 0).all()
    y = x @ weight.T + (constant if bias else 0)
    known = np.hstack([x[:, stays], np.ones((len(x), int(bias)))])
    fit = np.linalg.lstsq(known, y, rcond=None)[0].T
    np.testing.assert_allclose(new[:, stays], fit[:, :5], atol=0.01)
    if bias:
        np.testing.assert_allclose(found.values["b"], fit[:, 5], atol=0.01)
    y0 = x @ weight.T
    without = np.square(y0 - (y0.mean(0) if bias else 0) - _cut(x, weight, stays, centred=bias)).sum()
    best = np.square(y - known @ fit.T).sum()
    assert found.left["w"] == pytest.approx(best / without, rel=0.05)


def _cut(x: np.ndarray, weight: np.ndarray, stays: list[int], *, centred: bool) -> np.ndarray:
    """Return what outputs are without the features that go; about the mean where there is a bias."""
    y = x[:, stays] @ weight[:, stays].T
    return y - y.mean(0) if centred else y


def test_where_features_say_nothing_of_each_other_only_the_mean_goes_over(rng: np.random.Generator) -> None:
    """Four samples: what the others seem to say is chance."""
    x = 5 + 0.1 * rng.standard_normal((4, 6))
    weight, bias = rng.standard_normal((3, 6)).astype(np.float32), np.zeros(3, np.float32)
    found = refitted([seen(x)], gone(2, count=6), {"w": weight, "b": bias})
    change = (found.values["w"] - weight)[:, [0, 1, 3, 4, 5]]
    assert np.abs(change).max() < 0.6 * np.abs(weight[:, 2]).max()
    np.testing.assert_allclose(
        found.values["b"] + change.sum(1) * 5, weight[:, 2] * x[:, 2].mean(), rtol=0.05, atol=0.05
    )


@pytest.mark.parametrize("factor", [1.0, -1.0, 2.0, -0.25])
def test_the_bias_takes_what_arrives(rng: np.random.Generator, factor: float) -> None:
    """factor: of a norm's mean, or of beta / alpha."""
    x = 3 + rng.standard_normal((500, 4))
    moments = Moments(replace(reader(range(4)), bias=Bias("b", factor)))
    moments.add(x.astype(np.float32)[:, None, None])
    weight = rng.standard_normal((2, 4)).astype(np.float32)
    found = refitted([moments], gone(0, count=4), {"w": weight, "b": np.zeros((1, 2), np.float32)})
    assert found.values["b"].shape == (1, 2)
    y = x @ found.values["w"].T + factor * found.values["b"]
    np.testing.assert_allclose(y.mean(0), (x @ weight.T).mean(0), rtol=1e-4, atol=1e-4)


def test_exact_functions_of_what_stays_are_made_up_for_exactly(rng: np.random.Generator) -> None:
    x = rng.standard_normal((60, 8))
    x[:, 1], x[:, 4], x[:, 7] = x[:, 0], 3 - 0.2 * x[:, 2], x[:, 3] - x[:, 5]
    weight, bias = rng.standard_normal((3, 8)).astype(np.float32), rng.standard_normal(3).astype(np.float32)
    found = refitted([seen(x)], gone(1, 4, 7, count=8), {"w": weight, "b": bias})
    y = x @ found.values["w"].T + found.values["b"]
    np.testing.assert_allclose(y, x @ weight.T + bias, atol=2e-5)
    assert found.left["w"] < 1e-6


def test_several_features_go_at_once(rng: np.random.Generator) -> None:
    lanes = [0, 1, 0, 1, -1, -1]
    x = correlated(rng, 5000, 6)
    weight = rng.standard_normal((3, 6)).astype(np.float32)
    found = refitted(
        [seen(x, lanes, bias=False)], gone(0, count=2), {"w": weight, "b": np.zeros(3, np.float32)}
    )
    assert (found.values["w"][:, [0, 2]] == 0).all()
    assert (found.values["w"][:, [1, 3, 4, 5]] != weight[:, [1, 3, 4, 5]]).all()


def test_a_reader_that_loses_nothing_or_saw_nothing_is_left_out(rng: np.random.Generator) -> None:
    x, weight = rng.standard_normal((50, 3)), np.ones((2, 3), np.float32)
    values = {"w": weight, "b": np.zeros(2, np.float32)}
    assert refitted([seen(x, [0, 1, -1])], gone(2, count=3), values).values == {}  # -1 is not the last lane
    assert refitted([seen(x * np.nan)], gone(0, count=3), values).values == {}


def test_all_of_a_reader_may_go(rng: np.random.Generator) -> None:
    x, weight = 2 + rng.standard_normal((50, 3)), rng.standard_normal((2, 3)).astype(np.float32)
    found = refitted([seen(x)], gone(0, 1, 2, count=3), {"w": weight, "b": np.zeros(2, np.float32)})
    assert (found.values["w"] == 0).all()
    np.testing.assert_allclose(found.values["b"], weight @ x.mean(0), rtol=1e-4)
    assert found.left["w"] == pytest.approx(1.0)


def test_wide_readers_are_fitted_by_their_rows(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same but for the ridge, where there are many rows; and exact where there are fewer rows than features."""
    x = 1 + correlated(rng, 800, 8)
    weight, bias = rng.standard_normal((5, 8)).astype(np.float32), np.zeros(5, np.float32)
    drop = gone(1, 4, count=8)
    narrow = refitted([seen(x)], drop, {"w": weight, "b": bias})
    monkeypatch.setattr("onnx_oto.refit.moments.WIDE", 7)
    wide = refitted([seen(x)], drop, {"w": weight, "b": bias})
    assert (wide.values["w"][:, [1, 4]] == 0).all()
    y = [x @ each.values["w"].T + each.values["b"] for each in (narrow, wide)]
    assert np.square(y[0] - y[1]).mean() < 0.02 * np.square(y[0] - y[0].mean(0)).mean()
    assert wide.left["w"] == pytest.approx(narrow.left["w"], rel=0.3)


def test_fewer_rows_than_features_are_not_learned_by_heart(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of independent features nothing is made up for; what is left is told of rows that were left out."""
    monkeypatch.setattr("onnx_oto.refit.moments.WIDE", 7)
    weight, bias = rng.standard_normal((5, 90)).astype(np.float32), np.zeros(5, np.float32)
    drop = gone(*range(30), count=90)
    for x, low, high in (
        (rng.standard_normal((40, 90)), 0.8, 1.0),
        (correlated(rng, 40, 90, rank=2), 0.0, 0.2),
    ):
        found = refitted([seen(x)], drop, {"w": weight, "b": bias})
        assert low <= found.left["w"] <= high
    fresh = rng.standard_normal((500, 90))
    found = refitted([seen(rng.standard_normal((40, 90)))], drop, {"w": weight, "b": bias})
    off, cut = (
        np.square(fresh @ weight.T - fresh @ w.T - b).mean()
        for w, b in ((found.values["w"], found.values["b"]), (weight * ~drop, 0.0))
    )
    assert off < 1.2 * cut

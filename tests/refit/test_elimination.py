"""What a channel costs that goes: against least squares, tried for every channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from onnx_oto.refit import Moments, losses
from onnx_oto.refit.elimination import ROUNDS
from tests.refit.made import correlated, reader, seen


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def left(x: np.ndarray, weight: np.ndarray, gone: Sequence[int], *, bias: bool) -> float:
    """Return the mean squared error of outputs [O, F] x after the best fit of what stays, by numpy."""
    stays = np.setdiff1d(np.arange(x.shape[1]), gone)
    y = x @ weight.T
    known = np.hstack([x[:, stays], np.ones((len(x), 1 if bias else 0))])
    fit = np.linalg.lstsq(known, y, rcond=None)[0]
    return float(np.square(y - known @ fit).sum() / len(x))


def variance(x: np.ndarray, weight: np.ndarray) -> float:
    y = x @ weight.T
    return float(np.square(y - y.mean(0)).sum() / len(x))


@pytest.mark.parametrize("bias", [True, False])
def test_the_first_channel_costs_what_is_left_without_it(rng: np.random.Generator, bias: bool) -> None:
    x = (0.7 + correlated(rng, 20000, 7)).astype(np.float32).astype(np.float64)
    weight = rng.standard_normal((5, 7))
    found = losses(seen(x, bias=bias), weight[None], 7)
    alone = [left(x, weight, [k], bias=bias) / variance(x, weight) for k in range(7)]
    first = int(np.argmin(alone))
    assert found[first] == pytest.approx(alone[first], rel=0.01)
    second = min((left(x, weight, [first, k], bias=bias), k) for k in range(7) if k != first)
    assert found[first] + found[second[1]] == pytest.approx(second[0] / variance(x, weight), rel=0.01)


def test_channels_of_several_features(rng: np.random.Generator) -> None:
    """Lanes 0 to 3 have three features each that lie apart, two are no lane of it, lane 4 has one."""
    lanes = [0, 1, 2, 3, -1, 0, 1, 2, 3, 4, -1, 0, 1, 2, 3]
    x = correlated(rng, 30000, 15, rank=5).astype(np.float32).astype(np.float64)
    weight = rng.standard_normal((4, 15))
    found = losses(seen(x, lanes), weight[None], 6)
    alone = [left(x, weight, np.flatnonzero(np.equal(lanes, k)).tolist(), bias=True) for k in range(5)]
    first = int(np.argmin(alone))
    assert found[first] == pytest.approx(alone[first] / variance(x, weight), rel=0.03)
    assert found[5] == 0.0
    assert (found[:5] > 0).all()


def test_all_but_the_fixed_ones_cost_all_that_they_say(rng: np.random.Generator) -> None:
    """Losses add up to what the last feature alone cannot say."""
    x = correlated(rng, 20000, 6).astype(np.float32).astype(np.float64)
    weight = rng.standard_normal((3, 6))
    found = losses(seen(x, [0, 1, 2, 3, 4, -1]), weight[None], 5)
    assert found.sum() == pytest.approx(left(x, weight, range(5), bias=True) / variance(x, weight), rel=0.01)


def test_copies_are_free_until_the_last(rng: np.random.Generator) -> None:
    x = rng.standard_normal((400, 6))
    x[:, 3], x[:, 5] = -0.5 * x[:, 0], 3 * x[:, 0]
    weight = rng.standard_normal((4, 6))
    found = losses(seen(x), weight[None], 6)
    copies = np.sort(found[[0, 3, 5]])
    assert copies[1] < 1e-5
    assert copies[2] > 0.02
    assert (found[[1, 2, 4]] > 0.02).all()


def test_dead_channels_are_free_and_those_without_weight(rng: np.random.Generator) -> None:
    x, weight = rng.standard_normal((500, 5)), rng.standard_normal((4, 5))
    x[:, 1], weight[:, 3] = 0.0, 0.0
    found = losses(seen(x), weight[None], 5)
    assert max(found[1], found[3]) < 1e-3 * min(found[[0, 2, 4]])


def test_a_constant_costs_nothing_where_there_is_a_bias(rng: np.random.Generator) -> None:
    x, weight = rng.standard_normal((500, 4)), rng.standard_normal((4, 4))
    x[:, 2] = 5.0
    with_bias, without = (losses(seen(x, bias=bias), weight[None], 4) for bias in (True, False))
    assert with_bias[2] < 1e-3 * with_bias[0]
    assert without[2] > without[0]


def test_groups_add_up(rng: np.random.Generator) -> None:
    """A lane that both groups read costs in both."""
    x = correlated(rng, 2000, 6, rank=2).reshape(2000, 1, 2, 3)
    weight = rng.standard_normal((2, 4, 3))
    both = Moments(reader([[0, 1, 2], [2, 3, -1]]))
    both.add(x.astype(np.float32))
    found = losses(both, weight, 4)
    parts, whole = np.zeros(4), 0.0
    for group, lanes in enumerate([[0, 1, 2], [2, 3, -1]]):
        own = variance(x[:, 0, group], weight[group])
        parts += own * losses(seen(x[:, 0, group], lanes), weight[group][None], 4)
        whole += own
    np.testing.assert_allclose(found, parts / whole, rtol=0.05)


def test_many_channels_go_a_few_at_a_time(rng: np.random.Generator) -> None:
    count = 2 * ROUNDS + 10
    x = correlated(rng, 4000, count, rank=20)
    found = losses(seen(x), rng.standard_normal((1, 8, count)), count)
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_rows_of_wide_readers(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lane costs what it gave: nothing is known of what others say."""
    x, weight = 1 + rng.standard_normal((300, 6)), rng.standard_normal((3, 6))
    lanes = [0, 1, 2, 0, 1, -1]
    monkeypatch.setattr("onnx_oto.refit.moments.WIDE", 5)
    found = losses(seen(x, lanes), weight[None], 3)
    for lane in range(3):
        own = np.equal(lanes, lane)
        expected = variance(x[:, own], weight[:, own]) / variance(x, weight)
        assert found[lane] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("x", [np.full((5, 3), np.nan), np.zeros((5, 3)), np.ones((5, 3)), np.eye(3)[:1]])
def test_what_says_nothing_costs_no_more_than_a_number(x: np.ndarray) -> None:
    for bias in (True, False):
        found = losses(seen(x, bias=bias), np.ones((1, 2, 3)), 3)
        assert np.isfinite(found).all()

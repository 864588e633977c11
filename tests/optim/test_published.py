"""The rule of the published DHSPG by hand. `tools/against_oto` compares it with the package itself."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.optim import GroupIndex, Plan, Sgd, Stretch, Task
from onnx_oto.optim.groups import Moments
from onnx_oto.optim.published import ADAPTIVE, PLAIN, Published, Pull, redundancy, shrink_distance
from tests.optim.test_optimizer_contract import task

TWO = GroupIndex((Stretch(0, 1, 2, 2, np.array([0, 1], np.int32)),), 2)
FIRST = np.array([True, False])


def one_step(x: list[float], v: list[float], lr: float, pull: Pull, eps: float = 0.0) -> np.ndarray:
    """Take the partition step on two groups of two; group 0 is penalised."""
    params, grads = np.array(x, np.float64), np.array(v, np.float64)
    job = Task(Sgd(momentum=0.0, weight_decay=0.0), 4, TWO, lambda scores: FIRST, 20)
    optimizer = Published(job, Plan(0, 10, 2), pull=pull, eps=eps, dtype=np.float64)
    optimizer.step(params, grads, lr)
    return params


@pytest.mark.parametrize(
    ("pull", "expected"),
    [
        (Pull(2.0, 3.0, 10.0), 3.0),  # 3 low
        (Pull(4.0, 3.0, 10.0), 4.0),  # lambda, which is more
        (Pull(0.2, 3.0, 10.0), 2.0),  # 10 lambda, which is less
        (Pull(2.0, 6.0, 10.0), 3.0),  # 6 low is not below high: the middle
    ],
)
def test_the_pull_where_the_gradient_makes_the_group_grow(pull: Pull, expected: float) -> None:
    """<x, v> = -5, ||x|| = 5, ||v||^2 = 5: low = 1, high = 5."""
    params = one_step([3, 4, 1, 1], [1, -2, 1, -1], 0.1, pull)
    step = expected * np.array([0.6, 0.8]) + [1, -2]
    np.testing.assert_allclose(params, [3 - 0.1 * step[0], 4 - 0.1 * step[1], 0.9, 1.1], rtol=1e-8)


def test_the_pull_where_it_does_not() -> None:
    params = one_step([3, 4, 1, 1], [-1, 2, 0, 0], 0.1, Pull(2.0, 3.0, 10.0))
    np.testing.assert_allclose(params, [3 + 0.1 - 0.12, 4 - 0.2 - 0.16, 1, 1], rtol=1e-8)


@pytest.mark.parametrize(("eps", "projected"), [(0.39, False), (0.41, True)])
def test_eps_moves_the_half_space(eps: float, projected: bool) -> None:
    """x~ = 0.4 x, so <x~, x> / ||x||^2 = 0.4."""
    params = one_step([3, 4, 1, 1], [0, 0, 0, 0], 1.0, Pull(3.0, 1.0, 1.0), eps)
    np.testing.assert_allclose(params[:2], [0, 0] if projected else [1.2, 1.6], rtol=1e-8)


def test_a_group_that_is_zero_is_not_divided_by() -> None:
    with np.errstate(all="raise"):
        distance = shrink_distance(Moments(np.zeros(2), np.array([0.0, -1.0]), np.ones(2)), PLAIN, 0.1)
    np.testing.assert_array_equal(distance, 0.0)


def test_redundancy_by_hand() -> None:
    """(3, 4) with v = (3, 4) and (0, 2) with v = (1, 0): cosines 1 and 0; mean norms 2.5 and 1."""
    moments = Moments(np.array([25.0, 4.0]), np.array([25.0, 0.0]), np.array([25.0, 1.0]))
    thin = np.array([1 / (2.5 + 1e-6), 1 / (1 + 1e-6)])
    expected = 0.5 * np.array([1.0, 0.0]) + 0.5 * thin / np.linalg.norm(thin)
    np.testing.assert_allclose(redundancy(moments, np.array([2, 2])), expected)
    empty = Moments(np.zeros(0), np.zeros(0), np.zeros(0))
    assert redundancy(empty, np.zeros(0, np.int64)).shape == (0,)


def test_the_most_redundant_go() -> None:
    seen: list[np.ndarray] = []

    def select(scores: np.ndarray) -> np.ndarray:
        seen.append(scores)
        return scores == scores.min()

    job = Task(Sgd(momentum=0.0, weight_decay=0.0), 4, TWO, select, 20)
    optimizer = Published(job, Plan(0, 0, 1), dtype=np.float64)
    params = np.array([3.0, 4.0, 0.0, 2.0])
    optimizer.step(params, np.array([3.0, 4.0, 1.0, 0.0]), 0.01)
    moments = TWO.moments(np.array([3.0, 4.0, 0.0, 2.0]), np.array([3.0, 4.0, 1.0, 0.0]))
    np.testing.assert_allclose(seen[0], -redundancy(moments, TWO.sizes))
    assert params[:2].any() != params[2:].any()


@pytest.mark.parametrize(("direction", "pull"), [("sgd", PLAIN), ("adam", ADAPTIVE), ("adamw", ADAPTIVE)])
def test_each_direction_has_the_defaults_of_the_package(direction: str, pull: Pull) -> None:
    from onnx_oto.optim.published import PublishedOptions

    made = PublishedOptions().build(task(direction))
    assert isinstance(made, Published)
    assert made._pull == pull
    made = PublishedOptions(regularizer=0.5, ceiling=3.0).build(task(direction))
    assert made._pull == Pull(0.5, pull.amplify, 3.0)

"""DHSPG: single steps computed by hand, and whole runs against a naive reference that loops over groups.

The reference (`Naive`) is written from the paper's formulas in float64, with index lists instead of blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.errors import OtoError, UsageError
from onnx_oto.optim import Adam, AdamW, Dhspg, Direction, GroupIndex, Plan, Sgd, Stretch
from onnx_oto.optim.dhspg import shrink_distance
from onnx_oto.optim.groups import Moments
from onnx_oto.optim.stepper import Stepper

PLAIN = Sgd(momentum=0.0, weight_decay=0.0)
TWO = GroupIndex((Stretch(0, 1, 2, 2, np.array([0, 1], np.int32)),), 2)
FIRST = np.array([True, False])


def one_step(
    x: list[float],
    v: list[float],
    lr: float,
    *,
    regularizer: float | None,
    plan: Plan | None = None,
    eps: float = 0.0,
) -> tuple[np.ndarray, Dhspg]:
    """Take the partition step on two groups of two; group 0 is penalised."""
    params, grads = np.array(x, np.float64), np.array(v, np.float64)
    optimizer = Dhspg(
        PLAIN,
        4,
        TWO,
        lambda _: FIRST,
        plan or Plan(0, 10, 2),
        regularizer=regularizer,
        eps=eps,
        dtype=np.float64,
    )
    optimizer.step(params, grads, lr)
    return params, optimizer


def test_gradient_that_shrinks_the_group() -> None:
    """<x, v> = 5 >= 0: lambda is as given, x~ = x - 0.1 (v + 2 * (0.6, 0.8)). Group 1 takes a plain step."""
    params, optimizer = one_step([3, 4, 1, 1], [-1, 2, 1, -1], 0.1, regularizer=2.0)
    np.testing.assert_allclose(params, [3 + 0.1 - 0.12, 4 - 0.2 - 0.16, 0.9, 1.1])
    assert (optimizer.zeroed, optimizer.target) == (0, 1)


def test_gradient_that_grows_the_group() -> None:
    """<x, v> = -5, ||x|| = 5, ||v||^2 = 5: low = 1, high = 5. lambda = 1 + min(2, 0.9 * 4) = 3."""
    params, _ = one_step([3, 4, 1, 1], [1, -2, 0, 0], 0.1, regularizer=2.0)
    np.testing.assert_allclose(params, [3 - 0.1 * (1 + 3 * 0.6), 4 - 0.1 * (-2 + 3 * 0.8), 1, 1])


def test_lambda_is_capped_where_the_loss_would_rise() -> None:
    """As above with a regularizer of 50: lambda = low + 0.9 (high - low) = 4.6 < high = 5."""
    params, _ = one_step([3, 4, 1, 1], [1, -2, 0, 0], 0.1, regularizer=50.0)
    np.testing.assert_allclose(params, [3 - 0.1 * (1 + 4.6 * 0.6), 4 - 0.1 * (-2 + 4.6 * 0.8), 1, 1])
    direction = (np.array([3, 4]) - params[:2]) / 0.1
    assert direction @ [1, -2] > 0  # still a descent direction of f
    assert np.linalg.norm(params[:2]) < 5  # and of the norm


def test_projection_when_the_half_space_is_left() -> None:
    """x~ = x - 1 * (0 + 6 x/||x||) points the other way: exactly zero, and it stays so."""
    params, optimizer = one_step([3, 4, 1, 1], [0, 0, 0, 0], 1.0, regularizer=6.0)
    np.testing.assert_array_equal(params, [0, 0, 1, 1])
    assert optimizer.zeroed == 1
    optimizer.step(params, np.ones(4), 0.5)
    np.testing.assert_array_equal(params, [0, 0, 0.5, 0.5])


def test_a_chosen_group_that_is_zero_already_is_dead_at_once() -> None:
    params, optimizer = one_step([0, 0, 1, 1], [1, -2, 0, 0], 0.1, regularizer=None)
    np.testing.assert_array_equal(params, [0, 0, 1, 1])
    assert optimizer.zeroed == 1


@pytest.mark.parametrize(("eps", "projected"), [(0.39, False), (0.41, True)])
def test_eps_moves_the_half_space(eps: float, projected: bool) -> None:
    """x~ = 0.4 x, so <x~, x> / ||x||^2 = 0.4."""
    params, _ = one_step([3, 4, 1, 1], [0, 0, 0, 0], 1.0, regularizer=3.0, eps=eps)
    np.testing.assert_allclose(params[:2], [0, 0] if projected else [1.2, 1.6])


def test_the_pace_of_the_plan_does_not_stall_when_the_learning_rate_decays() -> None:
    """Without gradient, a group of norm 5 loses 5/9.5 per step whatever the learning rate."""
    params = np.array([3.0, 4.0, 1.0, 1.0])
    optimizer = Dhspg(PLAIN, 4, TWO, lambda _: FIRST, Plan(0, 10, 2), dtype=np.float64)
    for step in range(9):
        optimizer.step(params, np.zeros(4), 0.5**step)
        np.testing.assert_allclose(params[:2], np.array([3, 4]) * (1 - (step + 1) / 9.5))
    optimizer.step(params, np.zeros(4), 1e-6)
    assert optimizer.zeroed == 1


def test_the_finish_scales_to_zero_and_meets_the_deadline() -> None:
    """No shrinking at all, four steps of finish: 3/4, 2/3, 1/2, 0 of the value before; group 1 trains on."""
    params = np.array([4.0, 8.0, 1.0, 1.0])
    optimizer = Dhspg(PLAIN, 4, TWO, lambda _: FIRST, Plan(0, 0, 4), dtype=np.float64)
    for expected in (3.0, 2.0, 1.0, 0.0):
        assert optimizer.phase == "finish"
        assert optimizer.zeroed == 0
        optimizer.step(params, np.full(4, -1.0), 0.1)
        np.testing.assert_allclose(params[:2], [expected, 2 * expected], atol=1e-15)
    assert (optimizer.phase, optimizer.zeroed) == ("done", 1)
    np.testing.assert_array_equal(params[:2], 0.0)
    np.testing.assert_allclose(params[2:], 1.4)


def test_bounds_of_lambda_for_many_random_groups() -> None:
    """Where <x, v> < 0: low < lambda < high, so the step descends both; elsewhere lambda = pace / lr."""
    rng = np.random.default_rng(3)
    x, v = rng.standard_normal((2, 500, 6))
    moments = Moments((x * x).sum(1), (x * v).sum(1), (v * v).sum(1))
    pace, lr = np.full(500, 0.07), 0.1
    lam = shrink_distance(moments, pace, lr) / lr
    norm, against = np.sqrt(moments.xx), moments.xy < 0
    assert 100 < against.sum() < 400
    assert (lam[against] > (-moments.xy / norm)[against]).all()
    assert (lam[against] < (-moments.yy * norm / np.minimum(moments.xy, -1e-9))[against]).all()
    np.testing.assert_allclose(lam[~against], 0.7)
    step = v + lam[:, None] * x / norm[:, None]
    assert ((step * v).sum(1) > 0).all()
    assert ((step * x).sum(1) > 0).all()


class Naive:
    """The reference: float64, one Python loop over the groups, the formulas of the paper as they stand."""

    def __init__(
        self, direction: Direction, groups: list[np.ndarray], chosen: np.ndarray, plan: Plan, size: int
    ):
        self.stepper = Stepper(direction, size, 1, np.float64)
        self.groups, self.chosen, self.plan = groups, chosen, plan
        self.dead: set[int] = set()
        self.norms: dict[int, float] = {}
        self.t = 0

    def step(self, x: np.ndarray, g: np.ndarray, lr: float) -> None:
        t, plan = self.t, self.plan
        for k in self.dead:
            g[self.groups[k]] = 0.0
        if t == plan.partition:
            self.norms = {k: float(np.linalg.norm(x[at])) for k, at in enumerate(self.groups)}
        old = x.copy()
        self.stepper.plain(x, g, lr)
        for k in np.flatnonzero(self.chosen):
            at = self.groups[k]
            if k not in self.dead and plan.phase(t) in ("shrink", "finish"):
                x[at] = self.penalised(k, old[at], g[at], lr)
                if not x[at].any():
                    self.dead.add(int(k))
                    for slot in self.stepper.slots.values():
                        slot[at] = 0.0
        self.t += 1

    def penalised(self, k: int, x: np.ndarray, v: np.ndarray, lr: float) -> np.ndarray:
        left = self.plan.deadline - self.t
        if self.plan.phase(self.t) == "finish":
            return x * (left - 1) / left
        norm = float(np.linalg.norm(x))
        if norm == 0:
            return np.zeros_like(x)
        lam = self.norms[k] / (self.plan.shrink - 0.5) / lr
        if x @ v < 0:
            low, high = -(x @ v) / norm, -(v @ v) * norm / (x @ v)
            lam = low + min(lam, 0.9 * (high - low))
        trial = x - lr * (v + lam * x / norm)
        return np.zeros_like(x) if trial @ x < 0 else trial


DIRECTIONS: list[Direction] = [Sgd(weight_decay=0.01), Sgd(nesterov=True), Adam(weight_decay=0.01), AdamW()]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(DIRECTIONS),
    st.integers(0, 6),
    st.integers(0, 12),
    st.integers(1, 5),
)
def test_a_whole_run_equals_the_naive_reference(
    seed: int, direction: Direction, observe: int, shrink: int, finish: int
) -> None:
    """Random groups over three parameters, a random quadratic loss, decaying steps; float64, 1e-9."""
    rng = np.random.default_rng(seed)
    count, size = 5, 44
    labels = [rng.integers(-1, count, n).astype(np.int32) for n in (6, 6, 4)]
    index = GroupIndex(
        (Stretch(1, 1, 6, 4, labels[0]), Stretch(25, 1, 6, 1, labels[1]), Stretch(32, 3, 4, 1, labels[2])),
        count,
    )
    where = np.full(size, -1)
    where[1:25], where[25:31], where[32:44] = np.repeat(labels[0], 4), labels[1], np.tile(labels[2], 3)
    groups = [np.flatnonzero(where == k) for k in range(count)]
    chosen = rng.random(count) < 0.6
    plan = Plan(observe, shrink, finish)
    optimizer = Dhspg(direction, size, index, lambda _: chosen, plan, dtype=np.float64)
    naive = Naive(direction, groups, chosen, plan, size)
    goal, curvature = rng.standard_normal(size), rng.random(size) + 0.5
    x = rng.standard_normal(size)
    y = x.copy()
    for step in range(plan.deadline + 5):
        lr = 0.05 * 0.97**step
        optimizer.step(x, curvature * (x - goal), lr)
        naive.step(y, curvature * (y - goal), lr)
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9)
        assert {k for k in np.flatnonzero(optimizer.dead) if len(groups[k])} == {
            k for k in naive.dead if len(groups[k])
        }


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from(DIRECTIONS), st.floats(0, 1), st.integers(1, 20))
def test_exactly_the_target_is_zero_at_the_deadline_and_stays_zero(
    seed: int, direction: Direction, share: float, steps: int
) -> None:
    """Whatever the gradients do: from the deadline on the chosen groups are 0.0 and no other is."""
    rng = np.random.default_rng(seed)
    index = GroupIndex(
        (
            Stretch(0, 1, 8, 3, np.arange(8, dtype=np.int32)),
            Stretch(24, 2, 8, 1, np.arange(8, dtype=np.int32)),
        ),
        8,
    )
    plan = Plan.of(steps, observe=0.2, shrink=0.5, finish=0.1)
    due = int(share * 8)

    def lowest(scores: np.ndarray) -> np.ndarray:
        chosen = np.zeros(8, np.bool_)
        chosen[np.argsort(scores, kind="stable")[:due]] = True
        return chosen

    optimizer = Dhspg(direction, 42, index, lowest, plan)
    x = rng.standard_normal(42).astype(np.float32)
    for step in range(steps + 3):
        optimizer.step(x, (rng.standard_normal(42) * 10 ** rng.uniform(-3, 2)).astype(np.float32), 0.1)
        zero = index.square_norms(x) == 0
        np.testing.assert_array_equal(zero, optimizer.dead)
        assert optimizer.zeroed <= due
        if step + 1 >= plan.deadline:
            assert optimizer.zeroed == optimizer.target == due
    assert not np.signbit(x[x == 0]).any()


def test_saliency_is_the_mean_over_the_second_half_of_the_observe_phase() -> None:
    """Gradients alternate, so one batch gives taylor scores 0 or 2; their mean is 1."""
    seen: list[np.ndarray] = []

    def select(scores: np.ndarray) -> np.ndarray:
        seen.append(scores)
        return np.zeros(2, np.bool_)

    optimizer = Dhspg(PLAIN, 4, TWO, select, Plan(6, 1, 1), saliency="taylor", dtype=np.float64)
    params = np.ones(4)
    for step in range(8):
        grads = np.array([1.0, 1.0, 0.0, 0.0]) if step % 2 else np.array([0.0, 0.0, 1.0, 1.0])
        optimizer.step(params, grads, 0.0)
    np.testing.assert_allclose(seen, [[1.0, 1.0]])


def test_arguments_that_make_no_sense_are_refused() -> None:
    def build(**options: object) -> Callable[[], Dhspg]:
        return lambda: Dhspg(PLAIN, 4, TWO, lambda _: FIRST, Plan(0, 1, 1), **options)  # type: ignore[arg-type]

    for options, message in (
        ({"saliency": "luck"}, "saliency 'luck': choose one of magnitude"),
        ({"eps": 1.0}, "half-space-eps is 1.0"),
        ({"regularizer": 0.0}, "regularizer is 0.0"),
    ):
        with pytest.raises(UsageError, match=message):
            build(**options)()


def test_a_selector_that_returns_scores_is_refused() -> None:
    optimizer = Dhspg(PLAIN, 4, TWO, lambda scores: scores, Plan(0, 1, 1))  # type: ignore[arg-type, return-value]
    with pytest.raises(OtoError, match=r"select returned float64 \(2,\), expected bool \(2,\)"):
        optimizer.step(np.ones(4, np.float32), np.ones(4, np.float32), 0.1)

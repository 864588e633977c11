"""HSPG, HESSO, the proximal steps and the cuts: single steps by hand, and what tells each of them from the others."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.optim import GroupIndex, Optimizer, Plan, Sgd, Stretch, Task
from onnx_oto.optim.cut import Cut, MagnitudeOptions
from onnx_oto.optim.dhspg import Dhspg
from onnx_oto.optim.hesso import Hesso
from onnx_oto.optim.hspg import Hspg
from onnx_oto.optim.proximal import Proximal

PLAIN = Sgd(momentum=0.0, weight_decay=0.0)
TWO = GroupIndex((Stretch(0, 1, 2, 2, np.array([0, 1], np.int32)),), 2)
FOUR = GroupIndex((Stretch(0, 1, 4, 1, np.arange(4, dtype=np.int32)),), 4)
FIRST = np.array([True, False])


def first(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
    return FIRST


def lowest(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
    """Choose half of the groups: those that are gone, then the lowest."""
    before = np.zeros(scores.size, np.bool_) if gone is None else gone
    chosen = np.zeros(scores.size, np.bool_)
    chosen[np.lexsort((scores, ~before))[: round(share * scores.size / 2)]] = True
    return chosen


def two(select=first, steps: int = 20) -> Task:
    return Task(PLAIN, 4, TWO, select, steps)


def still(optimizer: Optimizer, x: np.ndarray, count: int, lr: float = 0.1) -> list[np.ndarray]:
    """Take steps without gradient; return the parameters after each."""
    found = []
    for _ in range(count):
        optimizer.step(x, np.zeros_like(x), lr)
        found.append(x.copy())
    return found


# --- HSPG -------------------------------------------------------------------------------------------------------------
def test_hspg_penalises_all_groups_in_both_stages() -> None:
    """||x|| = 5 and 10, a lambda = 0.1 * 2: every group gets shorter by 0.2 in a step, in the direction it has."""
    x = np.array([3.0, 4.0, 6.0, 8.0])
    optimizer = Hspg(two(), Plan(2, 3, 1), regularizer=2.0, dtype=np.float64)
    for step, after in enumerate(still(optimizer, x, 5), 1):
        np.testing.assert_allclose(after[:2], np.array([3, 4]) * (1 - 0.2 * step / 5))
        np.testing.assert_allclose(after[2:], np.array([6, 8]) * (1 - 0.2 * step / 10))
    (end,) = still(optimizer, x, 1)
    np.testing.assert_array_equal(end[:2], 0.0)
    np.testing.assert_allclose(end[2:], np.array([6, 8]) * (1 - 0.2 * 5 / 10))  # the finish has no penalty


def test_hspg_takes_the_gradient_along() -> None:
    x = np.array([3.0, 4.0, 6.0, 8.0])
    optimizer = Hspg(two(), Plan(1, 3, 1), regularizer=2.0, dtype=np.float64)
    optimizer.step(x, np.array([1.0, -2.0, 0.0, 5.0]), 0.1)
    np.testing.assert_allclose(x, [3 - 0.1 * (1 + 1.2), 4 - 0.1 * (-2 + 1.6), 6 - 0.12, 8 - 0.1 * (5 + 1.6)])


def test_hspg_projects_in_stage_2_alone_and_only_what_was_chosen() -> None:
    """Both groups leave their half-space: a lambda = 6 > ||x||. In stage 1 each is halved, in stage 2 one is zero."""
    x = np.array([3.0, 4.0, 0.6, 0.8])
    optimizer = Hspg(two(), Plan(1, 3, 1), regularizer=6.0, dtype=np.float64)
    before, after = still(optimizer, x, 2, lr=1.0)
    np.testing.assert_allclose(before, [1.5, 2.0, 0.3, 0.4])
    np.testing.assert_allclose(after, [0.0, 0.0, 0.15, 0.2])
    assert optimizer.zeroed == optimizer.target == 1


def test_hspg_chooses_by_what_stage_1_left() -> None:
    """Group 0 is larger at first; its gradient makes it smaller during stage 1."""
    x = np.array([3.0, 4.0, 2.0, 2.0])
    optimizer = Hspg(two(lowest), Plan(4, 1, 1), dtype=np.float64)
    for _ in range(4):
        optimizer.step(x, np.array([6.0, 8.0, 0.0, 0.0]), 0.12)
    still(optimizer, x, 2)
    np.testing.assert_array_equal(x[:2], 0.0)
    assert x[2:].all()


# --- HESSO ------------------------------------------------------------------------------------------------------------
def test_hesso_scales_the_step_of_what_it_chose_and_meets_the_end_of_the_period() -> None:
    """One period of four steps, <- (T-t-1)/(T-t) (x - a v): 3/4, 2/3, 1/2, 0 of x + 0.1."""
    x = np.array([4.0, 8.0, 1.0, 1.0])
    optimizer = Hesso(two(), Plan(0, 3, 1), periods=1, dtype=np.float64)
    expected = np.array([4.0, 8.0])
    for factor in (3 / 4, 2 / 3, 1 / 2, 0.0):
        assert (optimizer.phase, optimizer.zeroed, optimizer.target) in (
            ("shrink", 0, None),
            ("shrink", 0, 1),
        )
        optimizer.step(x, np.full(4, -1.0), 0.1)
        expected = factor * (expected + 0.1)
        np.testing.assert_allclose(x[:2], expected, atol=1e-15)
    assert (optimizer.phase, optimizer.zeroed) == ("done", 1)
    np.testing.assert_allclose(x[2:], 1.4)


def test_hesso_chooses_anew_in_every_period() -> None:
    """Group 0 goes in the first period. Group 1 was next, but grows in it, and group 2 shrinks: that goes instead."""
    x = np.array([1.0, 2.0, 3.0, 9.0])
    optimizer = Hesso(Task(PLAIN, 4, FOUR, lowest, 20), Plan(0, 7, 1), periods=2, dtype=np.float64)
    zeroed = []
    for _ in range(8):
        optimizer.step(x, np.array([0.0, -1.0, 1.0, 0.0]), 0.4)
        zeroed.append(optimizer.zeroed)
        assert optimizer.target == 2
    assert zeroed == [0, 0, 0, 1, 1, 1, 1, 2]
    np.testing.assert_array_equal(x == 0, [True, False, True, False])


def test_hesso_scores_the_second_half_of_every_period() -> None:
    """Steps 2 to 4 in front of the first choice at 4, then 6 to 8 in front of the second."""
    seen: list[np.ndarray] = []

    def select(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
        seen.append(scores)
        return np.zeros(4, np.bool_)

    job = Task(PLAIN, 4, FOUR, select, 20)
    optimizer = Hesso(job, Plan(4, 7, 1), periods=2, saliency="taylor", dtype=np.float64)
    for step in range(14):
        optimizer.step(np.ones(4), np.full(4, float(step)), 0.0)
    np.testing.assert_allclose(
        [scores[0] for scores in seen], [3.0, 3.0, 7.0, 7.0]
    )  # asked for a part and for all


# --- proximal ---------------------------------------------------------------------------------------------------------
def test_the_proximal_step_takes_the_same_from_every_root_mean_square() -> None:
    """One round of 5 steps; the chosen one has r = 5, so a lambda = 1. The other has r = 20, and loses 1 too."""
    x = np.array([5.0, 5.0, 20.0, 20.0])
    optimizer = Proximal(two(), Plan(0, 5, 1), rounds=1, dtype=np.float64)
    for step, after in enumerate(still(optimizer, x, 4), 1):
        np.testing.assert_allclose(after, [5 - step, 5 - step, 20 - step, 20 - step])
    still(optimizer, x, 1)
    np.testing.assert_allclose(x, [0, 0, 15, 15], atol=1e-12)
    still(optimizer, x, 2)
    np.testing.assert_allclose(x, [0, 0, 15, 15], atol=1e-12)
    assert optimizer.zeroed == 1


def test_the_proximal_step_is_that_of_the_trial_point() -> None:
    x = np.array([5.0, 5.0, 10.0, 10.0])
    optimizer = Proximal(two(), Plan(0, 5, 1), rounds=1, dtype=np.float64)
    optimizer.step(x, np.array([-10.0, -10.0, 20.0, 20.0]), 0.1)
    np.testing.assert_allclose(x, [5, 5, 7, 7])


def test_lambda_follows_what_is_left() -> None:
    """The gradient makes the group grow by 1 in every step; in the last round lambda makes up for all of it."""
    x = np.array([5.0, 5.0, 100.0, 100.0])
    optimizer = Proximal(two(), Plan(0, 5, 1), rounds=5, dtype=np.float64)
    for _ in range(5):
        optimizer.step(x, np.array([-10.0, -10.0, 0.0, 0.0]), 0.1)
    assert optimizer.zeroed == 0
    optimizer = Proximal(two(), Plan(0, 5, 1), rounds=5, dtype=np.float64)
    x = np.array([5.0, 5.0, 100.0, 100.0])
    for step in range(5):
        optimizer.step(x, np.array([-10.0, -10.0, 0.0, 0.0]) * (step < 3), 0.1)
    assert optimizer.zeroed == 1


def test_a_small_group_that_is_not_chosen_keeps_half() -> None:
    x = np.array([5.0, 5.0, 1.0, 1.0])
    still(Proximal(two(), Plan(0, 5, 1), rounds=1, dtype=np.float64), x, 8)
    np.testing.assert_allclose(x, [0, 0, 0.5, 0.5])


# --- cuts -------------------------------------------------------------------------------------------------------------
def test_a_cut_is_made_at_once_and_before_the_step() -> None:
    x = np.array([1.0, 1.0, 5.0, 5.0])
    optimizer = Cut(two(lowest), 2, dtype=np.float64)
    phases = []
    for _ in range(4):
        phases.append((optimizer.phase, optimizer.zeroed))
        optimizer.step(x, np.full(4, -1.0), 0.1)
    assert phases == [("observe", 0), ("observe", 0), ("finish", 0), ("done", 1)]
    np.testing.assert_array_equal(x[:2], 0.0)
    np.testing.assert_allclose(x[2:], 5.4)


def test_scores_of_the_last_tenth_decide() -> None:
    """Group 0 is larger until step 17 and smaller from 18 on, as are the scores: in the mean of all it would stay."""
    seen: list[np.ndarray] = []

    def select(scores: np.ndarray) -> np.ndarray:
        seen.append(scores)
        return lowest(scores)

    optimizer = MagnitudeOptions(saliency="taylor").build(Task(PLAIN, 4, TWO, select, 40))
    x = np.array([1.0, 1.0, 2.0, 2.0], np.float32)
    for step in range(40):
        grads = np.array([50.0, 50.0, 0.0, 0.0]) if step < 18 else np.array([1.0, 1.0, 1.0, 1.0])
        optimizer.step(x, grads.astype(np.float32), 0.0)
    np.testing.assert_allclose(seen, [[2.0, 4.0]])
    np.testing.assert_array_equal(x, [0, 0, 2, 2])


# --- rounds of DHSPG --------------------------------------------------------------------------------------------------
def test_groups_go_in_parts() -> None:
    """One of two in the first half of the shrink phase, and as far as is known two go from the beginning."""
    x, plan = np.array([5.0, 6.0, 70.0, 80.0]), Plan(2, 8, 2)
    optimizer = Dhspg(PLAIN, 4, FOUR, lowest, plan, rounds=2, dtype=np.float64)
    gone, targets = [], []
    for _ in range(12):
        optimizer.step(x, np.full(4, 1e-3), 1e-3)
        gone.append(optimizer.zeroed)
        targets.append(optimizer.target)
    assert gone == [0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
    assert targets == [None, None] + [2] * 10
    np.testing.assert_array_equal(x[:2], 0.0)


def test_a_group_that_is_not_chosen_again_stays() -> None:
    """Group 0 is chosen first and shrinks. Then it is pushed to grow, and its score is above that of two others."""
    x = np.array([5.0, 50.0, 60.0, 70.0])
    optimizer = Dhspg(PLAIN, 4, FOUR, lowest, Plan(2, 8, 2), saliency="taylor", rounds=2, dtype=np.float64)
    for step in range(14):
        grads = np.array([0.01, 0.1, 0.1, 0.1]) if step < 3 else np.array([-1.0, 1e-4, 1e-4, 0.1])
        optimizer.step(x, grads, 1e-3)
        if step == 5:
            assert 3 < x[0] < 4
    assert 3 < x[0] < 4
    np.testing.assert_array_equal(x[1:3], 0.0)
    assert optimizer.zeroed == 2


def test_a_group_that_does_not_train_all_is_not_let_go_again() -> None:
    """The same, but for an element of group 0 that does not train: it has lost of it, and goes."""
    x = np.array([3.0, 4.0, 30.0, 40.0, 31.0, 41.0, 32.0, 42.0])
    first = (Stretch(0, 1, 1, 1, np.array([0], np.int32)), Stretch(1, 1, 1, 1, np.array([0], np.int32)))
    others = Stretch(2, 1, 3, 2, np.arange(1, 4, dtype=np.int32))
    optimizer = Dhspg(
        PLAIN,
        8,
        GroupIndex((*first, others), 4),
        lowest,
        Plan(2, 8, 2),
        saliency="taylor",
        rounds=2,
        still=(slice(1, 2),),
        dtype=np.float64,
    )
    for step in range(14):
        low = [0.1] * 6 if step < 3 else [1e-4] * 6
        optimizer.step(x, np.array([0.01 if step < 3 else -1.0, 0.0, *low]), 1e-3)
    np.testing.assert_array_equal(x[:2], 0.0)
    assert np.count_nonzero(x[2:]) == 4


@pytest.mark.parametrize("rounds", [1, 2, 50])
def test_however_often_it_is_chosen_the_target_is_met(rounds: int) -> None:
    x = np.random.default_rng(0).standard_normal(4)
    optimizer = Dhspg(PLAIN, 4, FOUR, lowest, Plan(2, 9, 2), rounds=rounds, dtype=np.float64)
    for step in range(13):
        optimizer.step(x, np.random.default_rng(step).standard_normal(4), 0.1)
    assert optimizer.zeroed == optimizer.target == 2

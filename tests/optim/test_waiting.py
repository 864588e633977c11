"""Choosing groups is put off while the loss has not begun to fall."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.errors import UsageError
from onnx_oto.optim import GroupIndex, Optimizer, Stretch, Task, method
from onnx_oto.optim.plan import Plan
from onnx_oto.optim.waiting import Waiting, most_waited

GROUPS, STEPS = 6, 1000
INDEX = GroupIndex((Stretch(0, 1, GROUPS, 2, np.arange(GROUPS, dtype=np.int32)),), GROUPS)
PRUNING = ["dhspg", "hesso"]
pruning = pytest.mark.parametrize("name", PRUNING)


def lowest(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
    first = np.zeros(GROUPS, bool) if gone is None else gone
    chosen = np.zeros(GROUPS, bool)
    chosen[np.lexsort((scores, ~first))[: round(share * 3)]] = True
    return chosen


def built(name: str, wait: float = 0.25) -> Optimizer:
    chosen = method(name, "sgd", {"plan_wait": wait})
    return chosen.optimizer.build(Task(chosen.direction, 2 * GROUPS, INDEX, lowest, STEPS))


def run(optimizer: Optimizer, falls: int, last: int = STEPS) -> tuple[list[str], list[int], np.ndarray]:
    """Take steps whose loss is about 2 before step `falls`; return phases, steps put off at, and the parameters."""
    rng = np.random.default_rng(0)
    x = np.linspace(1, 2, 2 * GROUPS, dtype=np.float32)
    phases, put_off = [], []
    for step in range(last):
        level = 2.0 if step < falls else 1.5
        if optimizer.hear(level + 0.01 * np.sin(step)):
            put_off.append(step)
        phases.append(optimizer.phase)
        optimizer.step(x, rng.normal(size=x.size).astype(np.float32) * 0.01, 0.01)
    return phases, put_off, x


@pruning
def test_what_learns_at_once_is_chosen_as_planned(name: str) -> None:
    phases, put_off, x = run(built(name), falls=20)
    assert (put_off, phases.count("observe")) == ([], 50)
    assert run(built(name, wait=0), falls=STEPS)[0] == phases
    assert np.count_nonzero(x) == 6


@pruning
def test_groups_are_chosen_when_the_loss_has_begun_to_fall(name: str) -> None:
    optimizer = built(name)
    phases, put_off, x = run(optimizer, falls=130)
    assert put_off == [50, 75, 100, 125]  # from 130 on it falls; of [125, 150) most is below
    assert phases.count("observe") == 150
    assert (optimizer.target, optimizer.zeroed, np.count_nonzero(x)) == (3, 3, 6)


@pruning
def test_it_waits_no_longer_than_it_may(name: str) -> None:
    optimizer = built(name)
    phases, put_off, x = run(optimizer, falls=STEPS)
    assert len(put_off) == 10
    assert phases.count("observe") == 50 + 250
    assert phases[-1] == "done"
    assert (optimizer.zeroed, np.count_nonzero(x)) == (3, 6)


@pruning
def test_it_goes_on_where_it_was_left(name: str) -> None:
    _, put_off, x = run(built(name), falls=130)
    for middle in (10, 60, 99, 150, 300):
        first, second = built(name), built(name)
        rng = np.random.default_rng(0)
        y = np.linspace(1, 2, 2 * GROUPS, dtype=np.float32)
        seen = []
        for step in range(STEPS):
            current = first if step < middle else second
            if step == middle:
                second.restore(first.state())
            seen.append(current.hear((2.0 if step < 130 else 1.5) + 0.01 * np.sin(step)))
            current.step(y, rng.normal(size=y.size).astype(np.float32) * 0.01, 0.01)
        assert [i for i, off in enumerate(seen) if off] == put_off
        np.testing.assert_array_equal(x, y)


@pruning
def test_a_checkpoint_of_one_that_did_not_wait_is_taken(name: str) -> None:
    first, second = built(name), built(name)
    run(first, falls=20, last=400)
    second.restore({key: value for key, value in first.state().items() if not key.startswith("waiting.")})
    assert second.phase == first.phase


def test_losses_below_zero_fall_too() -> None:
    waiting = Waiting(Plan(40, 10, 5), 100)
    assert not any(waiting.hear(-1.0 - 0.01 * step, step) for step in range(60))


def test_few_steps_say_nothing() -> None:
    waiting = Waiting(Plan(30, 10, 5), 100)
    assert not any(waiting.hear(2.0, step) for step in range(100))


def test_what_comes_behind_has_its_time() -> None:
    assert most_waited(Plan.of(100, observe=0.3, shrink=0.6, finish=0.1), 100, 0.5) == 0
    for wait in (-0.1, 1.1):
        with pytest.raises(UsageError, match="plan-wait"):
            method("dhspg", "sgd", {"plan_wait": wait}).optimizer.build(
                Task(method("dhspg", "sgd", {}).direction, 2 * GROUPS, INDEX, lowest, STEPS)
            )

"""What every optimizer promises, run for each registered one with each direction."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.errors import OtoError, UsageError
from onnx_oto.optim import DIRECTIONS, OPTIMIZERS, Block, GroupIndex, Optimizer, Plan, Task, make

SIZE, GROUPS, STEPS = 50, 10, 40
INDEX = GroupIndex((Block(0, 1, 10, 4, np.arange(10, dtype=np.int32)),), GROUPS)
PLAN = Plan.of(STEPS, warm_up=0.25, shrink=0.25, finish=0.25)


def lowest_six(scores: np.ndarray) -> np.ndarray:
    chosen = np.zeros(GROUPS, np.bool_)
    chosen[np.argsort(scores, kind="stable")[:6]] = True
    return chosen


def build(name: str, direction: str) -> Optimizer:
    return make(name, Task(DIRECTIONS[direction](), SIZE, INDEX, lowest_six, PLAN))


def gradient(x: np.ndarray, step: int) -> np.ndarray:
    """Return the gradient of 0.5 ||x - 1||^2 plus noise that depends on the step alone: float32 [P]."""
    noise = np.random.default_rng(step).standard_normal(SIZE) * 0.1
    return (x - 1 + noise).astype(np.float32)


def run(optimizer: Optimizer, x: np.ndarray, first: int, last: int) -> None:
    for step in range(first, last):
        optimizer.step(x, gradient(x, step), 0.05)


def start() -> np.ndarray:
    return np.random.default_rng(99).standard_normal(SIZE).astype(np.float32)


every = pytest.mark.parametrize(("name", "direction"), [(n, d) for n in OPTIMIZERS for d in DIRECTIONS])


@every
def test_it_works_in_place_and_in_float32(name: str, direction: str) -> None:
    x = start()
    before, address = x.copy(), x.ctypes.data
    build(name, direction).step(x, gradient(x, 0), 0.05)
    assert x.ctypes.data == address
    assert x.dtype == np.float32
    assert not np.array_equal(x, before)


@every
def test_it_descends(name: str, direction: str) -> None:
    """Parameters outside all groups get closer to the optimum, 1, on average to half the distance."""
    x = start()
    before = np.abs(x[40:] - 1).mean()
    optimizer = build(name, direction)
    run(optimizer, x, 0, 60)
    assert np.abs(x[40:] - 1).mean() < before / 2


@every
def test_two_runs_are_equal_bit_for_bit(name: str, direction: str) -> None:
    results = []
    for _ in range(2):
        x = start()
        run(build(name, direction), x, 0, STEPS)
        results.append(x)
    np.testing.assert_array_equal(results[0], results[1])


@every
@pytest.mark.parametrize("stop", [0, 4, 12, 21, 35])
def test_a_restored_run_goes_on_as_if_uninterrupted(name: str, direction: str, stop: int) -> None:
    x = start()
    optimizer = build(name, direction)
    run(optimizer, x, 0, stop)
    state, middle = optimizer.state(), x.copy()
    run(optimizer, x, stop, STEPS + 2)
    other = build(name, direction)
    other.restore(state)
    run(other, middle, stop, STEPS + 2)
    np.testing.assert_array_equal(x, middle)
    assert (other.phase, other.zeroed, other.target) == (optimizer.phase, optimizer.zeroed, optimizer.target)


@every
def test_the_state_holds_plain_arrays_of_its_own(name: str, direction: str) -> None:
    """No object arrays (a checkpoint must not need pickle), and later steps do not change it."""
    x = start()
    optimizer = build(name, direction)
    run(optimizer, x, 0, 15)
    state = optimizer.state()
    frozen = {key: value.copy() for key, value in state.items()}
    assert all(value.dtype != object for value in state.values())
    run(optimizer, x, 15, 30)
    for key, value in state.items():
        np.testing.assert_array_equal(value, frozen[key])


@every
def test_the_target_is_met_exactly_and_the_rest_lives(name: str, direction: str) -> None:
    x = start()
    optimizer = build(name, direction)
    run(optimizer, x, 0, STEPS)
    assert optimizer.phase == "done"
    assert optimizer.zeroed == optimizer.target == np.count_nonzero(INDEX.square_norms(x) == 0)
    run(optimizer, x, STEPS, STEPS + 20)
    assert optimizer.zeroed == np.count_nonzero(INDEX.square_norms(x) == 0)


@every
def test_no_groups_is_plain_training(name: str, direction: str) -> None:
    none = GroupIndex((), 0)
    task = Task(DIRECTIONS[direction](), SIZE, none, lambda scores: np.zeros(0, np.bool_), PLAN)
    x, y = start(), start()
    run(make(name, task), x, 0, STEPS)
    run(build("dense", direction), y, 0, STEPS)
    np.testing.assert_array_equal(x, y)


@every
def test_a_state_that_lacks_a_part_is_refused(name: str, direction: str) -> None:
    with pytest.raises(OtoError, match="optimizer state has no"):
        build(name, direction).restore({})


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UsageError, match="'sgdx': choose one of dense, dhspg"):
        make("sgdx", Task(DIRECTIONS["sgd"](), SIZE, INDEX, lowest_six, PLAN))

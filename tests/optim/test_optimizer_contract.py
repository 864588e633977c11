"""What every optimizer promises, run for each registered one, and one of the tests, with each direction."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnx_oto.errors import OtoError
from onnx_oto.optim import DIRECTIONS, OPTIMIZERS, GroupIndex, Optimizer, Stretch, Task, method
from onnx_oto.optim.base import OptimizerOptions
from tests.optim.progressive import ProgressiveOptions, Sign

SIZE, GROUPS, STEPS = 50, 10, 40
# Group k owns the elements [4k, 4k + 4); those from 40 on are in no group.
INDEX = GroupIndex((Stretch(0, 1, 10, 4, np.arange(10, dtype=np.int32)),), GROUPS)
# Decayed: the first two elements of every group, and [40, 45).
DECAYED = (*(slice(4 * k, 4 * k + 2) for k in range(GROUPS)), slice(40, 45))
IS_DECAYED = np.zeros(SIZE, np.bool_)
for each in DECAYED:
    IS_DECAYED[each] = True

ALL: dict[str, type[OptimizerOptions]] = {**OPTIMIZERS, "progressive": ProgressiveOptions}
TURNS = {**DIRECTIONS, "sign": Sign}
every = pytest.mark.parametrize(("name", "direction"), [(n, d) for n in ALL for d in TURNS])


def lowest(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
    """Choose six groups: those that are gone, then the lowest."""
    first = np.zeros(GROUPS, np.bool_) if gone is None else gone
    chosen = np.zeros(GROUPS, np.bool_)
    chosen[np.lexsort((scores, ~first))[: round(share * 6)]] = True
    return chosen


def task(direction: str, **changes: object) -> Task:
    values = {"groups": INDEX, "select": lowest, "steps": STEPS, **changes}
    return Task(TURNS[direction](), SIZE, **values)  # type: ignore[arg-type]


def build(name: str, direction: str, **changes: object) -> Optimizer:
    return ALL[name]().build(task(direction, **changes))


def gradient(x: np.ndarray, step: int) -> np.ndarray:
    """Return the gradient of 0.5 ||x - 1||^2 plus noise that depends on the step alone: float32 [P].

    Each element depends on its own parameter alone.
    """
    noise = np.random.default_rng(step).standard_normal(SIZE) * 0.1
    return (x - 1 + noise).astype(np.float32)


def run(
    optimizer: Optimizer,
    x: np.ndarray,
    first: int,
    last: int,
    slope: Callable[[np.ndarray, int], np.ndarray] = gradient,
) -> None:
    for step in range(first, last):
        optimizer.step(x, slope(x, step), 0.05)


def start() -> np.ndarray:
    return np.random.default_rng(99).standard_normal(SIZE).astype(np.float32)


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
    run(build(name, direction), x, 0, 60)
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
    optimizer = build(name, direction, decayed=DECAYED)
    run(optimizer, x, 0, stop)
    state, middle = optimizer.state(), x.copy()
    run(optimizer, x, stop, STEPS + 2)
    other = build(name, direction, decayed=DECAYED)
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
def test_the_target_is_met_within_the_run_and_dead_stays_dead(name: str, direction: str) -> None:
    """Groups that are zero once are zero after every later step, whatever their gradients and decay."""
    x = start()
    optimizer = build(name, direction, decayed=DECAYED)
    dead = np.zeros(GROUPS, np.bool_)
    for step in range(STEPS + 20):
        optimizer.step(x, gradient(x, step), 0.05)
        zero = INDEX.square_norms(x) == 0
        assert (zero >= dead).all()
        assert optimizer.zeroed == np.count_nonzero(zero)
        dead = zero
        if step + 1 >= STEPS:
            assert optimizer.phase == "done"
            assert optimizer.zeroed == optimizer.target
    assert np.count_nonzero(dead) == (6 if ALL[name]().prunes else 0)
    assert not np.signbit(x[x == 0]).any()


@every
def test_what_is_not_penalised_trains_as_in_plain_training(name: str, direction: str) -> None:
    """Bit for bit, since each element's gradient is its own."""
    x, y = start(), start()
    run(build(name, direction, decayed=DECAYED), x, 0, STEPS)
    run(build("dense", direction, decayed=DECAYED), y, 0, STEPS)
    alive = np.repeat(INDEX.square_norms(x) != 0, 4)
    assert alive.sum() == (16 if ALL[name]().prunes else 40)
    same = np.append(alive, np.ones(10, np.bool_))
    np.testing.assert_array_equal(x[same], y[same])


@every
def test_no_groups_is_plain_training(name: str, direction: str) -> None:
    none = GroupIndex((), 0)
    x, y = start(), start()
    select = lambda *asked, **named: np.zeros(0, np.bool_)  # noqa: E731
    run(build(name, direction, groups=none, select=select), x, 0, STEPS)
    run(build("dense", direction), y, 0, STEPS)
    np.testing.assert_array_equal(x, y)


@every
def test_only_what_is_decayed_is(name: str, direction: str) -> None:
    """Without gradients, what is not decayed stays bit for bit until its group shrinks; the rest gets smaller."""
    x = start()
    before = x.copy()
    decay = TURNS[direction](weight_decay=0.1)
    none = GroupIndex((), 0)
    job = Task(decay, SIZE, none, lambda *asked, **named: np.zeros(0, np.bool_), STEPS, DECAYED)
    run(ALL[name]().build(job), x, 0, 10, lambda x, step: np.zeros_like(x))
    np.testing.assert_array_equal(x[~IS_DECAYED], before[~IS_DECAYED])
    assert (np.abs(x[IS_DECAYED]) < np.abs(before[IS_DECAYED])).all()


@every
def test_what_has_no_gradient_goes_with_its_group_and_stays_otherwise(name: str, direction: str) -> None:
    """A frozen parameter: no gradient, no decay. Here the second half of every group."""
    held = np.tile([False, False, True, True], GROUPS)

    def slope(x: np.ndarray, step: int) -> np.ndarray:
        found = gradient(x, step)
        found[:40][held] = 0.0
        return found

    x = start()
    before = x.copy()
    run(build(name, direction, decayed=DECAYED), x, 0, STEPS, slope)
    dead = np.repeat(INDEX.square_norms(x) == 0, 4)
    assert dead.sum() == (24 if ALL[name]().prunes else 0)
    assert not x[:40][dead].any()
    np.testing.assert_array_equal(x[:40][held & ~dead], before[:40][held & ~dead])


@every
def test_a_state_that_lacks_a_part_is_refused(name: str, direction: str) -> None:
    with pytest.raises(OtoError, match="optimizer state has no"):
        build(name, direction).restore({})


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_every_option_has_a_text_and_a_default_that_is_accepted(name: str, direction: str) -> None:
    made = method(name, direction, {})
    again = method(name, direction, {k: v for k, v in made.values().items() if v is not None})
    assert again == made

"""What every optimizer promises, run for each registered one, and one of the tests, with each direction.

With arrays of numpy, and with buffers on a device, which is the runtime's own provider where there is no other.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from onnx_oto.errors import OtoError
from onnx_oto.optim import DIRECTIONS, OPTIMIZERS, GroupIndex, Optimizer, Sgd, Stretch, Task, dhspg, method
from onnx_oto.optim.base import OptimizerOptions
from onnx_oto.optim.dhspg import DhspgOptions
from onnx_oto.optim.hesso import HessoOptions
from onnx_oto.optim.proximal import ProximalOptions
from tests.optim.on_device import OnDevice
from tests.optim.progressive import ProgressiveOptions, Sign

SIZE, GROUPS, STEPS = 50, 10, 40
# Group k owns the elements [4k, 4k + 4); those from 40 on are in no group.
INDEX = GroupIndex((Stretch(0, 1, 10, 4, np.arange(10, dtype=np.int32)),), GROUPS)
# Decayed: the first two elements of every group, and [40, 45).
DECAYED = (*(slice(4 * k, 4 * k + 2) for k in range(GROUPS)), slice(40, 45))
IS_DECAYED = np.zeros(SIZE, np.bool_)
for each in DECAYED:
    IS_DECAYED[each] = True


class InParts(DhspgOptions):
    """In runs of any length."""

    def build(self, task: Task) -> Optimizer:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dhspg, "LEAST_PART", 1)
            return super().build(task)


ALL: dict[str, Callable[[], OptimizerOptions]] = {
    **OPTIMIZERS,
    "dhspg in parts": lambda: InParts(rounds=4),
    "hesso in long periods": lambda: HessoOptions(rounds=3),
    "proximal in long rounds": lambda: ProximalOptions(rounds=3),
    "progressive": ProgressiveOptions,
}
TURNS = {**DIRECTIONS, "sign": Sign}
PRUNING = [name for name, make in ALL.items() if make().prunes]
NUMPY, DEVICE = "numpy", "device"
place = NUMPY
"""Where the buffers of a test lie: see `lies`."""

every = pytest.mark.parametrize(
    ("name", "direction", "lies"),
    [
        *((n, d, NUMPY) for n in ALL for d in TURNS),
        *((n, "adam", DEVICE) for n in ALL),
        *((n, d, DEVICE) for n in ("dense", "dhspg") for d in TURNS if d != "adam"),
    ],
    indirect=["lies"],
)
pruning = pytest.mark.parametrize(
    ("name", "lies"), [(n, p) for n in PRUNING for p in (NUMPY, DEVICE)], indirect=["lies"]
)

# The first step, of STEPS, that begins with all chosen groups at zero.
ANNOUNCED = {
    "dhspg": 16,
    "dhspg in parts": 16,
    "dhspg-published": 16,
    "hspg": 18,
    "hesso": 16,
    "hesso in long periods": 16,
    "proximal": 16,
    "proximal in long rounds": 16,
    "magnitude": 21,
    "one-shot": 1,
    "refit": 1,
    "progressive": 20,
}
# Their penalty is on all groups, not on the chosen ones alone.
ON_ALL = {"hspg", "proximal", "proximal in long rounds"}
# A group may stay although it was penalised.
MAY_STAY = ON_ALL | {"dhspg in parts"}


@pytest.fixture(autouse=True)
def lies(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the buffers lie where the parameter says."""
    monkeypatch.setattr(f"{__name__}.place", getattr(request, "param", NUMPY))


def lowest(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
    """Choose six groups: those that are gone, then the lowest."""
    first = np.zeros(GROUPS, np.bool_) if gone is None else gone
    chosen = np.zeros(GROUPS, np.bool_)
    chosen[np.lexsort((scores, ~first))[: max(round(share * 6), first.sum())]] = True
    return chosen


def task(direction: str, **changes: object) -> Task:
    values = {"groups": INDEX, "select": lowest, "steps": STEPS, **changes}
    return Task(TURNS[direction](), SIZE, **values)  # type: ignore[arg-type]


def build(name: str, direction: str, **changes: object) -> Optimizer:
    return built(ALL[name](), task(direction, **changes))


def built(options: OptimizerOptions, task: Task) -> Optimizer:
    return OnDevice(options, task) if place == DEVICE else options.build(task)


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
    assert x.tobytes() == middle.tobytes()
    states = [{key: value.tobytes() for key, value in each.state().items()} for each in (optimizer, other)]
    assert states[0] == states[1]
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


@pruning
def test_the_target_is_met_at_the_announced_step(name: str) -> None:
    """The run says "done" then and not before, and every chosen group is zero."""
    x = start()
    optimizer = build(name, "sgd")
    for step in range(STEPS):
        assert (optimizer.phase == "done") == (step >= ANNOUNCED[name]), step
        if step >= ANNOUNCED[name]:
            assert optimizer.zeroed == optimizer.target == np.count_nonzero(INDEX.square_norms(x) == 0) == 6
        optimizer.step(x, gradient(x, step), 0.05)


@pytest.mark.parametrize("name", [name for name in PRUNING if name != "progressive"])
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8])
def test_the_target_is_met_however_short_the_run_is(name: str, steps: int) -> None:
    x = start()
    optimizer = build(name, "sgd", steps=steps)
    run(optimizer, x, 0, steps)
    assert optimizer.phase == "done"
    assert optimizer.zeroed == optimizer.target == np.count_nonzero(INDEX.square_norms(x) == 0) == 6


@pruning
def test_whoever_selects_is_asked_and_obeyed(name: str) -> None:
    """Groups 0 and 1 have the lowest scores and must stay; the others may only go by twos.

    After every step the dead are among those of the last answer, and in the end they are that answer. The dead are told
    from the second question on, and are in the answer.
    """
    answers: list[np.ndarray] = []

    def in_pairs(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
        assert scores.shape == (GROUPS,)
        assert np.isfinite(scores).all()
        before = np.zeros(GROUPS, np.bool_) if gone is None else gone
        pairs = scores.reshape(5, 2).sum(1)
        pairs[before.reshape(5, 2).any(1)] = -np.inf
        pairs[0] = np.inf
        chosen = np.zeros((5, 2), np.bool_)
        chosen[np.argsort(pairs, kind="stable")[: round(share * 3)]] = True
        assert (chosen.ravel() >= before).all()
        answers.append(chosen.ravel())
        return answers[-1]

    x = start()
    x[:8] *= 1e-3
    optimizer = build(name, "sgd", select=in_pairs)
    dead = np.zeros(GROUPS, np.bool_)
    for step in range(STEPS):
        optimizer.step(x, gradient(x, step), 0.05)
        dead = INDEX.square_norms(x) == 0
        assert not (dead & ~(answers[-1] if answers else dead & False)).any()
    np.testing.assert_array_equal(dead, answers[-1])
    assert dead.sum() == 6


@pruning
def test_a_preset_group_is_zero_from_the_first_step_and_counts(name: str) -> None:
    """To `refit` it is all that goes."""
    preset = np.zeros(GROUPS, np.bool_)
    preset[[3, 7]] = True
    x = start()
    optimizer = build(name, "adam", preset=preset)
    for step in range(STEPS):
        optimizer.step(x, gradient(x, step), 0.05)
        zero = INDEX.square_norms(x) == 0
        assert zero[preset].all()
        assert optimizer.zeroed == np.count_nonzero(zero)
    assert optimizer.zeroed == optimizer.target == (2 if name == "refit" else 6)


@every
def test_what_is_not_penalised_trains_as_in_plain_training(name: str, direction: str) -> None:
    """Bit for bit, since each element's gradient is its own."""
    x, y = start(), start()
    run(build(name, direction, decayed=DECAYED), x, 0, STEPS)
    run(build("dense", direction, decayed=DECAYED), y, 0, STEPS)
    alive = np.repeat(INDEX.square_norms(x) != 0, 4)
    assert alive.sum() == (16 if ALL[name]().prunes else 40)
    same = np.append(alive & (name not in MAY_STAY), np.ones(10, np.bool_))
    np.testing.assert_array_equal(x[same], y[same])


@pytest.mark.parametrize("name", sorted(ON_ALL))
def test_a_penalty_on_all_ends_when_the_chosen_are_zero(name: str) -> None:
    """What stays gets shorter than in plain training before that, and takes plain steps from then on."""
    x, y = start(), start()
    optimizer = build(name, "sgd")
    run(optimizer, x, 0, 10)
    run(build("dense", "sgd"), y, 0, 10)
    assert (INDEX.square_norms(x) < INDEX.square_norms(y)).all()
    run(optimizer, x, 10, ANNOUNCED[name])
    other = x.copy()
    plain = build("dense", "sgd")
    plain.restore({k: v for k, v in optimizer.state().items() if k.startswith("direction.")})
    alive = np.append(np.repeat(INDEX.square_norms(x) != 0, 4), np.ones(10, np.bool_))
    run(optimizer, x, ANNOUNCED[name], STEPS)
    run(plain, other, ANNOUNCED[name], STEPS)
    np.testing.assert_array_equal(x[alive], other[alive])


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
    run(built(ALL[name](), job), x, 0, 10, lambda x, step: np.zeros_like(x))
    np.testing.assert_array_equal(x[~IS_DECAYED], before[~IS_DECAYED])
    assert (np.abs(x[IS_DECAYED]) < np.abs(before[IS_DECAYED])).all()


@every
def test_what_has_no_gradient_goes_with_its_group_and_stays_otherwise(name: str, direction: str) -> None:
    """A frozen parameter: no gradient, no decay. Here group k owns [2k, 2k + 2), which trains, and the like from 20."""
    labels = np.arange(10, dtype=np.int32)
    index = GroupIndex((Stretch(0, 1, 10, 2, labels), Stretch(20, 1, 10, 2, labels)), GROUPS)

    def slope(x: np.ndarray, step: int) -> np.ndarray:
        found = gradient(x, step)
        found[20:40] = 0.0
        return found

    x = start()
    before = x.copy()
    decayed = (slice(0, 20), slice(40, 45))
    run(build(name, direction, groups=index, decayed=decayed, still=(slice(20, 40),)), x, 0, STEPS, slope)
    dead = np.repeat(index.square_norms(x) == 0, 2)
    assert dead.sum() == (12 if ALL[name]().prunes else 0)
    assert not x[:40][np.tile(dead, 2)].any()
    np.testing.assert_array_equal(x[20:40][~dead], before[20:40][~dead])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("columns", [False, True])
def test_no_step_allocates_what_grows_with_the_parameters(
    name: str, columns: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most that is allocated within a step, in any phase, with a million parameters and with four; one thread.

    Groups are rows, or columns (as in the weights of MatMul), of which every piece of the buffer has all.
    """
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    peaks = []
    for million in (1, 4):
        size = million << 20
        outer, inner = (size // 256, 1) if columns else (1, size // 256)
        index = GroupIndex((Stretch(0, outer, 256, inner, np.arange(256, dtype=np.int32)),), 256)

        def half(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
            first = np.zeros(256, np.bool_) if gone is None else gone
            chosen = np.zeros(256, np.bool_)
            chosen[np.lexsort((scores, ~first))[: round(share * 128)]] = True
            return chosen

        optimizer = ALL[name]().build(Task(Sgd(), size, index, half, 20))
        rng = np.random.default_rng(0)
        x, g = rng.standard_normal((2, size), np.float32)
        slope = g.copy()
        most = 0
        for step in range(20):
            np.copyto(g, slope)
            if step in (0, 1, 2, 3):  # what is made once is made now
                optimizer.step(x, g, 0.01)
                continue
            tracemalloc.start()
            optimizer.step(x, g, 0.01)
            most = max(most, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        peaks.append(most)
    assert peaks[1] - peaks[0] < 1 << 16, peaks
    assert peaks[1] < 1 << 20, peaks


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

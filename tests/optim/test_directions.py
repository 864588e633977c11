"""Directions against their formulas, written once more in plain float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from onnx_oto.errors import OtoError
from onnx_oto.optim.directions import Adam, AdamW, Direction, Sgd
from onnx_oto.optim.stepper import Stepper
from onnx_oto.optim.workers import PIECE

Steps = list[np.ndarray]


def naive_sgd(
    x: np.ndarray, gradients: Steps, lr: float, mu: float, nesterov: bool, decay: float
) -> np.ndarray:
    m = np.zeros_like(x)
    for g in gradients:
        d = g + decay * x
        m = mu * m + d
        x = x - lr * (d + mu * m if nesterov else m)
    return x


def naive_adam(
    x: np.ndarray,
    gradients: Steps,
    lr: float,
    decay: float,
    decoupled: float,
    b1: float = 0.9,
    b2: float = 0.999,
) -> np.ndarray:
    m, s = np.zeros_like(x), np.zeros_like(x)
    for t, g in enumerate(gradients, 1):
        d = g + decay * x
        m = b1 * m + (1 - b1) * d
        s = b2 * s + (1 - b2) * d**2
        x = x - lr * (m / (1 - b1**t) / (np.sqrt(s / (1 - b2**t)) + 1e-8) + decoupled * x)
    return x


CASES: dict[str, tuple[Direction, Callable[[np.ndarray, Steps, float], np.ndarray]]] = {
    "sgd": (Sgd(0.0, False, 0.0), lambda x, g, lr: naive_sgd(x, g, lr, 0.0, False, 0.0)),
    "momentum": (Sgd(0.9, False, 0.01), lambda x, g, lr: naive_sgd(x, g, lr, 0.9, False, 0.01)),
    "nesterov": (Sgd(0.8, True, 0.01), lambda x, g, lr: naive_sgd(x, g, lr, 0.8, True, 0.01)),
    "adam": (Adam(weight_decay=0.01), lambda x, g, lr: naive_adam(x, g, lr, 0.01, 0.0)),
    "adamw": (AdamW(weight_decay=0.02), lambda x, g, lr: naive_adam(x, g, lr, 0.0, 0.02)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fused", [True, False])
def test_five_steps_follow_the_formula(name: str, fused: bool) -> None:
    direction, naive = CASES[name]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(7)
    gradients = list(rng.standard_normal((5, 7)))
    expected = naive(x.copy(), gradients, 0.1)
    stepper = Stepper(direction, 7, dtype=np.float64)
    for g in gradients:
        v = g.copy()
        if fused:
            stepper.plain(x, v, 0.1)
        else:
            stepper.turn(x, v)
            stepper.descend(x, v, 0.1)
    np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-12)
    assert stepper.taken == 5


@pytest.mark.parametrize("name", CASES)
def test_pieces_and_threads_do_not_change_a_bit(name: str) -> None:
    """Six pieces, the last one short, on one and on three threads."""
    size = 5 * PIECE + 3
    rng = np.random.default_rng(2)
    start, first, second = rng.standard_normal((3, size), np.float32)
    results = []
    for threads in (1, 3):
        x = start.copy()
        stepper = Stepper(CASES[name][0], size, threads)
        for g in (first, second):
            stepper.plain(x, g.copy(), 0.05)
        results.append(x)
    np.testing.assert_array_equal(results[0], results[1])
    assert results[0].dtype == np.float32


@pytest.mark.parametrize("direction", [Sgd(0.9, True, 0.1), Adam(weight_decay=0.1), AdamW(weight_decay=0.1)])
@pytest.mark.parametrize("threads", [1, 3])
def test_decayed_stretches_may_lie_anywhere(direction: Direction, threads: int) -> None:
    """Within a piece, over the edges of several, up to the end; element by element as with and without decay."""
    size = 5 * PIECE + 3
    stretches = [slice(7, 9), slice(0, 3), slice(100, 2 * PIECE + 5), slice(2 * PIECE + 5, 3 * PIECE)]
    stretches += [slice(3 * PIECE + 1, 3 * PIECE + 2), slice(size - 1, size)]
    marked = np.zeros(size, np.bool_)
    for each in stretches:
        marked[each] = True
    start, first, second = np.random.default_rng(2).standard_normal((3, size), np.float32)
    found = []
    for decayed in (stretches, None, ()):
        x = start.copy()
        stepper = Stepper(direction, size, threads, decayed=decayed)
        for g in (first, second):
            stepper.plain(x, g.copy(), 0.05)
        found.append(x)
    np.testing.assert_array_equal(found[0], np.where(marked, found[1], found[2]))
    assert (found[1] != found[2]).mean() > 0.9


@pytest.mark.parametrize("stretches", [[slice(0, 3), slice(2, 4)], [slice(3, 6)], [slice(3, 2)]])
def test_stretches_that_overlap_or_do_not_fit_are_refused(stretches: list[slice]) -> None:
    with pytest.raises(OtoError, match="overlaps another, or the 5 parameters end before"):
        Stepper(Sgd(), 5, decayed=stretches)


def test_a_state_of_another_size_is_refused() -> None:
    state = Stepper(Sgd(), 3).state()
    with pytest.raises(OtoError, match=r"'momentum': found \(3,\), expected \(4,\)"):
        Stepper(Sgd(), 4).restore(state)
    with pytest.raises(OtoError, match="'mean': found nothing"):
        Stepper(Adam(), 3).restore(state)

"""Optimizers on a device take the steps that they take in numpy, within float32's noise."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.errors import OtoError
from onnx_oto.optim import DIRECTIONS, GroupIndex, Optimizer, Stretch, Task
from onnx_oto.optim.away import Segments
from tests.optim.on_device import OnDevice, padded, there
from tests.optim.test_optimizer_contract import ALL, TURNS

K, STEPS = 24, 40
LABELS = np.arange(K, dtype=np.int32)
INDEX = GroupIndex(
    (
        Stretch(0, 1, K, 700, LABELS),  # more than one row of a row of sums
        Stretch(16800, 9, K, 1, LABELS[::-1].copy()),
        Stretch(17100, 2, K, 3, np.where(LABELS % 3 == 0, -1, LABELS).astype(np.int32)),
        Stretch(17300, 1, K, 1, LABELS, is_scale=True),
    ),
    K,
)
SIZE = 17400
DECAYED = (slice(0, 16800), slice(17100, 17200), slice(17380, 17390))


def lowest(scores: np.ndarray, share: float = 1.0, gone: np.ndarray | None = None) -> np.ndarray:
    first = np.zeros(K, np.bool_) if gone is None else gone
    chosen = np.zeros(K, np.bool_)
    chosen[np.lexsort((scores, ~first))[: max(round(share * 15), first.sum())]] = True
    return chosen


def steps(optimizer: Optimizer) -> list[np.ndarray]:
    """Return the parameters after every step towards 0.3, with noise."""
    x = np.random.default_rng(1).standard_normal(SIZE).astype(np.float32)
    found = []
    for step in range(STEPS):
        noise = np.random.default_rng(step).standard_normal(SIZE).astype(np.float32)
        optimizer.step(x, 0.2 * (x - 0.3) + 0.1 * noise, 0.02)
        found.append(x.copy())
    return found


@pytest.mark.parametrize(
    ("name", "direction"),
    [*((name, "adam") for name in ALL), *((n, d) for n in ("dense", "dhspg") for d in TURNS if d != "adam")],
)
def test_trajectories_are_those_of_numpy(name: str, direction: str) -> None:
    preset = LABELS == 5 if name == "refit" else None
    still = (slice(17100, 17244),)
    task = Task(TURNS[direction](), SIZE, INDEX, lowest, STEPS, DECAYED, preset, still)
    here, away = ALL[name]().build(task), OnDevice(ALL[name](), task)
    for number, (expected, found) in enumerate(zip(steps(here), steps(away), strict=True)):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=5e-7, err_msg=f"step {number}")
        np.testing.assert_array_equal(found == 0, expected == 0, err_msg=f"step {number}")
    assert (away.phase, away.zeroed, away.target) == (here.phase, here.zeroed, here.target)


@pytest.mark.parametrize("which", ["all", "some", "outside"])
def test_sums_and_edits_of_groups_are_those_of_numpy(which: str) -> None:
    chosen = LABELS % 5 != 1
    index = {"all": INDEX, "some": INDEX.subset(chosen), "outside": INDEX.outside((slice(0, 16800),))}[which]
    x, y = np.random.default_rng(2).standard_normal((2, SIZE)).astype(np.float32)
    a, b = there(x), there(y)
    for found, expected in zip(index.moments(a, b), index.moments(x, y), strict=True):  # type: ignore[arg-type]
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-4)
    np.testing.assert_allclose(index.dots(a, b), index.dots(x, y), rtol=2e-6, atol=1e-4)  # type: ignore[arg-type]
    np.testing.assert_allclose(index.norm_scales(a), index.norm_scales(x), rtol=2e-6)  # type: ignore[arg-type]
    factor = np.linspace(-1, 2, K)
    gone = LABELS % 4 == 2
    for array in (x, a):
        index.scale(array, factor)  # type: ignore[arg-type]
        index.zero(array, gone)  # type: ignore[arg-type]
    np.testing.assert_array_equal(np.asarray(a)[:SIZE], x)
    assert not np.asarray(a)[SIZE:].any()


@pytest.mark.parametrize(("count", "size", "width"), [(3, 40, 4), (5, 200, 2), (1, 70, 8), (4, 9, 128)])
def test_rows_of_rows_end_with_one_for_each_group(count: int, size: int, width: int) -> None:
    rng = np.random.default_rng(size)
    labels = rng.integers(0, count + 1, size).astype(np.int32)
    labels[-1] = count
    x = rng.integers(0, 9, size).astype(np.float64)
    x[-1] = 0.0
    found, sums = Segments.of(labels, count, width=width), x
    for level in found.levels:
        assert level.shape[1] == width
        sums = np.append(sums, 0.0)[level].sum(1) if level is not found.levels[0] else sums[level].sum(1)
    expected = np.bincount(labels, x, count + 1)[:count]
    there_are = np.bincount(labels, minlength=count + 1)[:count] > 0
    np.testing.assert_array_equal(found.groups, np.flatnonzero(there_are))
    np.testing.assert_array_equal(sums, expected[there_are])


def test_a_buffer_needs_an_element_of_no_group() -> None:
    index = GroupIndex((Stretch(0, 1, 2, 32, np.arange(2, dtype=np.int32)),), 2)
    x = there(np.ones(63, np.float32))
    assert padded(63) == 64
    with pytest.raises(OtoError, match="last element of a buffer on a device belongs to a group"):
        index.square_norms(x)  # type: ignore[arg-type]


def test_every_direction_is_traced() -> None:
    """The directions of the package are in the suite above."""
    assert set(DIRECTIONS) <= set(TURNS)

"""Numbers of lanes: which can go at all, and the best way to one."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from onnx_oto.zigs.totals import at_price, at_share, nearest_total, quotas, share_for, to_total, unevenness
from onnx_oto.zigs.units import Family


def family(units: int, step: int = 1, steps: list[int] | None = None, seed: int = 0) -> Family:
    rng = np.random.default_rng(seed)
    loss = np.concatenate([[0.0], np.cumsum(np.sort(rng.random(units)))])
    lanes = np.arange(units * step).reshape(units, step)
    allowed = np.arange(units + 1) if steps is None else np.array(steps)
    return Family("w", lanes, lanes.reshape(-1), 0, units, loss, allowed)


def lanes(families: list[Family], counts: np.ndarray) -> int:
    return sum(f.step * int(k) for f, k in zip(families, counts, strict=True))


def drawn(seed: int) -> list[Family]:
    rng = np.random.default_rng(seed)
    made = []
    for number in range(int(rng.integers(1, 5))):
        units = int(rng.integers(1, 7))
        some = np.flatnonzero(rng.random(units + 1) < 0.7).tolist() or [0]
        made.append(
            family(units, int(rng.integers(1, 4)), some if rng.random() < 0.6 else None, 10 * seed + number)
        )
    return made


@pytest.mark.parametrize("seed", range(60))
def test_against_enumeration(seed: int) -> None:
    families = drawn(seed)
    every = list(itertools.product(*(f.steps.tolist() for f in families)))
    totals = {lanes(families, np.array(counts)) for counts in every}
    for wanted in range(max(totals) + 4):
        total = nearest_total(families, wanted)
        assert total == min(totals, key=lambda each: (abs(each - wanted), each))
        start = at_price(families, total)
        counts = to_total(families, [f.loss for f in families], start, total)
        assert lanes(families, counts) == total
        assert all(k in f.steps for f, k in zip(families, counts, strict=True))
        losses = [
            sum(f.loss[k] for f, k in zip(families, each, strict=True))
            for each in every
            if lanes(families, np.array(each)) == total
        ]
        found = sum(f.loss[k] for f, k in zip(families, counts, strict=True))
        assert found <= min(losses) + 1e-9


def test_nothing_has_one_total() -> None:
    assert nearest_total([], 5) == 0
    assert to_total([], [], np.zeros(0, np.int64), 0).size == 0


def test_long_rows_are_added_up_as_short_ones() -> None:
    assert nearest_total([family(1000, 3), family(999, 2)], 1) == 0
    assert nearest_total([family(1000, 3), family(999, 2)], 3 * 1000 + 2 * 999 - 1) == 3 * 1000 + 2 * 999 - 2
    far = family(20, 1, [0, 20])
    assert nearest_total([far], 10) == 0
    assert nearest_total([far], 11) == 20


def test_the_way_to_a_total_may_be_far() -> None:
    """One family can only lose all of its units, the others must give as many back."""
    families = [family(40, 1, [0, 40], seed=1), *(family(30, 1, seed=n) for n in (2, 3))]
    start = np.array([0, 20, 21])
    counts = to_total(families, [f.loss for f in families], start, 95)
    assert lanes(families, counts) == 95
    assert counts[0] == 40


def test_shares() -> None:
    families = [family(10), family(4, 2), replace(family(8, steps=[3, 4, 5, 8]), gone=3)]
    assert quotas(families, 0.5).tolist() == [5, 2, 4]
    assert quotas(families, 0.1).tolist() == [1.0, 0.4, 3.0]
    assert at_share(families, 0.5).tolist() == [5, 2, 4]
    assert at_share(families, 0.85).tolist() == [8, 3, 8]
    for total in (5, 13, 20):
        assert float(quotas(families, share_for(families, total)) @ [1, 2, 1]) == pytest.approx(total)


def test_of_equal_families_the_first_lose_one_more() -> None:
    families = [family(5, seed=n) for n in range(3)]
    share = share_for(families, 8)
    counts = to_total(families, unevenness(families, share), at_share(families, share), 8)
    assert counts.tolist() == [3, 3, 2]

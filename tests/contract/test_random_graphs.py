"""Random graphs with random keep sets. `tools/fuzz.py` runs many more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .exactness import KeepSet
from .random_check import examine, random_model
from .random_graphs import sketch
from .random_steps import STEPS


def _keep_sets(seed: int) -> tuple[KeepSet, ...]:
    return KeepSet(seed, 0.5), KeepSet(seed + 1, 0.8, "global"), KeepSet(seed + 2, 0.4, round_to=2)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data(), st.integers(1, 7))
def test_random_graph_is_exact(data: st.DataObject, count: int) -> None:
    model = random_model(lambda n: data.draw(st.integers(0, n - 1)), count)
    examine(model, _keep_sets(count))


@pytest.mark.parametrize("seed", range(60))
def test_seeded_graph_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(lambda n: int(rng.integers(n)), 3 + seed % 9, seed=seed)
    examine(model, _keep_sets(seed))


@pytest.mark.parametrize("seed", range(60, 120))
def test_seeded_graph_is_exact_when_heads_stay(seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = random_model(lambda n: int(rng.integers(n)), 3 + seed % 9, seed=seed)
    examine(model, _keep_sets(seed), head_dims=True)


def test_every_step_applies_somewhere() -> None:
    applied: set[str] = set()
    every = {step.__name__ for step in STEPS}
    for seed in range(400):
        if applied == every:
            break
        rng = np.random.default_rng(seed)

        def pick(n: int, rng: np.random.Generator = rng) -> int:
            return int(rng.integers(n))

        drawn = sketch(pick, STEPS, 6, seed=seed)
        applied |= {step.__name__ for step in set(STEPS) if step.__name__ not in applied and step(drawn)}
    assert applied == every


def test_random_graphs_have_much_to_remove() -> None:
    """The generator must not drift into graphs where everything is frozen: then nothing would be tested."""
    prunable, removed = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        outcome = examine(
            random_model(lambda n, rng=rng: int(rng.integers(n)), 6, seed=seed), [KeepSet(seed, 0.5)]
        )
        prunable += outcome.prunable
        removed += outcome.removed
    assert prunable >= 60
    assert removed >= 25

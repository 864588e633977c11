"""Random graphs: after a refit the zeroed full model still equals the compact one, and lanes keep their numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onnx_oto.data.source import Batch
from onnx_oto.model import normal_form
from onnx_oto.model.normal.origins import Origins
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.opening import Opened
from onnx_oto.pipeline.options import PruneOptions
from onnx_oto.pipeline.refitting import full_without, lane_losses, look, with_values
from onnx_oto.runtime.comparing import random_inputs
from onnx_oto.runtime.limits import SENSIBLE
from onnx_oto.surgery import compact
from onnx_oto.zigs import analyse, choose
from tests.contract.exactness import KeepSet, assert_equal, outputs
from tests.contract.random_check import compare_in_double, random_model

KEEP_SETS = (
    KeepSet(0, 0.4, "global"),
    KeepSet(0, 0.6, "dimension"),
    KeepSet(0, 0.5, "global", round_to=2),
    KeepSet(0, 0.85, "global"),
)


@dataclass(frozen=True)
class Made:
    """Samples of one input."""

    x: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: np.ndarray, rng: np.random.Generator | None) -> Batch:
        return Batch({"x": self.x[indices]}, {}, indices)


def opened(model: onnx.ModelProto) -> Opened:
    origins = Origins()
    normal = normal_form(model, origins=origins).model
    return Opened(
        Path("model.onnx"),
        0,
        analyse(normal),
        origins,
        {t.name: tuple(t.dims) for t in model.graph.initializer},
    )


def examine(model: onnx.ModelProto) -> tuple[int, int]:
    """Return how many layers were watched and how many lanes were removed, after asserting the contract."""
    full = opened(model)
    analysis = full.analysis
    if not any(d.size > 1 for d in analysis.prunable):
        return 0, 0
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    x = np.random.default_rng(4).standard_normal((37, *shape)).astype(np.float32)
    names = [value.name for value in model.graph.output]
    told: list[str] = []
    seen = look(full, Serving(), names, Made(x), samples=37, seed=0, limits=SENSIBLE, say=told.append)
    scores = lane_losses(seen, seed=0, limits=SENSIBLE, say=told.append)
    assert np.isfinite(scores).all()
    assert (scores >= 0).all()
    feed = random_inputs(model, np.random.default_rng(7), batch=2)
    removed = 0
    for keep_set in KEEP_SETS:
        choice = choose(
            analysis,
            scores,
            keep_set.sparsity,
            scope=keep_set.scope,
            round_to=keep_set.round_to,
            additive=True,
        )
        found = seen.refit(choice.drop)
        assert all(np.isfinite(value).all() for value in found.values.values())
        again = with_values(full, found.values, PruneOptions()).analysis
        np.testing.assert_array_equal(again.lanes.of_label, analysis.lanes.of_label)
        zeroed = full_without(analysis, found.values, choice.drop)
        small = compact(again, choice.drop)
        try:
            assert_equal(outputs(zeroed, feed), outputs(small, feed), str(keep_set))
        except AssertionError as difference:
            compare_in_double(zeroed, small, feed, difference)
        removed += choice.dropped
    return len(seen.moments), removed


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data(), st.integers(1, 7))
def test_random_graph(data: st.DataObject, count: int) -> None:
    examine(random_model(lambda n: data.draw(st.integers(0, n - 1)), count))


@pytest.mark.parametrize("seed", range(12))
def test_seeded_graph(seed: int) -> None:
    rng = np.random.default_rng(seed)
    examine(random_model(lambda n: int(rng.integers(n)), 3 + seed % 9, seed=seed, constants=seed % 3 == 0))


def test_much_is_watched_and_removed() -> None:
    """Or nothing would be tested."""
    watched = removed = 0
    for seed in range(100, 106):
        rng = np.random.default_rng(seed)
        found = examine(random_model(lambda n, rng=rng: int(rng.integers(n)), 6, seed=seed))
        watched, removed = watched + found[0], removed + found[1]
    assert watched >= 6
    assert removed >= 25

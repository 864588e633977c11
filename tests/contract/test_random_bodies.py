"""Random models with bodies. `tools/fuzz.py --bodies` runs many more."""

from __future__ import annotations

from collections import Counter

import pytest

from onnx_oto.model.graph.order import bodies, nodes_inside

from .bodies_check import bodies_model, examine_bodies


@pytest.mark.parametrize("first", range(0, 24, 6))
def test_models_with_bodies_are_exact(first: int) -> None:
    """They must also have something to remove, and run: else nothing would be tested."""
    outcomes = [examine_bodies(bodies_model(seed, 8), seed) for seed in range(first, first + 6)]
    assert sum(outcome.removed for outcome in outcomes) >= 30
    assert sum(outcome.crashed for outcome in outcomes) <= 1


def test_models_have_bodies_of_all_kinds_and_inside_of_each_other() -> None:
    kinds: Counter[str] = Counter()
    for seed in range(200):
        model = bodies_model(seed, 8)
        assert any(any(bodies(node)) for node in model.graph.node)
        for node in model.graph.node:
            inner = [each for body in bodies(node) for each in nodes_inside(body.node)]
            kinds.update(f"{node.op_type}/{each.op_type}" for each in inner if any(bodies(each)))
    for outer in ("If", "Loop", "Scan"):
        assert {f"{outer}/{inner}" for inner in ("If", "Loop", "Scan")} <= kinds.keys()

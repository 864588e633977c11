"""Random chains of views with sizes computed at run time: exact at every size, and pruned as with fixed sizes."""

from __future__ import annotations

import onnx
import pytest

from .open_check import FIXED, SIZES, examine_open
from .random_open import open_model


@pytest.mark.parametrize("first", range(0, 80, 10))
def test_open_models_are_exact_at_every_size(first: int) -> None:
    outcomes = [examine_open(seed) for seed in range(first, first + 10)]
    assert all(outcome.ran == len(SIZES) for outcome in outcomes)
    assert sum(o.removed for o in outcomes) >= 0.8 * sum(o.removed_fixed for o in outcomes) > 0


def test_sizes_are_open_or_fixed() -> None:
    sizes = [
        [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
        for model in (open_model(3), open_model(3, FIXED))
    ]
    assert sizes[0].count(0) >= 2
    assert 0 not in sizes[1]
    assert [n.op_type for n in open_model(3).graph.node] == [
        n.op_type for n in open_model(3, FIXED).graph.node
    ]
    onnx.checker.check_model(open_model(3), full_check=True)

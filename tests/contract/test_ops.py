"""Every operator with a rule, in a small model around it, under the exactness contract."""

from __future__ import annotations

import onnx
import pytest

from onnx_oto.model.graph.flat import BODIES, ENTRY
from onnx_oto.ops import RULES

from . import (
    rows_bodies,
    rows_elementwise,
    rows_fused,
    rows_grouped,
    rows_index,
    rows_linear,
    rows_norm,
    rows_quantize,
    rows_reduce,
    rows_sample,
    rows_sequence,
    rows_views,
)
from .rows import Row

ROWS = [
    *rows_bodies.ROWS,
    *rows_elementwise.ROWS,
    *rows_fused.ROWS,
    *rows_grouped.ROWS,
    *rows_linear.ROWS,
    *rows_norm.ROWS,
    *rows_quantize.ROWS,
    *rows_reduce.ROWS,
    *rows_sample.ROWS,
    *rows_views.ROWS,
    *rows_index.ROWS,
    *rows_sequence.ROWS,
]
UNKNOWN_TO_ONNX = {"SimplifiedLayerNormalization"}
"""Operators that only onnxruntime knows: the onnx checker refuses every model with them, so no row can run."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_row_is_exact_and_as_expected(row: Row) -> None:
    row.run()


def test_every_rule_has_a_row() -> None:
    rules = {op.removeprefix(f"{BODIES}::").removesuffix(ENTRY) for op in RULES}
    missing = sorted(rules - {row.op for row in ROWS} - UNKNOWN_TO_ONNX)
    assert not missing, f"add a row for {', '.join(missing)} to tests/contract/rows_*.py"


@pytest.mark.parametrize("op", sorted(UNKNOWN_TO_ONNX))
def test_operator_without_a_row_is_unknown_to_onnx(op: str) -> None:
    assert not any(onnx.defs.has(op, version) for version in range(1, onnx.defs.onnx_opset_version() + 1))


def test_titles_are_unique() -> None:
    names = [row.id for row in ROWS]
    assert len(names) == len(set(names))

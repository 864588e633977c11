"""Gradients as plain ONNX where sizes depend on values: the same as where they are known."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_oto.gradients.backends.plain import Plain, reverse, table
from onnx_oto.gradients.backends.plain.table import TABLE
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.gradients.graph.static_types import Type, types

from .harness import Row, ours
from .rows import ROWS
from .sweep_windows import OPS, RANKS, draw, errors

OWN = [row for row in ROWS if row.op in TABLE]


def hidden(model: onnx.ModelProto) -> dict[str, Type]:
    """Return the types of a model's tensors without the sizes of what it computes, but of nodes that ask for them."""
    known = types(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    given = {*constants, *(value.name for value in model.graph.input)}
    ranks = {name: len(kind.shape) for name, kind in known.items() if kind.shape is not None}
    for node in model.graph.node:
        bare = Facts({name: known[name].static or () for name in given}, constants=constants, ranks=ranks)
        if node.op_type in TABLE and TABLE[node.op_type].any_size and table.covers(node, bare):
            given |= {*filter(None, node.input), *node.output}
    symbols = {name: tuple(f"{name}.{axis}" for axis in range(rank)) for name, rank in ranks.items()}
    return {
        name: kind if name in given or name not in symbols else Type(kind.dtype, symbols[name])
        for name, kind in known.items()
    }


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Plain:
    """Return the backend without any knowledge of sizes, on the way back."""
    monkeypatch.setattr(reverse, "types", hidden)
    return Plain()


@pytest.mark.parametrize("row", OWN, ids=[row.id for row in OWN])
def test_sizes_are_not_asked_for(row: Row, backend: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    open_loss, _, opened = ours(row, backend)
    monkeypatch.setattr(reverse, "types", types)
    loss, _, known = ours(row, backend)
    assert open_loss == pytest.approx(loss, rel=1e-6)
    for name, gradient in known.items():
        scale = max(1.0, float(np.abs(gradient).max()))
        np.testing.assert_allclose(opened[name], gradient, rtol=0, atol=row.tolerance * scale, err_msg=name)


@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("op", OPS)
def test_windows(op: str, rank: int, seed: int, backend: Plain) -> None:
    case = draw(op, rank, seed)
    found = errors(case, backend=backend)
    assert max(found.values()) <= 2e-5, (case.text, found)


def test_only_a_loss_asks_for_sizes() -> None:
    assert {op for op, entry in TABLE.items() if not entry.any_size} == {"SoftmaxCrossEntropyLoss"}

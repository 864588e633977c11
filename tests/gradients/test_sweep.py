"""A sample of `tools/gradients`: random one-op models against their exact gradients."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from onnx_oto.gradients import Backend
from onnx_oto.gradients.backends.ort_covers import covers
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.gradients.graph.lowering import lower

from . import sweep_rows
from .harness import FLOAT32
from .sweep_windows import OPS, RANKS, draw, errors


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rank", RANKS)
@pytest.mark.parametrize("op", OPS)
def test_windows(op: str, rank: int, seed: int, backend: Backend) -> None:
    case = draw(op, rank, seed)
    found = errors(case, backend=backend)
    assert found.keys() == {"loss", *("a.param" if name == "a" else name for name in case.wanted)}
    assert max(found.values()) <= FLOAT32, (case.text, found)


@pytest.mark.parametrize("op", sweep_rows.FAMILIES)
def test_rows(op: str, backend: Backend) -> None:
    row = sweep_rows.draw(op, seed=1)
    found = sweep_rows.errors(row, backend)
    assert max(found.values()) <= FLOAT32, (row.body, found)


def model_of(body: str, shape: tuple[int, ...], weight: tuple[int, ...] = ()) -> onnx.ModelProto:
    dims = ",".join(map(str, shape))
    text = f'<ir_version: 8, opset_import: ["": 19]> g (float[{dims}] x) => (float[A,B,C,D,E] y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    if weight:
        model.graph.initializer.append(numpy_helper.from_array(np.ones(weight, np.float32), "w"))
    return model


@pytest.mark.parametrize("group", [1, 64])
def test_depthwise_volumes_take_as_many_nodes_as_others(group: int) -> None:
    """A sum over the three planes of the kernel, however many groups there are."""
    model = model_of(f"y = Conv<group={group}>(x, w)", (2, 64, 5, 5, 5), (64, 64 // group, 3, 3, 3))

    def covers_images(node: onnx.NodeProto, facts: Facts) -> str | None:
        return "no volumes" if node.op_type == "Conv" and len(facts.shapes[node.input[0]]) == 5 else None

    nodes = lower(model, ["x"], covers_images).model.graph.node
    assert [node.op_type for node in nodes].count("Conv") == 3
    assert len(nodes) < 25


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_windows_that_runtimes_disagree_about_are_refused(op: str) -> None:
    body = f"y = {op}<kernel_shape=[1, 2, 2], strides=[1, 2, 2], pads=[0, 1, 1, 0, 1, 1], ceil_mode=1>(x)"
    (refusal,) = lower(model_of(body, (2, 3, 4, 5, 4)), ["x"], covers).refusals
    assert "a window that lies in the padding altogether" in refusal.advice
    assert lower(model_of(body, (2, 3, 4, 4, 4)), ["x"], covers).refusals == ()

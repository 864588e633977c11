"""Sequences of the parts of a split become a Split."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnx_oto.model import normalise
from onnx_oto.runtime.runner import runner


def split(body: str, split: str = "int64 s = {2}", opset: int = 17) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : {opset}]>
        g (float[N,5] x) => (float[N,2] y) <{split}, int64 i = {{0}}, int64 k = {{-1}}, int64 j = {{1}}> {{ {body} }}"""
    )


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        (
            "q = SplitToSequence<axis=1>(x, s) a = SequenceAt(q, i) b = SequenceAt(q, j) y = Add(a, b)",
            [2, 2, 1],
        ),
        (
            "q = SplitToSequence<axis=1>(x, s) a = SequenceAt(q, i) b = SequenceAt(q, k) y = Add(a, b)",
            [2, 2, 1],
        ),
    ],
)
def test_equal_parts(body: str, sizes: list[int]) -> None:
    model = split(body)
    result = normalise(model)
    assert [n.op_type for n in result.graph.node if "equence" in n.op_type] == []
    (node,) = [n for n in result.graph.node if n.op_type == "Split"]
    written = {t.name: onnx.numpy_helper.to_array(t) for t in result.graph.initializer}[node.input[1]]
    assert written.tolist() == sizes
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    np.testing.assert_array_equal(runner(model)({"x": x})[0], runner(result)({"x": x})[0])


def test_listed_parts() -> None:
    model = split(
        "q = SplitToSequence<axis=1>(x, s) a = SequenceAt(q, i) b = SequenceAt(q, j) y = Sub(a, b)",
        "int64[3] s = {2, 2, 1}",
    )
    result = normalise(model)
    assert any(n.op_type == "Split" for n in result.graph.node)
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    np.testing.assert_array_equal(runner(model)({"x": x})[0], runner(result)({"x": x})[0])


def test_parts_before_sizes_were_an_input() -> None:
    model = split(
        "q = SplitToSequence<axis=1>(x, s) a = SequenceAt(q, i) b = SequenceAt(q, j) y = Add(a, b)", opset=11
    )
    result = normalise(model)
    (node,) = [n for n in result.graph.node if n.op_type == "Split"]
    assert {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}["split"] == [2, 2, 1]
    x = np.arange(10, dtype=np.float32).reshape(2, 5)
    np.testing.assert_array_equal(runner(model)({"x": x})[0], runner(result)({"x": x})[0])


def test_a_sequence_that_is_used_otherwise_stays() -> None:
    model = split(
        "q = SplitToSequence<axis=1>(x, s) n = SequenceLength(q) a = SequenceAt(q, i) m = Cast<to=1>(n) y = Add(a, m)"
    )
    assert any(n.op_type == "SplitToSequence" for n in normalise(model).graph.node)

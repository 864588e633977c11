"""Subgraphs in the form of the model's opset."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from onnx_oto.model.graph.writer import GraphWriter

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 18, 21])
def test_what_is_written_runs_in_every_opset(opset: int) -> None:
    """Sum over axis 1, kept: an attribute before opset 13, an input since; Squeeze as well."""
    writer = GraphWriter(opset, "mine")
    total = writer.emit("ReduceSum", "x", axes=[1], keepdims=1)
    scaled = writer.emit("Mul", writer.emit("Squeeze", total, axes=[1]), writer.value(2.0))
    result = writer.reshape(scaled, (2, 1))
    graph = helper.make_graph(
        [],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info(result, onnx.TensorProto.FLOAT, [2, 1])],
    )
    writer.write_to(graph)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    (found,) = ReferenceEvaluator(model).run(None, {"x": X})
    np.testing.assert_array_equal(found, 2 * X.sum(axis=1, keepdims=True))
    assert all(node.name.startswith("mine.") for node in model.graph.node)


def test_names_and_outputs_are_new() -> None:
    writer = GraphWriter(17, "mine")
    first, second = writer.emit_many("Split", ["x"], 2, axis=1)
    assert len({first, second, *writer.emit_many("Split", ["x"], 2, axis=1)}) == 4


def test_an_omitted_input_before_a_setting_is_left_out() -> None:
    writer = GraphWriter(17, "mine")
    writer.emit("Clip", "x", max=np.float32(6))
    assert list(writer.nodes[0].input)[:2] == ["x", ""]


def test_a_setting_that_the_operator_lacks() -> None:
    with pytest.raises(ValueError, match="Relu has no 'axes' in opset 17"):
        GraphWriter(17, "mine").emit("Relu", "x", axes=[1])

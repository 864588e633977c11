"""What onnx is asked about nodes, and how often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import TensorProto, TypeProto, helper

from onnx_oto.errors import ModelError
from onnx_oto.model.shapes.schema_types import Schemas
from onnx_oto.model.shapes.types import tensor_type, type_shape


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the nodes that onnx is asked about, as it is."""
    names: list[str] = []
    real: Callable[..., Any] = onnx.shape_inference.infer_node_outputs

    def infer(schema: Any, node: onnx.NodeProto, *rest: Any, **more: Any) -> Any:
        names.append(node.name)
        return real(schema, node, *rest, **more)

    monkeypatch.setattr(onnx.shape_inference, "infer_node_outputs", infer)
    return names


def schemas() -> Schemas:
    """Return the schemas of opset 18."""
    graph = helper.make_graph([], "g", [], [])
    return Schemas(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


def floats(*shape: int | str) -> TypeProto:
    """Return the type of a tensor of floats."""
    return tensor_type(TensorProto.FLOAT, shape)


def flat(name: str, axis: int, source: str = "x") -> onnx.NodeProto:
    """Return a Flatten of `source` to a tensor that is called as the node is."""
    return helper.make_node("Flatten", [source], [name], name=name, axis=axis)


def test_nodes_that_are_alike_are_asked_about_once(asked: list[str]) -> None:
    known, types = schemas(), {"x": floats(2, 3, 4), "y": floats(2, 3, 4)}
    for name, source in (("a", "x"), ("b", "x"), ("c", "y")):
        assert type_shape(known.infer(flat(name, 1, source), types, {})[name]) == (2, 12)
    assert asked == ["a"]


def test_other_settings_types_and_values_are_asked_about_anew(asked: list[str]) -> None:
    known = schemas()
    assert type_shape(known.infer(flat("a", 1), {"x": floats(2, 3, 4)}, {})["a"]) == (2, 12)
    assert type_shape(known.infer(flat("b", 2), {"x": floats(2, 3, 4)}, {})["b"]) == (6, 4)
    assert type_shape(known.infer(flat("c", 1), {"x": floats(5, 3, 4)}, {})["c"]) == (5, 12)
    types = {"x": floats(2, 6), "to": tensor_type(TensorProto.INT64, (2,))}
    for name, target in (("d", [3, 4]), ("e", [4, 3])):
        node = helper.make_node("Reshape", ["x", "to"], [name], name=name)
        data = {"to": helper.make_tensor("to", TensorProto.INT64, [2], target)}
        assert type_shape(known.infer(node, types, data)[name]) == tuple(target)
    assert asked == ["a", "b", "c", "d", "e"]


def test_a_contradiction_is_told_of_every_node(asked: list[str]) -> None:
    known = schemas()
    types = {"x": floats(2, 3), "w": floats(4, 5)}
    for name in ("a", "b"):
        with pytest.raises(ModelError):
            known.infer(helper.make_node("MatMul", ["x", "w"], [name], name=name), types, {})
    assert asked == ["a", "b"]

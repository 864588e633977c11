"""Nodes that are not searched for bodies: those of standard operators that have no attribute for one."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from onnx_oto.model.graph.order import RUNTIME_OPS, bodies

GRAPHS = (onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS)
HAVING = sorted(
    {
        schema.name
        for schema in onnx.defs.get_all_schemas_with_history()
        if not schema.domain and any(each.type in GRAPHS for each in schema.attributes.values())
    }
)


def holder(op: str, domain: str = "") -> onnx.NodeProto:
    """Return a node with a graph as an attribute."""
    value = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    inner = helper.make_node("Identity", ["x"], ["z"])
    body = helper.make_graph([inner], "g", [], [value])
    return helper.make_node(op, ["x"], ["y"], domain=domain, body=body)


@pytest.mark.parametrize("op", [*HAVING, *sorted(RUNTIME_OPS), "NobodyKnows"])
def test_bodies_are_found_where_an_operator_may_have_some(op: str) -> None:
    assert [body.name for body in bodies(holder(op))] == ["g"]


def test_bodies_are_found_in_other_domains() -> None:
    assert [body.name for body in bodies(holder("Relu", "com.example"))] == ["g"]


def test_what_is_not_searched_the_checker_refuses() -> None:
    assert bodies(holder("Relu")) == []
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph([holder("Relu")], "g", [value], [out]))
    with pytest.raises(onnx.checker.ValidationError, match="Unrecognized attribute"):
        onnx.checker.check_model(model)

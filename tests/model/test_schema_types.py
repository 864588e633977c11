"""What onnx is asked about nodes, and how often."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import TensorProto, TypeProto, helper

from onnx_oto.errors import ModelError
from onnx_oto.model.graph.skeleton import without_trees
from onnx_oto.model.shapes import walk
from onnx_oto.model.shapes.inference import infer
from onnx_oto.model.shapes.schema_types import Schemas
from onnx_oto.model.shapes.types import Kind, Kinds, tensor_type


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


def told(
    known: Schemas, node: onnx.NodeProto, types: dict[str, Kind], data: dict[str, TensorProto]
) -> object:
    """Return the shape that is told of the only output of a node."""
    (kind,) = known.infer(node, list(node.input), list(node.output), types, data)
    return kind and kind.shape


def flat(name: str, axis: int, source: str = "x") -> onnx.NodeProto:
    """Return a Flatten of `source` to a tensor that is called as the node is."""
    return helper.make_node("Flatten", [source], [name], name=name, axis=axis)


def test_nodes_that_are_alike_are_asked_about_once(asked: list[str]) -> None:
    known = schemas()
    types = {name: known.kinds.tensor(TensorProto.FLOAT, (2, 3, 4)) for name in "xy"}
    for name, source in (("a", "x"), ("b", "x"), ("c", "y")):
        assert told(known, flat(name, 1, source), types, {}) == (2, 12)
    assert asked == ["a"]


def test_other_settings_types_and_values_are_asked_about_anew(asked: list[str]) -> None:
    known = schemas()
    cube, long = (known.kinds.tensor(TensorProto.FLOAT, (size, 3, 4)) for size in (2, 5))
    assert told(known, flat("a", 1), {"x": cube}, {}) == (2, 12)
    assert told(known, flat("b", 2), {"x": cube}, {}) == (6, 4)
    assert told(known, flat("c", 1), {"x": long}, {}) == (5, 12)
    types = {
        "x": known.kinds.tensor(TensorProto.FLOAT, (2, 6)),
        "to": known.kinds.tensor(TensorProto.INT64, (2,)),
    }
    for name, target in (("d", [3, 4]), ("e", [4, 3])):
        node = helper.make_node("Reshape", ["x", "to"], [name], name=name)
        data = {"to": helper.make_tensor("to", TensorProto.INT64, [2], target)}
        assert told(known, node, types, data) == tuple(target)
    assert asked == ["a", "b", "c", "d", "e"]


def test_a_contradiction_is_told_of_every_node(asked: list[str]) -> None:
    known = schemas()
    types = {
        "x": known.kinds.tensor(TensorProto.FLOAT, (2, 3)),
        "w": known.kinds.tensor(TensorProto.FLOAT, (4, 5)),
    }
    for name in ("a", "b"):
        with pytest.raises(ModelError):
            told(known, helper.make_node("MatMul", ["x", "w"], [name], name=name), types, {})
    assert asked == ["a", "b"]


@pytest.mark.parametrize("shape", [(2, 3), ("N", 3), (), (2, None), None])
def test_a_type_is_one_object_whether_it_is_made_or_read(shape: tuple[int | str | None, ...] | None) -> None:
    kinds = Kinds()
    made, read = kinds.tensor(TensorProto.FLOAT, shape), kinds.read(tensor_type(TensorProto.FLOAT, shape))
    assert kinds.tensor(TensorProto.FLOAT, shape) is made
    assert kinds.read(tensor_type(TensorProto.FLOAT, shape)) is read
    assert (read is made) == (shape is not None and None not in shape)
    assert read.proto == made.proto
    assert (read.shape, read.open) == (shape, tuple(size for size in shape or () if isinstance(size, str)))
    assert kinds.tensor(TensorProto.INT64, shape) is not made


def test_a_size_that_is_written_as_open_stays_as_it_is_written() -> None:
    kinds = Kinds()
    odd = kinds.read(tensor_type(TensorProto.FLOAT, ("?", 3)))
    assert odd.shape == (None, 3)
    assert odd.proto.tensor_type.shape.dim[0].dim_param == "?"
    assert kinds.tensor(TensorProto.FLOAT, (None, 3)) is not odd
    assert not kinds.read(TypeProto()).is_known


def test_a_function_of_floats_has_the_type_that_onnx_tells_at_every_opset() -> None:
    kinds, compared = Kinds(), set()
    for op in walk._OF_FLOATS:
        for opset in range(1, onnx.defs.onnx_opset_version() + 1):
            known = Schemas(
                helper.make_model(
                    helper.make_graph([], "g", [], []), opset_imports=[helper.make_opsetid("", opset)]
                )
            )
            if not known.describe("", op):
                continue
            for dtype, shape in itertools.product(walk._FLOATS, [(), (2,), ("N", 3, "a + 1")]):
                kind = kinds.tensor(dtype, shape)
                (found,) = known.infer(helper.make_node(op, ["x"], ["y"]), ["x"], ["y"], {"x": kind}, {})
                assert found is not None
                assert (found.dtype, found.shape) == (dtype, shape), (op, opset)
                compared.add(op)
    assert compared == walk._OF_FLOATS


def test_onnx_is_not_asked_about_functions_of_floats_unless_they_may_be_wrong(asked: list[str]) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"], name="right")]
    nodes.append(helper.make_node("Relu", ["n"], ["b"], name="of integers"))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3]),
        helper.make_tensor_value_info("n", TensorProto.INT64, ["N", 3]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [])
    known = infer(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))
    assert known.shapes["a"] == ("N", 3)
    assert "b" not in known.shapes
    assert asked == ["of integers"]


def test_trees_are_shortened_for_types_and_nothing_else() -> None:
    many = 100
    node = helper.make_node(
        "TreeEnsembleClassifier",
        ["x"],
        ["label", "scores"],
        domain="ai.onnx.ml",
        nodes_values=[0.5] * many,
        nodes_modes=["LEAF"] * many,
        class_ids=[1] * many,
        classlabels_int64s=list(range(many)),
        post_transform="NONE",
    )
    before = node.SerializeToString()
    light = {each.name: helper.get_attribute_value(each) for each in without_trees(node).attribute}
    assert light == {
        "nodes_values": [0.5],
        "nodes_modes": [b"LEAF"],
        "class_ids": [1],
        "classlabels_int64s": list(range(many)),
        "post_transform": b"NONE",
    }
    assert node.SerializeToString() == before
    other = helper.make_node(
        "TreeEnsembleClassifier", ["x"], ["y"], domain="of.others", nodes_values=[0.5] * many
    )
    assert without_trees(other) is other

"""The view that analysis reads."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.model import graph, normalise

TEXT = (
    'g (float[N,3,8,8] x) => (float[N,4] z) { c = Conv<pads = [1,1,1,1], auto_pad = "NOTSET">(x, w, b)'
    " r = Relu(c) a = Add(r, c) p = GlobalAveragePool(a) z = Flatten(p) }"
)


@pytest.fixture
def view(parse):
    return graph(normalise(parse(TEXT, w=(4, 3, 3, 3), b=(4,))))


def test_nodes_tell_what_is_written(view):
    conv = view.nodes[0]
    assert (conv.op, conv.domain, conv.inputs, conv.outputs, conv.since, conv.index) == (
        "Conv", "", ("x", "w", "b"), ("c",), 17, 0,
    )  # fmt: skip
    assert conv.attrs == {"pads": [1, 1, 1, 1], "auto_pad": "NOTSET"}
    assert conv.input(2) == "b"
    assert conv.input(7) == ""
    assert len({hash(node) for node in view.nodes}) == 5


def test_edges(view):
    assert view.inputs == ("x",)
    assert view.outputs == ("z",)
    assert [(node.op, position) for node, position in view.consumers["c"]] == [("Relu", 0), ("Add", 1)]
    assert view.producer["a"].op == "Add"
    assert "w" not in view.producer
    assert view.opsets == {"": 17}


def test_shapes_and_types_cover_every_tensor(view):
    assert view.shapes["w"] == (4, 3, 3, 3)
    assert view.shapes["a"] == ("N", 4, 8, 8)
    assert view.shapes["z"] == ("N", 4)
    assert {view.dtypes[name] for name in ("x", "w", "c", "z")} == {TensorProto.FLOAT}


def test_constants_are_cached_and_read_only(view):
    weight = view.constant("w")
    assert weight.shape == (4, 3, 3, 3)
    assert view.constant("w") is weight
    with pytest.raises(ValueError, match="read-only"):
        weight[0] = 0
    assert view.constant("c") is None
    assert view.constant("nowhere") is None


def test_constants_in_typed_fields_and_small_types(parse):
    model = parse("g (float[2] x) => (float[2] y) { y = Add(x, k) }")
    model.graph.initializer.append(helper.make_tensor("k", TensorProto.FLOAT, [2], [1.0, 2.0]))
    half = numpy_helper.from_array(np.array([1.5], np.float16), "h")
    model.graph.initializer.append(half)
    model.graph.node.append(helper.make_node("Identity", ["h"], ["o"]))
    model.graph.output.append(helper.make_tensor_value_info("o", TensorProto.FLOAT16, [1]))
    found = graph(normalise(model))
    assert found.constant("k").tolist() == [1.0, 2.0]
    assert found.constant("h").dtype == np.float16


def test_partial_values_are_objects(parse):
    model = parse(
        "g (float[N,6] x) => (float[?,?] y) { k = Constant<value_ints = [-1, 3]>() y = Reshape(x, k) }"
    )
    view = graph(normalise(model))
    assert view.partial("y") is None
    partial = view.partial("k")
    assert partial.dtype == object
    assert list(partial) == [-1, 3]

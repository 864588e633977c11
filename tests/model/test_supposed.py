"""Stored shapes and readers' weights stand in where inference knows nothing, and fall where they are contradicted."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from onnx_oto.model import graph, load, normalise
from onnx_oto.zigs import analyse

HEADER = '<ir_version: 8, opset_import: ["":17, "com.acme":1]>'
BETWEEN = (
    "g (float[N,3,8,8] x) => (float[N,4] y) { c = Conv(x, w1) q = com.acme.Thing(c) BODY"
    " d = Conv(r, w2) p = GlobalAveragePool(d) f = Flatten(p) y = Gemm(f, w3) }"
)
WEIGHTS = {"w1": (10, 3, 1, 1), "w2": (12, 10, 1, 1), "w3": (12, 4)}


@pytest.fixture
def view(parse, write):
    """Return the view of the model with `body` between q and r, where value_info says `stored` of q."""

    def build(body="r = Relu(q)", stored=None, text=BETWEEN, dtype=TensorProto.FLOAT):
        model = parse(text.replace("BODY", body), header=HEADER, **WEIGHTS)
        if stored is not None:
            model.graph.value_info.append(helper.make_tensor_value_info("q", dtype, stored))
        return graph(normalise(load(write(model))))

    return build


def test_a_stored_shape_is_taken_behind_a_foreign_operator(view):
    shapes = view(stored=["N", 10, 8, 8]).shapes
    assert shapes["q"] == ("N", 10, 8, 8)
    assert shapes["d"] == ("N", 12, 8, 8)


def test_the_weight_of_a_reader_tells_the_rank(view):
    shape = view("r = Identity(q)").shapes["r"]
    assert shape is not None
    assert len(shape) == 4
    assert shape[1] == 10


@pytest.mark.parametrize("stored", [["N", 99, 8, 8], ["N", 8, 8], ["N", 10, 8, 8, 8]])
@pytest.mark.parametrize("body", ["r = Relu(q)", "r = Identity(q)", "s = Neg(q) r = Add(s, s)"])
def test_a_stored_shape_that_the_reader_contradicts_falls(stored, body, view):
    shapes = view(body, stored).shapes
    assert shapes["d"] is not None
    assert shapes["d"][1] == 12
    assert (shapes.get("q") or (0, 10))[1] == 10


def test_a_stored_element_type_that_is_another_one_falls(view):
    assert view(stored=["N", 10, 8, 8], dtype=TensorProto.FLOAT16).shapes["d"] is not None


def test_inference_wins(parse, write):
    model = parse("g (float[N,3] x) => (float[N,3] y) { q = Relu(x) y = Neg(q) }")
    model.graph.value_info.append(helper.make_tensor_value_info("q", TensorProto.FLOAT, ["M", 5, 5]))
    assert graph(normalise(model)).shapes["q"] == ("N", 3)


def test_numbers_of_a_shape_for_one_size_are_not_supposed(view):
    """The input's batch is open: a shape of numbers alone was written for one batch."""
    shape = view(stored=[2, 10, 8, 8], body="r = Relu(q)").shapes["q"]
    assert shape is not None
    assert len(shape) == 4
    assert 2 not in shape
    assert 8 not in shape


def test_names_that_no_input_has_are_kept_apart(view):
    shape = view(stored=["N", 10, "s", "s"]).shapes["q"]
    assert shape is not None
    assert shape[:2] == ("N", 10)
    assert shape[2] != shape[3]


def test_what_is_only_supposed_becomes_no_constant(view):
    """A size of the stored shape may be wrong; a constant made of it would change what the model computes."""
    text = (
        "g (float[2,3,8,8] x) => (float[?,?] y) { c = Conv(x, w1) q = com.acme.Thing(c) s = Shape(q)"
        " u = Gather(s, i) m = Constant<value_ints = [-1]>() t = Concat<axis=0>(u, m)"
        " d = Conv(q, w2) y = Reshape(d, t) }"
    )
    model = view(
        stored=[2, 10, 8, 8],
        text=text.replace("s = Shape(q)", "i = Constant<value_ints = [0]>() s = Shape(q)"),
    )
    assert "Shape" in [node.op for node in model.nodes]


def test_layers_behind_a_foreign_operator_are_prunable(parse, write):
    model = parse(BETWEEN.replace("BODY", "r = Relu(q)"), header=HEADER, **WEIGHTS)
    model.graph.value_info.append(helper.make_tensor_value_info("q", TensorProto.FLOAT, ["N", 10, 8, 8]))
    analysis = analyse(normalise(load(write(model))))
    assert {d.name for d in analysis.prunable} == {"w2"}


def test_only_what_is_needed_of_value_info_stays(parse, write):
    model = parse(BETWEEN.replace("BODY", "r = Relu(q)"), header=HEADER, **WEIGHTS)
    for name in ("c", "q", "r"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 10, 8, 8]))
    normal = normalise(load(write(model)))
    assert [value.name for value in normal.graph.value_info] == ["q"]
    assert isinstance(normal, onnx.ModelProto)

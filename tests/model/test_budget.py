"""A small file cannot make analysis large: what is not affordable stays unknown, whole or shared."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.model import infer, load, normalise
from onnx_oto.model.files.header import MAX_TENSORS
from onnx_oto.model.graph.budget import MAX_AXIS, Budget
from onnx_oto.model.graph.names import fresh
from onnx_oto.model.graph.order import MAX_NODES
from onnx_oto.zigs import analyse

MOST = 100 * 2**20
"""What tracemalloc may see of a model of some hundred bytes."""
LARGE = {
    "filled": "z = ConstantOfShape(huge)",
    "filled and computed with": "f = ConstantOfShape(huge) z = Neg(f)",
    "repeated": "t = Tile(a, times) z = Relu(t)",
    "padded": "p = Pad(a, behind) z = Relu(p)",
    "expanded": "s = ReduceMax<axes=[1]>(a) e = Expand(s, wide) z = Relu(e)",
    "joined with something long": "p = Pad(x, behind) c = Concat<axis=1>(a, p) z = Relu(c)",
    "joined with itself": "t0 = Relu(a) "
    + " ".join(f"t{i + 1} = Concat<axis=1>(t{i}, t{i})" for i in range(40))
    + " z = Relu(t40)",
    "flattened": "u = Unsqueeze(a, last) e = Tile(u, deep) f = Flatten(e) z = Relu(f)",
    "counted": "z = Range(zero, many, one)",
    "encoded": "z = OneHot(some, many, offon)",
    "enlarged": "z = Resize(image, nothing, nothing, sizes)",
    "random": "z = RandomNormal<shape=[1000000, 1000000]>()",
    "windowed": "z = HannWindow(many)",
    "an outer product": "o = Mul(column, row) p = ReduceSum<keepdims=0>(o, first) z = Neg(p)",
    "products that nobody sees": 'z = Einsum<equation="a,b,c,d->">(row0, row0, row0, row0)',
    "read at many places": "z = Gather<axis=0>(wide_list, zeros)",
    "chosen": "z = Where(column_of_bools, wide_list, zero)",
}
CONSTANTS = {
    "huge": np.array([2**40]),
    "times": np.array([1, 2**40]),
    "behind": np.array([0, 0, 0, 2**40]),
    "wide": np.array([1, 2**30]),
    "deep": np.array([1, 1, 2**30]),
    "first": np.array([0]),
    "last": np.array([2]),
    "zero": np.array(0),
    "one": np.array(1),
    "many": np.array(10**12),
    "some": np.array([1, 2]),
    "offon": np.array([0, 1], np.float32),
    "image": np.ones((1, 1, 2, 2), np.float32),
    "nothing": np.zeros(0, np.float32),
    "sizes": np.array([1, 1, 10**6, 10**6]),
    "column": np.ones((2**15, 1), np.float32),
    "row": np.ones((1, 2**15), np.float32),
    "row0": np.ones(1024, np.float32),
    "wide_list": np.arange(16384)[None],
    "zeros": np.zeros(16384, np.int64),
    "column_of_bools": np.zeros((16384, 1), bool),
}


def poisoned(parse, body):
    """Return two layers and something large beside them."""
    model = parse(
        f"g (float[N,4] x) => (float[N,3] y) {{ h = MatMul(x, w1) a = Relu(h) y = MatMul(a, w2) {body} }}",
        w1=(4, 16),
        w2=(16, 3),
    )
    read = {name for node in model.graph.node for name in node.input}
    for name, value in CONSTANTS.items():
        if name in read:
            model.graph.initializer.append(numpy_helper.from_array(value, name))
    model.graph.output.append(
        helper.make_value_info("z", helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    )
    kinds = {"Range": 7, "Gather": 7, "Where": 7}
    model.graph.output[1].type.tensor_type.elem_type = kinds.get(model.graph.node[-1].op_type, 1)
    return model


@pytest.mark.parametrize("name", LARGE)
def test_what_is_large_is_not_made(name, parse, write):
    path = write(poisoned(parse, LARGE[name]))
    tracemalloc.start()
    try:
        analysis = analyse(normalise(load(path)))
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
    assert any(d.name == "w1" for d in analysis.dimensions)


def test_why_a_long_axis_stays_is_said(parse, write):
    analysis = analyse(normalise(load(write(poisoned(parse, LARGE["repeated"])))))
    assert f"more than the {MAX_AXIS} that can carry channels" in str([d.reason for d in analysis.dimensions])


def test_many_values_are_kept_only_as_long_as_there_is_room(parse):
    """A thousand fills of 16384 numbers take 128 MB, ten thousand 1.3 GB."""
    count = 6000
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.graph.initializer.append(numpy_helper.from_array(np.array([16384]), "size"))
    fill = numpy_helper.from_array(np.ones(1, np.int64), "v")
    model.graph.node.extend(
        helper.make_node("ConstantOfShape", ["size"], [f"c{i}"], value=fill) for i in range(count)
    )
    values = infer(model).values
    assert 0 < sum(value.nbytes for value in values.values()) <= Budget().left
    assert len(values) < count


def test_a_vector_that_many_read_has_no_copy_for_all_of_them(parse):
    model = parse("g (float[N,1] x) => (float[N,1000000] y0) { y0 = Add(x, v) }", v=(10**6,))
    for i in range(100):
        model.graph.node.append(helper.make_node("Add", [f"y{i}", "v"], [f"y{i + 1}"]))
    model.graph.output[0].name = "y100"
    normal = normalise(model)
    assert 2 <= len(normal.graph.initializer) <= 1 + Budget().left // (4 * 10**6)


@pytest.mark.parametrize(
    ("nodes", "inputs", "message"),
    [(MAX_NODES + 1, 0, "nodes"), (0, MAX_TENSORS + 1, "inputs, outputs and constants")],
)
def test_a_model_that_would_take_too_long_is_refused_at_once(nodes, inputs, message, parse, write):
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    node, value = helper.make_node("Relu", ["x"], ["z"]), model.graph.input[0]
    model.graph.node.extend([node] * nodes)
    model.graph.input.extend([value] * inputs)
    with pytest.raises(UnsupportedError, match=message):
        load(write(model))


def test_functions_expand_to_no_more(parse, write):
    calls = " ".join(f"t{i + 1} = l.f(t{i})" for i in range(600))
    body = " ".join(f"t{i + 1} = Relu(t{i})" for i in range(600))
    text = (
        f"g (float[2] t0) => (float[2] t600) {{ {calls} }}\n"
        f'<domain: "l", opset_import: ["":17]> f (t0) => (t600) {{ {body} }}'
    )
    with pytest.raises(Exception, match="expand to 360000 nodes"):
        load(write(parse(text, header='<ir_version: 8, opset_import: ["":17, "l":1]>')))


def test_a_budget_is_spent_once():
    budget = Budget(10)
    assert [budget.take(size) for size in (6, 6, 4, 0, -1)] == [True, False, True, True, False]


def test_names_are_found_however_many_are_taken():
    taken = {f"a{i}" for i in range(1, 5000)}
    assert fresh("a", taken) == "a5000"
    assert fresh("b", taken) == "b1"
    assert fresh("a", taken, start=7000) == "a7000"

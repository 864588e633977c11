"""Shape inference follows shape arithmetic, with open sizes as symbols."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnx_oto.model import graph, normalise
from onnx_oto.model.dims import divide, multiply, product
from onnx_oto.model.evaluators.movement import onnx_slice

# What torch writes for x.view(x.size(0), 12, -1).
VIEW = (
    "g (float[N,12,H,W] x) => (float[?,?,?] y) {"
    " s = Shape(x) zero = Constant<value_int = 0>() n = Gather(s, zero)"
    " a = Constant<value_ints = [0]>() u = Unsqueeze(n, a)"
    " c = Constant<value_ints = [12]>() m = Constant<value_ints = [-1]>()"
    " t = Concat<axis = 0>(u, c, m) r = Reshape(x, t) y = Relu(r) }"
)


def test_a_view_chain_keeps_the_symbols(parse):
    view = graph(normalise(parse(VIEW)))
    assert list(view.partial("t")) == ["N", 12, -1]
    assert view.shapes["y"] == ("N", 12, "H*W")


def test_a_static_view_chain_becomes_a_constant(parse):
    normal = normalise(parse(VIEW.replace("N,12,H,W", "2,12,5,7")))
    assert [node.op_type for node in normal.graph.node] == ["Reshape", "Relu"]
    view = graph(normal)
    assert list(view.partial("t")) == [2, 12, -1]
    assert view.shapes["y"] == (2, 12, 35)


def test_splitting_heads_with_computed_sizes(parse):
    """x.view(n, t, heads, c // heads) with c = x.size(2): the division is folded."""
    text = (
        "g (float[N,T,96] x) => (float[?,?,?,?] y) { s = Shape(x)"
        " i0 = Constant<value_int = 0>() i1 = Constant<value_int = 1>() i2 = Constant<value_int = 2>()"
        " n = Gather(s, i0) t = Gather(s, i1) c = Gather(s, i2) h = Constant<value_int = 8>() d = Div(c, h)"
        " a = Constant<value_ints = [0]>() un = Unsqueeze(n, a) ut = Unsqueeze(t, a) ud = Unsqueeze(d, a)"
        " uh = Constant<value_ints = [8]>() z = Concat<axis = 0>(un, ut, uh, ud) r = Reshape(x, z)"
        " y = Transpose<perm = [0,2,1,3]>(r) }"
    )
    normal = normalise(parse(text))
    view = graph(normal)
    assert list(view.partial("z")) == ["N", "T", 8, 12]
    assert view.shapes["y"] == ("N", 8, "T", 12)
    assert "Div" not in [node.op_type for node in normal.graph.node]


def test_merging_heads_back(parse):
    text = (
        "g (float[N,8,T,12] x) => (float[?,?,?] y) { p = Transpose<perm = [0,2,1,3]>(x) s = Shape(p)"
        " st = Constant<value_ints = [0]>() en = Constant<value_ints = [2]>() f = Slice(s, st, en)"
        " l = Constant<value_ints = [-1]>() z = Concat<axis = 0>(f, l) y = Reshape(p, z) }"
    )
    view = graph(normalise(parse(text)))
    assert list(view.partial("z")) == ["N", "T", -1]
    assert view.shapes["y"] == ("N", "T", 96)


def test_torch_expand_pattern(parse):
    """x.expand(-1, 4, -1): Where(Equal(shape, -1), ones, shape), with a symbol that is never -1."""
    text = (
        "g (float[N,1,5] x) => (float[?,?,?] y) { s = Shape(x) i = Constant<value_ints = [0]>() "
        "n = Gather(s, i)"
        " k = Constant<value_ints = [4, -1]>() shape = Concat<axis = 0>(n, k)"
        " m = Constant<value_ints = [-1, -1, -1]>() q = Equal(shape, m) three = Constant<value_ints = [3]>()"
        " ones = ConstantOfShape<value = int64[1] {1}>(three) w = Where(q, ones, shape) y = Expand(x, w) }"
    )
    view = graph(normalise(parse(text)))
    assert list(view.partial("w")) == ["N", 4, 1]
    assert view.shapes["y"] == ("N", 4, 5)


def test_a_long_chain_of_reshapes_keeps_the_batch(parse):
    steps = "".join(f"r{i} = Reshape(x{i}, k) x{i + 1} = Relu(r{i}) " for i in range(30))
    constant = "k = Constant<value_ints = [-1, 4, 6]>()"
    text = f"g (float[B,4,6] x0) => (float[?,?,?] y) {{ {constant} {steps} y = Neg(x30) }}"
    view = graph(normalise(parse(text)))
    assert all(view.shapes[f"x{i}"] == ("B", 4, 6) for i in range(31))


def test_question_marks_are_no_equal_sizes(parse):
    model = parse("g (float[N,2,3] x) => (float[?,?,?] y) { y = Relu(x) }")
    for dim in model.graph.input[0].type.tensor_type.shape.dim:
        dim.Clear()
        dim.dim_param = "?"
    first, second, third = graph(normalise(model)).shapes["y"]
    assert len({first, second, third}) == 3
    assert all(isinstance(size, str) for size in (first, second, third))


def test_negative_sizes_are_open(parse):
    model = parse("g (float[N,2,3] x) => (float[?,?,?] y) { y = Relu(x) }")
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    shape = graph(normalise(model)).shapes["y"]
    assert isinstance(shape[0], str)
    assert shape[1:] == (2, 3)


def test_resize_to_computed_sizes(parse):
    """interpolate(x, size=other.shape[2:])."""
    text = (
        "g (float[N,3,H,W] x, float[N,5,64,48] o) => (float[?,?,?,?] y) { s = Shape(o)"
        " two = Constant<value_ints = [2]>() four = Constant<value_ints = [4]>() hw = Slice(s, two, four)"
        " zero = Constant<value_ints = [0]>() t = Shape(x) nc = Slice(t, zero, two) z = "
        "Concat<axis = 0>(nc, hw)"
        ' y = Resize<mode = "nearest">(x, , , z) }'
    )
    assert graph(normalise(parse(text))).shapes["y"] == ("N", 3, 64, 48)


def test_pads_that_are_computed(parse):
    text = (
        "g (float[N,3,8,8] x) => (float[?,?,?,?] y) { four = Constant<value_ints = [4]>()"
        " z = ConstantOfShape<value = int64[1] {0}>(four) k = Constant<value_ints = [0,0,1,2]>()"
        " p = Concat<axis = 0>(z, k) y = Pad(x, p) }"
    )
    normal = normalise(parse(text))
    assert [node.op_type for node in normal.graph.node] == ["Pad"]
    assert graph(normal).shapes["y"] == ("N", 3, 9, 10)


def test_values_of_an_input_stay_unknown_beside_known_ones(parse):
    text = (
        "g (float[2,12] x, int64 n) => (float[?,?] y) { a = Constant<value_ints = [0]>() u = Unsqueeze(n, a)"
        " k = Constant<value_ints = [6]>() t = Concat<axis = 0>(u, k) y = Reshape(x, t) }"
    )
    view = graph(normalise(parse(text)))
    assert list(view.partial("t")) == [None, 6]
    assert view.shapes["y"] == (4, 6)


def test_nothing_large_is_computed(parse):
    text = (
        "g (float[1] x) => (float[?,?] y) { k = Constant<value_ints = [100000, 100000]>()"
        " c = ConstantOfShape(k) y = Add(x, c) }"
    )
    normal = normalise(parse(text))
    assert [node.op_type for node in normal.graph.node] == ["ConstantOfShape", "Add"]
    assert graph(normal).shapes["y"] == (100000, 100000)


def test_stored_shapes_play_no_part(parse):
    model = parse("g (float[N,3] x) => (float[?,?] y) { z = Relu(x) y = Neg(z) }")
    model.graph.value_info.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [4, 99]))
    view = graph(normalise(model))
    assert view.shapes["z"] == view.shapes["y"] == ("N", 3)


def test_attribute_forms_of_old_opsets(parse):
    text = (
        "g (float[N,4,6] x) => (float[?,?] y) { s = Shape(x) a = Slice<starts = [0], ends = [1]>(s)"
        " n = Squeeze<axes = [0]>(a) u = Unsqueeze<axes = [0]>(n) m = Constant<value = int64[1] {24}>()"
        " t = Concat<axis = 0>(u, m) y = Reshape(x, t) }"
    )
    view = graph(normalise(parse(text, header='<ir_version: 4, opset_import: ["":9]>')))
    assert view.shapes["y"] == ("N", 24)


def test_integer_division_truncates_towards_zero(parse):
    text = (
        "g (int64[1] x) => (int64[1] y) { a = Constant<value_ints = [-7]>() b = Constant<value_ints = [2]>()"
        " d = Div(a, b) y = Add(x, d) }"
    )
    assert graph(normalise(parse(text))).constant("d").tolist() == [-3]


sizes = st.one_of(st.integers(1, 12), st.sampled_from(["N", "H", "W", "2*N", "H*W"]))


@settings(max_examples=200, deadline=None)
@given(st.lists(sizes, max_size=2), st.lists(sizes, max_size=2))
def test_products_divide_back(left, right):
    a, b = product(left), product(right)
    assert divide(multiply(a, b), b) == a
    assert multiply(a, b) == multiply(b, a) == product([*right, *left])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_slices_agree_with_the_runtime_definition(data):
    """The definition in the ONNX operator text: clamp start and end, then step from one to the other."""
    size = data.draw(st.integers(1, 6))
    start, end = (data.draw(st.integers(-9, 9)) for _ in range(2))
    step = data.draw(st.sampled_from([1, 2, 3, -1, -2]))
    low, high = (0, size) if step > 0 else (0, size - 1)
    position = min(max(start + size if start < 0 else start, low), high)
    stop = min(max(end + size if end < 0 else end, 0 if step > 0 else -1), size if step > 0 else size - 1)
    expected = []
    while position < stop if step > 0 else position > stop:
        expected.append(position)
        position += step
    assert np.arange(size)[onnx_slice(size, start, end, step)].tolist() == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"), [("N", 2, None), (12, 5, None), ("s0 + 1", "s0 + 1", 1), ("N", 0, None)]
)
def test_inexact_division_is_unknown(a, b, expected):
    assert divide(a, b) == expected

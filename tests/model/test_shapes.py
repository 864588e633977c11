"""Shape inference follows shape arithmetic, with open sizes as symbols."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from onnx_oto.model import graph, normalise
from onnx_oto.model.shapes.dims import value_at
from onnx_oto.model.shapes.evaluators.movement import onnx_slice

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


# Graphs whose sizes depend on open ones in every way that one walk must follow.
OPEN = {
    "class token": (
        "g (float[N,T,4] x) => (float[?,?,?] y) { s = Shape(x) i = Constant<value_ints = [0]>() n = Gather(s, i)"
        " k = Constant<value_ints = [1, 4]>() z = Concat<axis = 0>(n, k) t = ConstantOfShape(z)"
        " c = Concat<axis = 1>(t, x) b = Constant<value_ints = [1]>() e = Constant<value_ints = [9999999999]>()"
        " r = Slice(c, b, e, b) y = Add(r, x) }"
    ),
    "unet": (
        "g (float[N,3,H,W] x, float[3,3,2,2] w, float[3,3,2,2] v) => (float[?,?,?,?] y) {"
        " a = Conv<strides = [2,2]>(x, w) b = Conv<strides = [2,2]>(a, w)"
        " c = ConvTranspose<strides = [2,2]>(b, v) d = Concat<axis = 1>(c, c) y = Relu(d) }"
    ),
    "heads": (
        "g (float[N,T,12] x) => (float[?,?,?] y) { k = Constant<value_ints = [0,0,3,4]>() a = Reshape(x, k)"
        " b = Transpose<perm = [0,2,1,3]>(a) c = Transpose<perm = [0,2,3,1]>(a) d = MatMul(b, c)"
        " e = Softmax(d) f = MatMul(e, b) h = Transpose<perm = [0,2,1,3]>(f)"
        " l = Constant<value_ints = [0,0,-1]>() y = Reshape(h, l) }"
    ),
    "pooled": (
        "g (float[N,3,H,W] x) => (float[?,?] y) { a = MaxPool<kernel_shape = [3,3], strides = [2,2]>(x)"
        " b = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(a) c = Add(a, b) y = Flatten(c) }"
    ),
}
SIZES = {"N": 2, "T": 5, "H": 12, "W": 16}


@pytest.mark.parametrize("text", OPEN.values(), ids=OPEN)
def test_open_sizes_agree_with_onnx_once_they_are_put_in(text, parse):
    """Numbers and products of symbols are those of static inference; one symbol never stands for two sizes."""
    static = text
    for name, size in SIZES.items():
        static = static.replace(f"[{name},", f"[{size},").replace(f",{name}]", f",{size}]")
        static = static.replace(f",{name},", f",{size},")
    truth = onnx.shape_inference.infer_shapes(parse(static), strict_mode=True, data_prop=True).graph
    found = graph(normalise(parse(text))).shapes
    stands_for: dict[str, int] = dict(SIZES)
    for value in (*truth.value_info, *truth.output):
        if value.name not in found:
            continue
        for size, dim in zip(found[value.name], value.type.tensor_type.shape.dim, strict=True):
            if isinstance(size, str) and size.isidentifier():
                assert stands_for.setdefault(size, dim.dim_value) == dim.dim_value
            else:
                assert value_at(size, stands_for) == dim.dim_value
    assert not any(size is None for size in found["y"])


def test_open_sizes_come_back(parse):
    assert graph(normalise(parse(OPEN["class token"]))).shapes["y"] == ("N", "T", 4)
    assert graph(normalise(parse(OPEN["heads"]))).shapes["y"] == ("N", "T", 12)
    unet = graph(normalise(parse(OPEN["unet"]))).shapes
    assert unet["c"][2:] != unet["a"][2:], "an odd size is not restored"
    assert graph(normalise(parse(OPEN["unet"].replace("H,W", "8,12")))).shapes["y"] == ("N", 6, 4, 6)


def test_every_node_is_asked_once(parse, monkeypatch):
    """However many reshapes follow each other, there is one walk."""
    asked = []
    infer_node_outputs = onnx.shape_inference.infer_node_outputs
    monkeypatch.setattr(
        onnx.shape_inference,
        "infer_node_outputs",
        lambda schema, node, *rest, **named: (
            asked.append(node.output[0]) or infer_node_outputs(schema, node, *rest, **named)
        ),
    )
    steps = "".join(f"r{i} = Reshape(x{i}, k) x{i + 1} = Relu(r{i}) " for i in range(30))
    model = parse(f"g (float[B,4,6] x0, int64[3] k) => (float[?,?,?] y) {{ {steps} y = Neg(x30) }}")
    graph(model)
    assert len(asked) == len(set(asked)) == 30  # of a function of floats nothing need be asked


def test_what_two_nodes_contradict_leaves_the_rest_known(parse):
    model = parse(
        "g (float[N,3] x, float[7,5] w) => (float[?,?] y) { a = MatMul(x, w) b = Relu(x) y = Add(a, b) }"
    )
    view = graph(model)
    assert view.shape("a") is None
    assert view.shapes["b"] == ("N", 3)


def test_an_output_that_is_declared_otherwise_counts_for_nothing(parse):
    model = parse("g (float[N,3] x) => (float[N,4] y, float[M,3] z) { y = Relu(x) z = Neg(x) }")
    assert graph(model).shapes["y"] == ("N", 3)
    assert graph(model).shapes["z"] == ("N", 3)


def test_bodies_see_what_they_capture(parse):
    text = (
        "g (bool c, float[N,4] x) => (float[?,?] y) { a = Relu(x) h = If(c)"
        " <then_branch = t () => (float[?,?] p) { p = Abs(a) },"
        " else_branch = e () => (float[?,?] q) { q = Neg(a) }> y = Tanh(h) }"
    )
    assert graph(parse(text)).shapes["y"][1] == 4


def test_integer_division_truncates_towards_zero(parse):
    text = (
        "g (int64[1] x) => (int64[1] y) { a = Constant<value_ints = [-7]>() b = Constant<value_ints = [2]>()"
        " d = Div(a, b) y = Add(x, d) }"
    )
    assert graph(normalise(parse(text))).constant("d").tolist() == [-3]


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

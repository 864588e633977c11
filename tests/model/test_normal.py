"""Normal form: same function, one spelling."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from contract.random_check import random_model
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.errors import ModelError
from onnx_oto.model import full_check, graph, load, normal_form, normalise
from onnx_oto.model.shapes.inference import Knowledge, infer
from onnx_oto.model.shapes.types import type_shape

X = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)}


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def names(model: onnx.ModelProto) -> list[str]:
    return [tensor.name for tensor in model.graph.initializer]


CONSTANTS = {
    "value": ("Constant<value = float[4] {1.0, 2.0, 3.0, 4.0}>()", np.array([1, 2, 3, 4], np.float32)),
    "value_float": ("Constant<value_float = 2.5>()", np.array(2.5, np.float32)),
    "value_floats": ("Constant<value_floats = [1.0, 2.0, 3.0, 4.0]>()", np.array([1, 2, 3, 4], np.float32)),
}


@pytest.mark.parametrize("kind", CONSTANTS)
def test_constant_nodes_become_initializers(kind, parse, same_function):
    text, value = CONSTANTS[kind]
    model = parse(f"g (float[N,3,4] x) => (float[N,3,4] y) {{ k = {text} y = Mul(x, k) }}")
    normal = normalise(model)
    assert ops(normal) == ["Mul"]
    np.testing.assert_array_equal(graph(normal).constant("k"), value)
    same_function(model, normal, X)


@pytest.mark.parametrize(("text", "value"), [("value_int = 2", 2), ("value_ints = [2]", [2])])
def test_integer_constants_become_initializers(text, value, parse):
    model = parse(f"g (int64[2] x) => (int64[2] y) {{ k = Constant<{text}>() y = Mul(x, k) }}")
    np.testing.assert_array_equal(graph(normalise(model)).constant("k"), np.array(value))


def sparse(name: str) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([5, 7], np.float32), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 3]), ""), [4])


def test_sparse_tensors_become_dense(parse):
    model = parse("g (float[N,3,4] x) => (float[N,3,4] y) { z = Mul(x, s) y = Add(z, k) }")
    model.graph.sparse_initializer.append(sparse("s"))
    model.graph.node.insert(0, helper.make_node("Constant", [], ["k"], sparse_value=sparse("")))
    view = graph(normalise(model))
    for name in "sk":
        np.testing.assert_array_equal(view.constant(name), np.array([0, 5, 0, 7], np.float32))


@pytest.mark.parametrize(("indices", "dims"), [([1, 9], [4]), ([-1, 3], [4]), ([1, 3], [10**8, 10**8])])
def test_bad_sparse_tensors_are_refused(indices, dims, parse):
    model = parse("g (float[N,3,4] x) => (float[N,3,4] y) { y = Mul(x, s) }")
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "s")
    tensor = onnx.SparseTensorProto(
        values=values, indices=numpy_helper.from_array(np.array(indices), ""), dims=dims
    )
    model.graph.sparse_initializer.append(tensor)
    with pytest.raises(ModelError, match="sparse tensor 's'"):
        normalise(model)


def test_an_initializer_is_no_input(parse, same_function):
    model = parse("g (float[N,3,4] x, float[4] w) => (float[N,3,4] y) { y = Mul(x, w) }", w=(4,))
    model.ir_version = 3
    normal = normalise(model)
    assert [value.name for value in normal.graph.input] == ["x"]
    assert normal.ir_version == 4
    same_function(model, normal, X)


def test_functions_are_inlined(parse, same_function):
    text = (
        "g (float[N,3,4] x) => (float[N,3,4] y) { z = l.f(x) y = l.f(z) }\n"
        '<domain: "l", opset_import: ["":17]> f (a) => (b) { k = Constant<value_float = 2.0>() m '
        "= Mul(a, k) b = Tanh(m) }"
    )
    model = parse(text, header='<ir_version: 8, opset_import: ["":17, "l":1]>')
    normal = normalise(model)
    assert ops(normal) == ["Mul", "Tanh", "Mul", "Tanh"]
    assert not normal.functions
    same_function(model, normal, X)


def test_names_of_nodes_are_unique_and_stable(parse):
    model = parse("g (float[N,3,4] x) => (float[N,3,4] y) { a = Relu(x) b = Relu(a) c = Neg(b) y = Abs(c) }")
    for node, name in zip(model.graph.node, ["", "twice", "twice", "Relu_0"], strict=True):
        node.name = name
    found = [node.name for node in normalise(model).graph.node]
    assert found == [node.name for node in normalise(normalise(model)).graph.node]
    assert len(set(found)) == 4
    assert found[1] == "twice"
    assert found[3] == "Relu_0"


def test_identities_of_initializers_are_resolved(parse, same_function):
    text = (
        "g (float[N,3,4] x) => (float[N,3,4] y) { v = Identity(w) u = Identity(v) "
        "a = MatMul(x, w) y = MatMul(a, u) }"
    )
    model = parse(text, w=(4, 4))
    normal = normalise(model)
    assert ops(normal) == ["MatMul", "MatMul"]
    assert names(normal) == ["w"]
    same_function(model, normal, X)


def test_shared_vectors_get_a_clone_for_each_use_but_matrices_stay_tied(parse, same_function):
    text = (
        "g (float[N,3,4] x) => (float[N,3,4] y) "
        "{ a = MatMul(x, w) b = Add(a, v) c = MatMul(b, w) "
        "d = Add(c, v) e = Mul(d, v) f = Mul(e, k) y = Mul(f, k) }"
    )
    model = parse(text, w=(4, 4), v=(4,), k=(1,))
    normal = normalise(model)
    assert names(normal) == ["w", "v", "k", "v__use1", "v__use2"]
    same_function(model, normal, X)


def test_what_a_body_reads_is_not_cloned(parse):
    text = (
        "g (bool c, float[4] x) => (float[4] y) { a = Add(x, v) b = Add(a, v) y = If(c) "
        "<then_branch = t () => (float[4] p) { p = Add(b, v) }, "
        "else_branch = e () => (float[4] q) { q = Neg(b) }> }"
    )
    assert names(normalise(parse(text, v=(4,)))) == ["v"]


def test_a_constant_graph_output_still_comes_from_a_node(parse, same_function):
    text = (
        "g (float[N,3,4] x) => (float[N,3,4] y, float[1] k) { k = Constant<value_floats = "
        "[2.0]>() y = Mul(x, k) }"
    )
    model = parse(text)
    normal = normalise(model)
    assert [value.name for value in normal.graph.output] == ["y", "k"]
    full_check(normal)
    same_function(model, normal, X)


def test_in_place_the_argument_itself_becomes_the_same(parse):
    text = (
        "g (float[N,3,4] x, float[4,4] w) => (float[N,3,4] y) { c = Constant<value = float {2.0}>() "
        "v = Identity(w) a = MatMul(x, v) y = Mul(a, c) }"
    )
    model = parse(text, w=(4, 4))
    expected = normalise(model)
    found = normal_form(model, in_place=True).model
    assert found is model
    assert found == expected


def test_the_argument_is_not_modified_and_metadata_stay(parse):
    model = parse(
        "g (float[N,3,4] x) => (float[N,3,4] y) { k = Constant<value_float = 2.0>() y = Mul(x, k) }"
    )
    model.doc_string, model.producer_name, model.model_version, model.domain = "doc", "me", 7, "org"
    model.metadata_props.add(key="labels", value="a,b")
    model.graph.doc_string = "graph doc"
    model.graph.output[0].doc_string = "the answer"
    before = model.SerializeToString()
    normal = normalise(model)
    assert model.SerializeToString() == before
    for field in ("doc_string", "producer_name", "model_version", "domain", "metadata_props", "opset_import"):
        assert getattr(normal, field) == getattr(model, field)
    assert normal.graph.doc_string == "graph doc"
    assert normal.graph.output == model.graph.output
    assert normal.graph.input == model.graph.input


def test_dead_nodes_and_unused_weights_go(parse):
    model = parse("g (float[N,3,4] x) => (float[N,3,4] y) { d = MatMul(x, w) y = Relu(x) }", w=(4, 4))
    normal = normalise(model)
    assert ops(normal) == ["Relu"]
    assert names(normal) == []


def test_normal_form_is_a_fixed_point(parse):
    text = (
        "g (float[N,3,4] x) => (float[N,12] y) { s = Shape(x) i = Constant<value_int = 0>() n = Gather(s, i) "
        "a = Constant<value_ints = [0]>() u = Unsqueeze(n, a) m = Constant<value_ints = [-1]>() "
        "t = Concat<axis = 0>(u, m) r = Reshape(x, t) y = Add(r, v) }"
    )
    once = normalise(parse(text, v=(12,)))
    assert normalise(once) == once


def test_a_bias_that_was_computed_and_is_zero_is_left_out(parse, same_function):
    text = (
        "g (float[N,3,8,8] x) => (float[N,4,8,8] y) <int64[1] four = {4}, float zero = {0}, "
        "float[4] given = {0,0,0,0}> { b = Expand(zero, four) c = Conv(x, w, b) y = Conv(c, v, given) }"
    )
    model = parse(text, w=(4, 3, 1, 1), v=(4, 4, 1, 1))
    normal = normalise(model)
    assert sorted(names(normal)) == ["given", "v", "w"]  # what the file gives may be meant to be trained
    same_function(model, normal, {"x": np.linspace(-1, 1, 192, dtype=np.float32).reshape(1, 3, 8, 8)})


def test_nothing_is_computed_from_weights(parse):
    model = parse("g (float[N,40] x) => (float[N,40] y) { t = Transpose(w) y = MatMul(x, t) }", w=(40, 40))
    assert ops(normalise(model)) == ["Transpose", "MatMul"]


STANDARDISED = (
    "g (float[N,40,2,2] x) => (float[N,50,2,2] y) <float eps = {0.0001}> "
    "{ m = ReduceMean<axes=[1,2,3]>(w) d = Sub(w, m) q = Mul(d, d) v = ReduceMean<axes=[1,2,3]>(q) e = Add(v, eps) "
    "s = Sqrt(e) h = Div(d, s) g = Mul(h, gain) y = Conv(x, g) }"
)
WEIGHT = {"w": (50, 40, 1, 1), "gain": (50, 1, 1, 1)}


def test_a_standardised_weight_becomes_a_weight_under_its_name(parse, same_function):
    model = parse(STANDARDISED, **WEIGHT)
    normal = normalise(model)
    assert ops(normal) == ["Conv"]
    assert names(normal) == ["w"]
    same_function(model, normal, {"x": np.linspace(-1, 1, 320, dtype=np.float32).reshape(2, 40, 2, 2)})


def test_a_standardised_weight_that_is_not_loaded_is_known_by_its_shape(parse):
    model = parse(STANDARDISED, **WEIGHT)
    for tensor in model.graph.initializer:
        if tensor.name in WEIGHT:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
    (weight,) = normalise(model).graph.initializer
    assert (weight.name, list(weight.dims)) == ("w", [50, 40, 1, 1])
    assert weight.data_location == onnx.TensorProto.EXTERNAL


def test_a_weight_that_is_read_as_it_is_too_keeps_its_name(parse, same_function):
    text = "g (float[N,40] x) => (float[N,40] y) { n = Softmax<axis=0>(w) a = MatMul(x, n) y = MatMul(a, w) }"
    model = parse(text, w=(40, 40))
    normal = normalise(model)
    assert ops(normal) == ["MatMul", "MatMul"]
    assert sorted(names(normal)) == ["n", "w"]
    same_function(model, normal, {"x": np.linspace(-1, 1, 80, dtype=np.float32).reshape(2, 40)})


@pytest.mark.parametrize("first", ["a", "z"])
def test_a_derived_weight_may_be_computed_from_one_of_any_name(first, parse):
    text = (
        f"g (float[N,40] x) => (float[N,40] y) {{ {first} = Softmax<axis=0>(w) m = Softmax<axis=1>({first}) "
        f"c = MatMul(x, {first}) y = MatMul(c, m) }}"
    )
    assert ops(normalise(parse(text, w=(40, 40)))) == ["MatMul", "MatMul"]


def test_dropout_of_a_weight_is_not_folded(parse):
    text = "g (float[N,40] x) => (float[N,40] y) { r = Dropout(w) n = Softmax<axis=0>(r) y = MatMul(x, n) }"
    model = parse(text, w=(40, 40))
    assert ops(normalise(model)) == ops(model)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N,90] x) => (float[N,1600] y) { t = ReduceSum<keepdims=0>(w) u = Expand(t, big) y = MatMul(x, u) }",
        "g (float[N,40] x) => (float[N,40] y, float[40,40] n) { n = Softmax<axis=0>(w) y = MatMul(x, n) }",
        "g (float[N,40] x) => (float[N,40] y) { p = MatMul(w, w) y = MatMul(x, p) }",
        "g (float[N,40] x) => (float[N,40] y) { r = RandomNormalLike(w) n = Softmax<axis=0>(r) y = MatMul(x, n) }",
    ],
    ids=["larger than what it is computed from", "a graph output", "no norm", "random"],
)
def test_other_tensors_that_are_computed_from_weights_stay(text, parse):
    model = parse(text.replace("{ ", "<int64[2] big = {90,1600}> { ", 1), w=(40, 40))
    assert ops(normalise(model)) == ops(model)


def test_random_ops_are_not_folded(parse):
    text = "g (float[4] x) => (float[4] y) { r = RandomNormal<shape = [4]>() y = Add(x, r) }"
    assert ops(normalise(parse(text))) == ["RandomNormal", "Add"]


IF = (
    "g (float[N,3,4] x) => (float[N,3,4] y) {{ s = Shape(x) i = Constant<value_int = 2>() d = Gather(s, i) "
    "k = Constant<value_int = {size}>() c = Equal(d, k) h = If(c) "
    "<then_branch = t () => (float[N,3,4] o) {{ two = Constant<value_float = 2.0>() m = Mul(x, "
    "two) o = Relu(m) }}, "
    "else_branch = e () => (float[N,3,4] o) {{ m = Neg(x) o = Tanh(m) }}> m = Abs(h) y = Neg(m) }}"
)


@pytest.mark.parametrize(("size", "found"), [(4, ["Mul", "Relu"]), (5, ["Neg", "Tanh"])])
def test_an_if_of_a_known_condition_gives_way_to_its_branch(size, found, parse, same_function):
    model = parse(IF.format(size=size))
    normal = normalise(model)
    assert ops(normal) == [*found, "Abs", "Neg"]
    full_check(normal)
    same_function(model, normal, X)


def test_an_if_of_an_unknown_condition_stays(parse):
    text = (
        "g (bool c, float[4] x) => (float[4] y) { y = If(c) "
        "<then_branch = t () => (float[4] p) { p = Relu(x) }, "
        "else_branch = e () => (float[4] q) { q = Neg(x) }> }"
    )
    normal = normalise(parse(text))
    assert ops(normal) == ["If"]
    assert graph(normal).nodes[0].captured == ("x",)


def test_the_other_spelling_of_the_standard_domain(parse):
    model = parse("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    model.graph.node[0].domain = "ai.onnx"
    assert graph(normalise(model)).nodes[0].domain == ""


def test_contradicting_shapes_name_the_node(parse):
    model = parse("g (float[N,3,4] x) => (int64[N,3,4] y) { y = Relu(x) }")
    model.graph.node[0].name = "the_node"
    with pytest.raises(ModelError, match="contradict"):
        infer(model, strict=True)
    model = parse("g (float[N,3,4] x) => (float[N,3,5] y) { z = MatMul(x, w) y = Relu(z) }", w=(7, 5))
    model.graph.node[0].name = "the_node"
    with pytest.raises(ModelError, match="the_node"):
        normalise(model)


def test_an_output_that_is_declared_wrongly_is_declared_as_it_is(parse, write, same_function):
    text = "g (float[N,3,4] x) => (float[M,7] y, float[N,3,?] z) { y = Relu(x) z = MatMul(x, w) }"
    model = load(write(parse(text, w=(4, 5))))
    normal = normalise(model)
    assert type_shape(normal.graph.output[0].type) == ("N", 3, 4)
    assert type_shape(normal.graph.output[1].type) == ("N", 3, None)
    full_check(normal)


def test_bodies_may_contradict_themselves(parse, write):
    text = (
        "g (bool c, float[2,3] x) => (float[?,?] y) { a = Relu(x) b = If(c)"
        "<then_branch = t () => (float[2,9] p) { p = Relu(a) }, else_branch = e () => (float[2,3] q) { q = Neg(a) }>"
        " y = Relu(b) }"
    )
    assert ops(normalise(load(write(parse(text))))) == ["Relu", "If", "Relu"]


def test_weights_keep_their_payload(parse):
    model = parse("g (float[N,3,4] x) => (float[N,3,9] y) { y = MatMul(x, w) }", w=(4, 9))
    assert normalise(model).graph.initializer[0] == model.graph.initializer[0]
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT


def test_a_fill_that_several_layers_read_is_made_for_each(parse):
    """One tensor of zeros is sliced into the states of two layers, whose channels are not the same."""
    text = (
        "g (float[N,6] x) => (float[N,6] y, float[N,6] z) <int64[1] six = {6}, int64[1] zero = {0}, int64[1] one = {1},"
        " int64[1] two = {2}> { n = Shape<start = 0, end = 1>(x) s = Concat<axis = 0>(two, n, six)"
        " f = ConstantOfShape(s) a = Slice(f, zero, one, zero) b = Slice(f, one, two, zero)"
        " p = Squeeze(a, zero) q = Squeeze(b, zero) y = Add(x, p) r = Add(x, q) z = Add(r, p) }"
    )
    normal = normalise(parse(text))
    made = [node.op_type for node in normal.graph.node]
    assert (made.count("ConstantOfShape"), made.count("Slice"), made.count("Squeeze")) == (3, 3, 3)
    readers = [name for node in normal.graph.node if node.op_type == "Add" for name in node.input]
    assert len(readers) == len(set(readers)) + 1  # x is read twice, and nothing else


def test_a_mask_without_channels_is_made_once(parse):
    text = (
        "g (float[N,T,6] x) => (float[N,T,6] y) <int64[1] one = {1}> { n = Shape<start = 0, end = 2>(x)"
        " s = Concat<axis = 0>(n, one) f = ConstantOfShape(s) a = Add(x, f) y = Mul(a, f) }"
    )
    assert [node.op_type for node in normalise(parse(text)).graph.node].count("ConstantOfShape") == 1


def same(left: Knowledge, right: Knowledge) -> bool:
    """Say whether the same is known, whatever symbols are called: they are drawn in the order of nodes."""
    if left.dtypes != right.dtypes or left.values.keys() != right.values.keys():
        return False
    names: dict[str, str] = {}
    for name, shape in left.shapes.items():
        other = right.shapes[name]
        if (shape is None) != (other is None) or len(shape or ()) != len(other or ()):
            return False
        for size, twin in zip(shape or (), other or (), strict=True):
            if isinstance(size, str) != isinstance(twin, str) or names.setdefault(
                str(size), str(twin)
            ) != str(twin):
                return False
    return left.supposed == right.supposed


@pytest.mark.parametrize("seed", range(150))
def test_what_normal_form_knows_is_what_inference_finds(seed):
    rng = np.random.default_rng(seed)
    model = random_model(lambda n: int(rng.integers(n)), 3 + seed % 12, seed=seed)
    normal = normal_form(model)
    assert same(normal.knowledge, infer(normal.model))

"""What several nodes share: which copies normal form makes, and which of them are one parameter."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper

from onnx_oto.model import normal_form
from onnx_oto.model.normal.origins import Origins
from onnx_oto.model.normal.sharing import share_copies


def opened(model):
    origins = Origins()
    result = normal_form(model, origins=origins).model
    return result, origins, {t.name: int(np.prod(t.dims)) for t in result.graph.initializer}


TWO = "g (float[N,3] x) => (float[N,4] y) { a = Gemm(x, v, b) c = Gemm(x, w, b) y = Add(a, c) }"


def test_copies_of_a_shared_bias_are_one_parameter(parse):
    result, origins, sizes = opened(parse(TWO, v=(3, 4), w=(3, 4), b=(4,)))
    (tie,) = origins.tied(sizes)
    assert tie.names == ("b", "b__use1")
    np.testing.assert_array_equal(tie.elements, [0, 1, 2, 3, 0, 1, 2, 3])
    assert share_copies(result, origins) == 1
    assert [node.input[2] for node in result.graph.node[:2]] == ["b", "b"]
    assert [t.name for t in result.graph.initializer] == ["v", "w", "b"]


@pytest.mark.parametrize("number", [0.0, 1.0, 0.3])
def test_vectors_of_one_number_were_merged_by_an_exporter(number, parse):
    model = parse(TWO, v=(3, 4), w=(3, 4))
    model.graph.initializer.append(numpy_helper.from_array(np.full(4, number, np.float32), "b"))
    _, origins, sizes = opened(model)
    assert "b__use1" in sizes
    assert not origins.tied(sizes)


@pytest.mark.parametrize("fresh", [True, False])
def test_the_same_holds_for_a_vector_that_every_reader_reshapes(fresh, parse):
    """Fresh GroupNorms as PyTorch exports them: one vector of ones, unsqueezed for each."""
    text = """g (float[N,4,6] x) => (float[N,4,6] y) <int64[1] i = {1}> {
        p = Unsqueeze(s, i) a = Mul(x, p) b = Tanh(a) q = Unsqueeze(s, i) y = Mul(b, q) }"""
    model = parse(text, **({} if fresh else {"s": (4,)}))
    if fresh:
        model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "s"))
    _, origins, sizes = opened(model)
    assert {"p", "q"} <= set(sizes)
    assert [set(tie.names) for tie in origins.tied({n: sizes[n] for n in "pq"})] == [{"p", "q"}][fresh:]


def test_a_layer_that_is_used_twice_keeps_one_bias(parse):
    """Whatever its values: that it also shares the matrix says that it is one layer."""
    text = "g (float[N,4] x) => (float[N,4] y) { a = Gemm(x, v, b) c = Gemm(a, v, b) d = Gemm(c, w, b) y = Relu(d) }"
    model = parse(text, v=(4, 4), w=(4, 4))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "b"))
    result, _, _ = opened(model)
    assert [node.input[2] for node in result.graph.node[:3]] == ["b", "b", "b__use1"]


@pytest.mark.parametrize(("learned", "count"), [(True, 4), (False, 8)])
def test_a_norm_that_is_used_twice_keeps_one_set_of_statistics(learned, count, parse):
    """Statistics of data are never equal by accident; the zeros of a fresh norm are what exporters merge."""
    text = """g (float[N,4] x) => (float[N,4] y)
        { a = BatchNormalization(x, s, p, m, v) c = Relu(a) y = BatchNormalization(c, s, p, m, v) }"""
    model = parse(text, s=(4,), p=(4,), **({"m": (4,)} if learned else {}))
    for name, value in {"m": 0, "v": 1}.items():
        if name == "v" or not learned:
            model.graph.initializer.append(numpy_helper.from_array(np.full(4, value, np.float32), name))
    result, _, _ = opened(model)
    assert len(result.graph.initializer) == count


def test_copies_that_differ_stay(parse):
    result, origins, _ = opened(parse(TWO, v=(3, 4), w=(3, 4), b=(4,)))
    for tensor in result.graph.initializer:
        if tensor.name == "b__use1":
            tensor.CopyFrom(numpy_helper.from_array(np.ones(4, np.float32), tensor.name))
    assert share_copies(result, origins) == 0
    assert len(result.graph.initializer) == 4


def test_equal_tensors_of_the_file_stay_apart(parse):
    model = parse(TWO.replace("w, b", "w, e"), v=(3, 4), w=(3, 4))
    for name in "be":
        model.graph.initializer.append(numpy_helper.from_array(np.arange(4, dtype=np.float32), name))
    result, origins, _ = opened(model)
    assert share_copies(result, origins) == 0


def test_what_was_looked_up_in_a_table_holds_elements_several_times(parse):
    """Relative positions: bias[i, j] = table[i - j + 2], folded into a dense tensor."""
    text = """g (float[N,2,3,3] x) => (float[N,2,3,3] y) <int64[3,3] i = {2,1,0,3,2,1,4,3,2}> {
        t = Gather<axis=0>(table, i) m = Transpose<perm=[2,0,1]>(t) y = Add(x, m) }"""
    _, origins, sizes = opened(parse(text, table=(5, 2)))
    names = [name for name in sizes if name == "m" or name == "table"]
    (tie,) = origins.tied({name: sizes[name] for name in names})
    places = np.arange(10).reshape(5, 2)[np.array([[2, 1, 0], [3, 2, 1], [4, 3, 2]])].transpose(2, 0, 1)
    np.testing.assert_array_equal(tie.elements[-18:], places.reshape(-1))


def test_what_is_computed_from_a_parameter_is_another_one(parse):
    text = "g (float[N,4] x) => (float[N,4] y) { a = Add(x, b) e = Exp(b) y = Mul(a, e) }"
    _, origins, sizes = opened(parse(text, b=(4,)))
    assert {"b", "e"} <= set(sizes)
    assert not origins.tied(sizes)

"""Sparse weights in range load as dense ones; those that would be huge are refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnx_oto.errors import ModelError
from onnx_oto.model import graph, load, normalise

CONV = "g (float[N,3,8,8] x) => (float[N,4,8,8] y) { c = Conv(x, w) y = Relu(c) }"
SHAPE = [4, 3, 1, 1]


def sparse(name: str, dims: list[int] | None = None) -> onnx.SparseTensorProto:
    values = numpy_helper.from_array(np.array([5, 7], np.float32), name)
    return helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 9]), "i"), dims or SHAPE)


def dense() -> np.ndarray:
    value = np.zeros(12, np.float32)
    value[[1, 9]] = 5, 7
    return value.reshape(SHAPE)


def test_a_sparse_initializer_loads(parse, write):
    model = parse(CONV)
    model.graph.sparse_initializer.append(sparse("w"))
    view = graph(normalise(load(write(model))))
    np.testing.assert_array_equal(view.constant("w"), dense())


def test_a_sparse_constant_loads(parse, write):
    model = parse(CONV)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], sparse_value=sparse("")))
    view = graph(normalise(load(write(model))))
    np.testing.assert_array_equal(view.constant("w"), dense())


def test_a_sparse_tensor_in_a_branch_loads(parse, write):
    text = (
        "g (float[N,3,8,8] x, bool b) => (float[N,4,8,8] y) { y = If (b)"
        " <then_branch = t () => (float[N,4,8,8] p) { p = Conv(x, w) },"
        " else_branch = e () => (float[N,4,8,8] q) { q = Conv(x, v) }> }"
    )
    model = parse(text, v=(4, 3, 1, 1))
    branch = next(attr.g for attr in model.graph.node[0].attribute if attr.name == "then_branch")
    branch.sparse_initializer.append(sparse("w"))
    loaded = load(write(model))
    branch = next(attr.g for attr in loaded.graph.node[0].attribute if attr.name == "then_branch")
    np.testing.assert_array_equal(numpy_helper.to_array(branch.initializer[0]), dense())


def test_sparse_tensors_that_are_huge_together_are_refused(parse, write):
    model = parse(CONV)
    model.graph.sparse_initializer.extend(sparse(f"w{i}", [2**26]) for i in range(3))
    with pytest.raises(ModelError, match=r"sparse tensor 'w2'.*too large"):
        load(write(model))

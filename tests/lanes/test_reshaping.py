"""Chains of Reshape and Transpose in a graph, against numpy on the labels of every element."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.model import normalise
from onnx_oto.zigs import analyse

from .test_layout import spread


def factorisations(total: int, parts: int) -> list[tuple[int, ...]]:
    """Return all ways to write `total` as an ordered product of `parts` factors."""
    if parts == 1:
        return [(total,)]
    return [
        (n, *rest)
        for n in range(1, total + 1)
        if total % n == 0
        for rest in factorisations(total // n, parts - 1)
    ]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_labels_move_as_the_elements_do(data: st.DataObject) -> None:
    """x [2,5] -> MatMul -> [2,24], then any reshapes and transposes: labels are those of the same elements."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t0"])]
    weights = [numpy_helper.from_array(np.ones((5, 24), np.float32), "w")]
    elements = np.arange(48).reshape(2, 24)
    for i in range(data.draw(st.integers(1, 4))):
        shape = data.draw(st.sampled_from(factorisations(48, data.draw(st.integers(2, 4)))))
        order = data.draw(st.permutations(range(len(shape))))
        weights.append(numpy_helper.from_array(np.array(shape), f"k{i}"))
        nodes.append(helper.make_node("Reshape", [f"t{i}", f"k{i}"], [f"r{i}"]))
        nodes.append(helper.make_node("Transpose", [f"r{i}"], [f"t{i + 1}"], perm=order))
        elements = elements.reshape(shape).transpose(order)
    last = nodes[-1].output[0]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, elements.shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    analysis = analyse(normalise(model))
    start, end = analysis.trace.layout("t0"), analysis.trace.layout(last)
    assert start is not None
    assert end is not None
    columns = start.blocks[0].labels
    of_label = analysis.lanes.of_label
    if not end.blocks:  # a factor is shared between two axes in a way that has no rule: frozen
        assert analysis.lanes.frozen[of_label[columns]].all()
        return
    np.testing.assert_array_equal(of_label[spread(end, 0)], of_label[columns[elements % 24]])

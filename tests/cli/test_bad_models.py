"""Bad models: exit 3, or 4 for valid ones that cannot be handled. One line that names the thing; no data read."""

from __future__ import annotations

import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

NO_DATA = "there-is-no-such-file.npz"


def test_an_empty_file(refused, tmp_path):
    (tmp_path / "empty.onnx").touch()
    assert "empty.onnx' is empty (0 bytes)" in refused(3, "inspect", tmp_path / "empty.onnx")


@pytest.mark.parametrize("share", [0.3, 0.97])
def test_a_truncated_file(refused_alone, model, tmp_path, share):
    content = model.read_bytes()
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(content[: int(len(content) * share)])
    assert "cut.onnx" in refused_alone(3, "prune", cut, "-o", tmp_path / "out.onnx", "--json")
    assert not (tmp_path / "out.onnx").exists()


def test_a_file_that_is_no_model(refused, tmp_path):
    (tmp_path / "notes.onnx").write_text("Dear diary, today I trained a network.")
    line = refused(3, "train", tmp_path / "notes.onnx", "--data", NO_DATA, "--run", tmp_path / "run")
    assert "not an ONNX file" in line
    assert not (tmp_path / "run").exists()


def test_a_cycle(refused, models, write):
    model = models(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }', {}
    )
    model.graph.node.extend(
        [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Neg", ["a"], ["b"])]
    )
    assert "cycle through node" in refused(3, "inspect", write(model))


def test_a_missing_initializer(refused, model, write):
    broken = onnx.load(model)
    del broken.graph.initializer[0]
    line = refused(3, "compact", write(broken), "-o", "never.onnx")
    assert "reads 'w1', which nothing defines" in line


WITH_A_BODY = """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x, bool c) => (float[2,3] y) {{ a = Relu(x)
    y = If (c) <then_branch = t () => (float[2,3] p) {{ {inner} }}, else_branch = e () => (float[2,3] q)
    {{ q = If (c) <then_branch = t2 () => (float[2,3] p2) {{ p2 = Neg(a) }},
       else_branch = e2 () => (float[2,3] q2) {{ {nested} }}> }}> }}"""


@pytest.mark.parametrize(
    ("inner", "nested", "told"),
    [
        ("p = Add(a, nowhere)", "q2 = Abs(a)", "reads 'nowhere', which nothing defines"),
        ("p = Neg(a)", "q2 = Add(a, nowhere)", "reads 'nowhere', which nothing defines"),
        ("p = Neg(a)", "q2 = Add(a, p)", "reads 'p', which nothing defines"),
        ("r = Neg(a)", "q2 = Abs(a)", "reads 'p', which nothing defines"),
        ("p = Neg(r) r = Neg(p)", "q2 = Abs(a)", "cycle through node"),
    ],
)
def test_a_body_that_reads_what_is_not_there(refused, models, write, tmp_path, inner, nested, told):
    path = write(models(WITH_A_BODY.format(inner=inner, nested=nested), {}))
    assert told in refused(3, "prune", path, "-o", tmp_path / "never.onnx", "--json")
    assert not (tmp_path / "never.onnx").exists()


@pytest.mark.parametrize("location", ["../weights.bin", os.path.abspath(os.sep) + "weights.bin"])
def test_external_data_outside_the_folder(refused, model, write, tmp_path, location):
    broken = onnx.load(model)
    tensor = broken.graph.initializer[0]
    (tmp_path.parent / "weights.bin").write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    assert "only files inside" in refused(3, "verify", write(broken), model)


def test_no_such_model(refused):
    assert "cannot read 'nothing.onnx'" in refused(8, "inspect", "nothing.onnx")


def test_an_op_that_training_cannot_handle_is_named_before_data_are_read(refused, models, write, tmp_path):
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N,1,7,7] x) => (float[N,3] y) {
        a = Conv(x, w)
        b = Relu(a)
        c = Conv(b, v)
        d = Det(c)
        y = Gemm(d, k)
    }
    """
    model = models(text, {"w": (8, 1, 3, 3), "v": (5, 8, 3, 3), "k": (5, 3)})
    model.graph.node[3].name = "the_determinant"
    path = write(model)
    line = refused(4, "train", path, "--data", NO_DATA, "--run", tmp_path / "run")
    assert "training cannot handle node 'the_determinant' (Det)" in line
    assert NO_DATA not in line


def test_nothing_prunable_says_why(refused, models, write, tmp_path):
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N,4] x) => (float[N,6] y) { a = MatMul(x, w) y = Softmax(a) }
    """
    path = write(models(text, {"w": (4, 6)}))
    for arguments in (
        ["prune", path, "-o", tmp_path / "out.onnx"],
        ["compact", path, "-o", tmp_path / "out.onnx"],
        ["train", path, "--data", NO_DATA, "--run", tmp_path / "run"],
    ):
        line = refused(4, *arguments)
        assert "nothing in 'model.onnx' can be pruned: " in line
        assert "it is part of the model's output 'y'" in line or "Softmax" in line
    assert not (tmp_path / "out.onnx").exists()


def test_compact_without_zeros(refused, model, tmp_path):
    assert "of the 20 groups of 'tiny.onnx', none is exactly zero" in refused(
        4, "compact", model, "-o", tmp_path / "out.onnx"
    )


def test_a_quantized_model_is_told_to_come_earlier(refused, write, tmp_path):
    """One of operators that compute in 8 bits; those in QDQ form are pruned."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "s"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.ones((4, 6), np.int8), "w"),
        numpy_helper.from_array(np.ones((6, 3), np.float32), "v"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    line = refused(4, "prune", write(model), "-o", tmp_path / "out.onnx")
    assert "its weights are quantized ('w'); prune the float model first" in line


def test_operators_that_only_the_runtime_knows(cli, write):
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("SimplifiedLayerNormalization", ["a", "s"], ["b"]),
            helper.make_node("MatMul", ["b", "v"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(np.ones((4, 6), np.float32), "w"),
            numpy_helper.from_array(np.ones(6, np.float32), "s"),
            numpy_helper.from_array(np.ones((6, 2), np.float32), "v"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    done = cli("inspect", write(model), "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["params"] == 42

"""Parameters and multiply-accumulates of every layer are those of a counter that knows nothing of lanes."""

from __future__ import annotations

import math
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser, shape_inference

import onnx_oto
from onnx_oto.pipeline.opening import open_model
from onnx_oto.reporting.layers import ADDED, SINGLE, Looked, bars, layers, times_of
from onnx_oto.zigs.cost import count_macs


def counted(path: Path, sizes: dict[str, int]) -> tuple[int, dict[str, int]]:
    """Return parameters, and MACs by the name of the node, by the textbook: shapes of onnx's own inference.

    sizes: of open axes, which are written into the model first.
    """
    model = onnx.load(path)
    for value in model.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = sizes[dim.dim_param]
    for value in (*model.graph.value_info, *model.graph.output):
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    weights = {t.name: tuple(t.dims) for t in model.graph.initializer}
    known = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in known} | weights
    macs = {}
    for node in model.graph.node:
        out = math.prod(shapes[node.output[0]]) if node.output[0] in shapes else 0
        if node.op_type == "Conv":
            macs[node.name] = out * math.prod(weights[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":
            macs[node.name] = math.prod(shapes[node.input[0]]) * math.prod(weights[node.input[1]][1:])
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            macs[node.name] = out * shapes[node.input[0]][0 if transposed else 1]
        elif node.op_type == "MatMul":
            macs[node.name] = out * shapes[node.input[0]][-1]
    statistics = {
        n for node in model.graph.node if node.op_type == "BatchNormalization" for n in node.input[3:]
    }
    params = sum(
        math.prod(t.dims)
        for t in model.graph.initializer
        if t.data_type == onnx.TensorProto.FLOAT and t.name not in statistics
    )
    return params, macs


GROUPED = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,8,H,8] x) => (float[N,4,P,Q] y) {
    a = Conv<group = 4, pads = [1,1,1,1]>(x, w1, b1)
    b = Relu(a)
    c = Conv<group = 16, strides = [2,2]>(b, w2)
    d = Conv(c, w3)
    y = ConvTranspose<strides = [2,2]>(d, w4)
}
"""
TOKENS = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N,T,16] x) => (float[N,T,5] y) {
    q = MatMul(x, wq)
    k = MatMul(x, wk)
    kt = Transpose<perm = [0,2,1]>(k)
    s = MatMul(q, kt)
    p = Softmax<axis = -1>(s)
    v = MatMul(x, wv)
    o = MatMul(p, v)
    r = Relu(o)
    y = MatMul(r, wo)
}
"""
MODELS = {
    "grouped": (GROUPED, {
        "w1": (16, 2, 3, 3), "b1": (16,), "w2": (16, 1, 3, 3), "w3": (12, 16, 1, 1), "w4": (12, 4, 2, 2),
    }),
    "tokens": (TOKENS, {"wq": (16, 10), "wk": (16, 10), "wv": (16, 14), "wo": (14, 5)}),
}  # fmt: skip


def built(name: str, folder: Path) -> Path:
    """Write a model with seeded weights."""
    text, shapes = MODELS[name]
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for weight, shape in shapes.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, weight))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    onnx.save(model, folder / f"{name}.onnx")
    return folder / f"{name}.onnx"


@pytest.mark.parametrize("name", [*MODELS, "demo"])
def test_params_and_macs_are_those_of_a_textbook(name: str, tmp_path: Path) -> None:
    if name == "demo":
        with as_file(files("onnx_oto") / "assets" / "fashion_resnet.onnx") as asset:
            path = tmp_path / "demo.onnx"
            path.write_bytes(asset.read_bytes())
    else:
        path = built(name, tmp_path)
    small = tmp_path / "compact.onnx"
    result = onnx_oto.prune(path, small, sparsity=0.5, skip_latency=True, round_to=1).as_json()
    full_analysis, small_analysis = (open_model(each, weights=False).analysis for each in (path, small))
    sizes = dict(count_macs(full_analysis).at)
    found = layers(Looked(full_analysis, small_analysis, sizes), {})
    before, after = counted(path, sizes), counted(small, sizes)
    assert sum(layer.params.before or 0 for layer in found) == before[0] == result["params"]["before"]
    assert sum(layer.params.after or 0 for layer in found) == after[0] == result["params"]["after"]
    assert {layer.name: layer.macs.before for layer in found if layer.macs.before} == before[1]
    assert {layer.name: layer.macs.after for layer in found if layer.macs.after} == after[1]
    assert result["macs"]["after"] == sum(after[1].values()) < result["macs"]["before"]


def test_dimensions_inferred_from_shapes_are_those_that_the_cut_wrote(tmp_path: Path) -> None:
    path = built("tokens", tmp_path)
    result = onnx_oto.prune(path, tmp_path / "c.onnx", sparsity=0.4, skip_latency=True, round_to=1).as_json()
    full, small = (open_model(each, weights=False).analysis for each in (path, tmp_path / "c.onnx"))
    looked = Looked(full, small, count_macs(full).at)
    stored = {each["name"]: each["after"] for each in result["dimensions"]}
    assert {bar.name: bar.lanes.after for bar in bars(looked)} == stored
    assert any(bar.lanes.after != bar.lanes.before for bar in bars(looked))
    assert {bar.name: bar.lanes.after for bar in bars(looked, result["dimensions"])} == stored


def test_what_froze_a_layer_is_told_and_single_numbers_are_one_row(folder: Path) -> None:
    analysis = open_model(folder / "net.onnx", weights=False).analysis
    found = {layer.op: layer for layer in layers(Looked(analysis, None, count_macs(analysis).at), {})}
    assert found["Gemm"].frozen == ("it is part of the model's output 'logits'",)
    assert found[SINGLE].params.before == 2
    assert (found[SINGLE].name, found["Gemm"].params.after) == ("1 nodes", None)
    assert ADDED not in found


def test_time_of_several_nodes_counts_for_the_one_with_most_work() -> None:
    table = {
        "operators": [
            {"nodes": ["a", "b"], "ms": [2.0, 1.0]},
            {"nodes": [], "ms": [9.0]},
            {"nodes": ["b"], "ms": [1]},
        ]
    }
    assert times_of(table, {"a": 1, "b": 5}) == {"b": 3.0}
    assert times_of({}, {}) == {}


def test_two_open_sizes_that_meet_count_as_what_they_are(tmp_path: Path) -> None:
    """In a feature pyramid a half, rounded up and resized back, meets the whole; what is behind that counts too."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    g (float[N,3,H,W] x) => (float[N,4,P,Q] y) {
        a = Conv<strides = [2,2], pads = [1,1,1,1]>(x, w1)
        b = Conv<strides = [2,2], pads = [1,1,1,1]>(a, w2)
        c = Resize<mode = "nearest">(b, none, twice)
        d = Add(a, c)
        e = Conv<pads = [1,1,1,1]>(d, w3)
        f = Resize<mode = "nearest">(e, none, half)
        y = Conv(f, w4)
    }
    """
    model = parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, shape in {
        "w1": (8, 3, 3, 3),
        "w2": (8, 8, 3, 3),
        "w3": (8, 8, 3, 3),
        "w4": (4, 8, 1, 1),
    }.items():
        model.graph.initializer.append(
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        )
    for name, scale in (("none", []), ("twice", [1, 1, 2, 2]), ("half", [1, 1, 0.5, 0.5])):
        model.graph.initializer.append(numpy_helper.from_array(np.array(scale, np.float32), name))
    for number, node in enumerate(model.graph.node):
        node.name = f"n{number}"
    onnx.save(model, tmp_path / "m.onnx")
    analysis = open_model(tmp_path / "m.onnx", weights=False).analysis
    found = layers(Looked(analysis, None, count_macs(analysis).at), {})
    assert {each.name: each.macs.before for each in found if each.macs.before} == {
        "n0": 112 * 112 * 8 * 27, "n1": 56 * 56 * 8 * 72, "n4": 112 * 112 * 8 * 72, "n6": 56 * 56 * 32,
    }  # fmt: skip

"""Rules for operators that onnx does not describe agree with what onnxruntime computes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from onnx_oto.model import graph, load, normalise
from onnx_oto.model.shapes.claims import FOREIGN
from onnx_oto.model.shapes.dims import Dim

MS, ML = "com.microsoft", "ai.onnx.ml"
F, I32, I64, U8, I8 = np.float32, np.int32, np.int64, np.uint8, np.int8
N, T = 2, 3  # the sizes that the symbols N and T stand for

Input = tuple[Sequence[Dim], type] | np.ndarray | None


def f(*shape: Dim) -> Input:
    return shape, F


def scale() -> np.ndarray:
    return np.array(0.1, F)


def zero(kind: type = U8) -> np.ndarray:
    return np.array(1, kind)


HEADS = {"num_heads": 2}
GROUPS = {"num_heads": 4, "kv_num_heads": 2}
LENGTHS = [np.array([2, 2], I32), np.array(3, I32)]
# domain, op, opset of the standard domain, number of outputs, attributes, inputs (tuples: shape and type).
ROWS = [
    ("", "GroupNormalization", 18, 1, {"num_groups": 2}, [f("N", 4, "T"), f(2), f(2)]),
    ("", "GroupNormalization", 21, 1, {"num_groups": 2}, [f("N", 4, "T"), f(4), f(4)]),
    ("", "MeanVarianceNormalization", 13, 1, {}, [f("N", 4, "T", 5)]),
    ("", "SimplifiedLayerNormalization", 17, 1, {}, [f("N", "T", 4), f(4)]),
    ("", "LayerNormalization", 11, 1, {}, [f("N", "T", 4), f(4), f(4)]),
    ("", "GreaterOrEqual", 12, 1, {}, [f("N", 1, 4), f("T", 4)]),
    ("", "LessOrEqual", 12, 1, {}, [f("N", 4), f(4)]),
    (ML, "Imputer", 17, 1, {"imputed_value_floats": [1.0]}, [f("N", 4)]),
    (ML, "LabelEncoder", 17, 1, {"classes_strings": ["a", "b", "c", "d", "e"]}, [(("N", "T", 4), I64)]),
    (ML, "Scaler", 17, 1, {"offset": [1.0], "scale": [2.0]}, [(("N", 4), I64)]),
    (ML, "Normalizer", 17, 1, {"norm": "L2"}, [f("N", 4)]),
    (ML, "LinearRegressor", 17, 1, {"coefficients": [1.0] * 8, "targets": 2}, [f("N", 4)]),
    (MS, "Gelu", 17, 1, {}, [f("N", "T", 4)]),
    (MS, "FastGelu", 17, 1, {}, [f("N", "T", 4), f(4)]),
    (MS, "BiasGelu", 17, 1, {}, [f("N", "T", 4), f(4)]),
    (MS, "QuickGelu", 17, 1, {}, [f("N", "T", 4)]),
    (MS, "RotaryEmbedding", 17, 1, {}, [f("N", "T", 8), (("N", "T"), I64), f(9, 4), f(9, 4)]),
    (MS, "Inverse", 17, 1, {}, [np.stack([np.eye(3, dtype=F)] * 2)]),
    (MS, "Trilu", 17, 1, {}, [f("N", "T", 4)]),
    (MS, "QuantizeLinear", 17, 1, {}, [f("N", 4), scale(), zero(I8)]),
    (MS, "DequantizeLinear", 17, 1, {}, [(("N", 4), U8), scale(), zero()]),
    (MS, "QLinearSigmoid", 17, 1, {}, [(("N", 4), U8), scale(), zero(), scale(), zero()]),
    (MS, "QLinearLeakyRelu", 17, 1, {}, [(("N", 4), U8), scale(), zero(), scale(), zero()]),
    (
        MS, "QLinearSoftmax", 17, 1, {"axis": 1, "opset": 13},
        [(("N", 4), U8), scale(), zero(), scale(), zero()],
    ),
    (
        MS, "QLinearAdd", 17, 1, {},
        [(("N", 1, 4), U8), scale(), zero(), (("T", 4), U8), scale(), zero(), scale(), zero()],
    ),
    (
        MS, "QLinearMul", 17, 1, {},
        [(("N", 4), U8), scale(), zero(), ((4,), U8), scale(), zero(), scale(), zero()],
    ),
    (MS, "SkipLayerNormalization", 17, 4, {}, [f("N", "T", 8), f("N", "T", 8), f(8), f(8)]),
    (MS, "SkipSimplifiedLayerNormalization", 17, 4, {}, [f("N", "T", 8), f("N", "T", 8), f(8)]),
    (MS, "GridSample", 17, 1, {}, [f("N", 3, 5, 5), f("N", "T", 4, 2)]),
    (MS, "TransposeMatMul", 17, 1, {"transA": 1}, [f("N", 4, "T"), f(4, 5)]),
    (MS, "EmbedLayerNormalization", 17, 3, {}, [(("N", "T"), I32), None, f(5, 8), f(9, 8), None, f(8), f(8)]),
    (MS, "EmbedLayerNormalization", 17, 2, {}, [(("N", "T"), I32), None, f(5, 8), f(9, 8), None, f(8), f(8)]),
    (MS, "FusedConv", 17, 1, {"activation": "Relu", "pads": [1, 1]}, [f("N", 3, "T"), f(4, 3, 3), f(4)]),
    (MS, "FusedConv", 17, 1, {"activation": "Relu", "strides": [2, 1]}, [f("N", 3, 9, 8), f(4, 3, 3, 3)]),
    (MS, "FusedGemm", 17, 1, {"activation": "Relu", "transB": 1}, [f("N", 3), f(4, 3), f(4)]),
    (MS, "FusedGemm", 17, 1, {"activation": "Relu", "transA": 1}, [f(3, "N"), f(3, 4), f(4)]),
    (MS, "FusedMatMul", 17, 1, {"transB": 1, "alpha": 0.5}, [f("N", "T", 4), f("N", 5, 4)]),
    (MS, "FusedMatMul", 17, 1, {"transA": 1}, [f("N", 4, "T"), f(4, 5)]),
    (MS, "DynamicQuantizeMatMul", 17, 1, {}, [f("N", "T", 4), ((4, 5), I8), scale(), zero(I8)]),
    (
        MS, "MatMulIntegerToFloat", 17, 1, {},
        [(("N", "T", 4), U8), ((4, 5), I8), scale(), scale(), zero(), zero(I8)],
    ),
    (
        MS, "MatMulNBits", 17, 1, {"K": 16, "N": 5, "bits": 4, "block_size": 16},
        [f("N", "T", 16), ((5, 1, 8), U8), f(5)],
    ),
    (MS, "Attention", 17, 1, HEADS, [f("N", "T", 6), f(6, 24), f(24)]),
    (MS, "Attention", 17, 1, {**HEADS, "qkv_hidden_sizes": [8, 8, 4]}, [f("N", "T", 6), f(6, 20), f(20)]),
    (MS, "MultiHeadAttention", 17, 1, HEADS, [f("N", "T", 8), f("N", 5, 8), f("N", 5, 6)]),
    (MS, "MultiHeadAttention", 17, 1, HEADS, [f("N", "T", 8), f("N", 2, 5, 4), f("N", 2, 5, 4)]),
    (MS, "GroupQueryAttention", 17, 3, GROUPS, [
        f("N", "T", 64), f("N", "T", 32), f("N", "T", 32), f("N", 2, 0, 16), f("N", 2, 0, 16), *LENGTHS]),
    (MS, "GroupQueryAttention", 17, 3, GROUPS, [
        f("N", "T", 128), None, None, f("N", 2, 0, 16), f("N", 2, 0, 16), *LENGTHS]),
]  # fmt: skip


def test_every_foreign_rule_has_a_row():
    old = {("", op) for op in VERSION_1}
    assert {(row[0], row[1]) for row in ROWS} | old == set(FOREIGN)


@pytest.mark.parametrize("row", ROWS, ids=[f"{row[1]}-{index}" for index, row in enumerate(ROWS)])
def test_shapes_and_types_are_those_of_the_runtime(row, write):
    model = model_of(*row)
    view = graph(normalise(model))
    computed = run(model)
    assert view.shapes["o0"] is not None
    assert view.dtypes["o0"]
    for name, array in zip((value.name for value in model.graph.output), computed, strict=True):
        shape, kind = view.shapes.get(name), view.dtypes.get(name, 0)
        assert kind in (0, helper.np_dtype_to_tensor_dtype(array.dtype))
        if shape is None:
            continue
        assert len(shape) == array.ndim
        for size, true in zip(shape, array.shape, strict=True):
            assert size_of(size) in (None, true)
    assert not any(str(size).startswith("unk__") for size in view.shapes["o0"]), "all sizes follow"
    for value, array in zip(model.graph.output, computed, strict=True):
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        value.CopyFrom(helper.make_tensor_value_info(value.name, kind, [None] * array.ndim))
    load(write(model))


def model_of(domain, op, opset, outputs, attrs, inputs) -> onnx.ModelProto:
    names = [f"i{k}" if value is not None else "" for k, value in enumerate(inputs)]
    values, constants = [], []
    for name, value in zip(names, inputs, strict=True):
        if isinstance(value, np.ndarray):
            constants.append(onnx.numpy_helper.from_array(value, name))
        elif value is not None:
            shape, kind = value
            values.append(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(kind)), shape)
            )
    made = [f"o{k}" for k in range(outputs)]
    if op.startswith("Skip"):
        made[1] = made[2] = ""
    node = helper.make_node(op, names, made, domain=domain, **attrs)
    ends = [helper.make_value_info(name, onnx.TypeProto()) for name in made if name]
    newest = 3 if domain == ML and op != "LabelEncoder" else 1  # onnx describes later versions of it
    extra = [helper.make_opsetid(domain, newest)] if domain else []
    return helper.make_model(
        helper.make_graph([node], "g", values, ends, constants),
        opset_imports=[helper.make_opsetid("", opset), *extra],
        ir_version=8,
    )


def run(model: onnx.ModelProto) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.input:
        kind = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        shape = [dim.dim_value or size_of(dim.dim_param) or 0 for dim in value.type.tensor_type.shape.dim]
        draw = rng.random(shape) if np.dtype(kind).kind == "f" else rng.integers(0, 5, shape)
        feeds[value.name] = draw.astype(kind)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def size_of(size: Dim) -> int | None:
    if isinstance(size, int) or size is None:
        return size
    return {"N": N, "T": T}.get(size)


# Operator set 1 has no shape inference for these; their first output has the shape of their first input.
VERSION_1 = {
    "InstanceNormalization", "BatchNormalization", "Dropout", "PRelu", "Abs", "Ceil", "Clip", "Elu", "Exp",
    "Floor", "HardSigmoid", "LeakyRelu", "Log", "Neg", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sqrt",
    "Tanh", "Add", "Sub", "Mul", "Div",
}  # fmt: skip


@pytest.mark.parametrize("op", sorted(VERSION_1))
def test_the_oldest_versions_keep_the_shape_as_today(op):
    """The same node is inferred by onnx at a newer operator set, and by the rule at set 1."""
    count = {
        "InstanceNormalization": 3,
        "BatchNormalization": 5,
        "PRelu": 2,
        "Add": 2,
        "Sub": 2,
        "Mul": 2,
        "Div": 2,
    }
    inputs = ["x", "a", "b", "c", "d"][: count.get(op, 1)]
    node = helper.make_node(op, inputs, ["y"])
    values = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4, "T"])]
    values += [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4, 1] if op == "PRelu" else [4])
        for name in inputs[1:]
    ]
    if op in ("Add", "Sub", "Mul", "Div"):
        values[1] = helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [1])
    proto = helper.make_graph([node], "g", values, [helper.make_value_info("y", onnx.TypeProto())])
    for opset in (1, 17):
        model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)
        view = graph(model)
        assert (view.shapes["y"], view.dtypes["y"]) == (("N", 4, "T"), onnx.TensorProto.FLOAT)


def test_a_sum_with_a_tensor_of_unknown_rank_has_an_unknown_rank() -> None:
    """The rule of operator set 1 says nothing of later ones, which broadcast."""
    nodes = [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])]
    values = [
        helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 4]),
        helper.make_tensor_value_info("s", onnx.TensorProto.INT64, ["K"]),
    ]
    proto = helper.make_graph(nodes, "g", values, [helper.make_value_info("y", onnx.TypeProto())])
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert graph(model).shapes["y"] is None

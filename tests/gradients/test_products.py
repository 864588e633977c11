"""Sums of products that become one product, and those that must not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx.reference import ReferenceEvaluator

from onnx_oto.gradients.backends.ort_products import join_products

SETTINGS = "alpha=0.5, transA=1, transB=0, transBatchA=0, transBatchB=0"
SHAPES = dict.fromkeys("abcd", (2, 3, 4)) | dict.fromkeys("efgh", (2, 3, 5))


def summed(settings: list[str], more: str = "") -> onnx.ModelProto:
    products = " ".join(
        f"p{i} = com.microsoft.FusedMatMul<{setting}>({'abcd'[i]}, {'efgh'[i]}_grad)"
        for i, setting in enumerate(settings)
    )
    names = ", ".join(f"p{i}" for i in range(len(settings)))
    inputs = [f"float[2,3,4] {n}" for n in "abcd"] + [f"float[2,3,5] {n}_grad" for n in "efgh"]
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> g ({", ".join(inputs)}) => (float y) '
        f"{{ {products} {more} y = Sum({names}) }}"
    )


def plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with each FusedMatMul (A transposed, halved) in standard operators."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.initializer.append(onnx.numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    nodes = []
    for node in model.graph.node:
        if node.op_type == "FusedMatMul":
            (a, b), y = node.input, node.output[0]
            nodes.append(onnx.helper.make_node("Transpose", [a], [f"{y}.t"], perm=[0, 2, 1]))
            nodes.append(onnx.helper.make_node("MatMul", [f"{y}.t", b], [f"{y}.m"]))
            nodes.append(onnx.helper.make_node("Mul", [f"{y}.m", "half"], [y]))
        else:
            nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def test_one_product_computes_the_same() -> None:
    model = summed([SETTINGS] * 4)
    rng = np.random.default_rng(0)
    data = {
        value.name: rng.standard_normal(SHAPES[value.name.removesuffix("_grad")]).astype(np.float32)
        for value in model.graph.input
    }
    expected = ReferenceEvaluator(plain(model)).run(None, data)[0]
    join_products(model, SHAPES)
    assert [node.op_type for node in model.graph.node] == ["Concat", "Concat", "FusedMatMul"]
    np.testing.assert_allclose(
        ReferenceEvaluator(plain(model)).run(None, data)[0], expected, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("settings", "more", "shapes"),
    [
        ([SETTINGS] * 3, "", SHAPES),
        ([SETTINGS] * 3 + [SETTINGS.replace("0.5", "0.25")], "", SHAPES),
        ([SETTINGS.replace("transA=1", "transA=0")] * 4, "", SHAPES),
        ([SETTINGS.replace("transB=0", "transB=1")] * 4, "", SHAPES),
        ([SETTINGS.replace("transBatchA=0", "transBatchA=1")] * 4, "", SHAPES),
        ([SETTINGS] * 4, "z = Neg(p1)", SHAPES),
        ([SETTINGS] * 4, "", SHAPES | {"h": (1, 3, 5)}),
        ([SETTINGS] * 4, "", {}),
    ],
    ids=["few", "scales", "plain", "both", "batch", "read twice", "broadcast", "unknown"],
)
def test_other_sums_stay(settings: list[str], more: str, shapes: dict[str, tuple[int, ...]]) -> None:
    model = summed(settings, more)
    before = list(model.graph.node)
    join_products(model, shapes)
    assert list(model.graph.node) == before

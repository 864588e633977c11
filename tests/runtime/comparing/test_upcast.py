"""bfloat16 stays bfloat16, and is verified as float32 where the runtime has no kernels for it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.model import normalise
from onnx_oto.pipeline.proving import cut_and_verify
from onnx_oto.runtime.comparing import compare
from onnx_oto.runtime.comparing.upcast import upcast, uses_bfloat16
from onnx_oto.zigs import analyse, choose, score

NARROW = {TensorProto.BFLOAT16: ml_dtypes.bfloat16, TensorProto.FLOAT16: np.float16}
NETWORK = """g (float[N,3,6,6] x) => (float[N,4] y) {
  a = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(a) b = Conv(r, w2) s = Sigmoid(b) c = Conv(s, w3) q = Relu(c)
  p = GlobalAveragePool(q) f = Flatten(p) n = LayerNormalization<axis=-1>(f, g0, c0) y = MatMul(n, w4) }"""
CAST = """g (float[N,6] x) => (float[N,4] y) {
  a = Cast<to=1>(w1) b = Cast<to=1>(b1) h = MatMul(x, a) i = Add(h, b) r = Relu(i) c = Cast<to=1>(w2)
  y = MatMul(r, c) }"""
SHAPES = {
    NETWORK: {
        "w1": (8, 3, 3, 3), "b1": (8,), "w2": (6, 8, 1, 1), "w3": (10, 6, 1, 1), "g0": (10,), "c0": (10,),
        "w4": (10, 4),
    },
    CAST: {"w1": (6, 24), "b1": (24,), "w2": (24, 4)},
}  # fmt: skip


def build(text: str, kind: int) -> onnx.ModelProto:
    """Return the model with weights of type `kind`; inputs and outputs too, where nothing is cast."""
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["":22]>\n' + text)
    rng = np.random.default_rng(0)
    for name, shape in SHAPES[text].items():
        value = (rng.standard_normal(shape) * 0.5).astype(NARROW[kind])
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    if "Cast" not in text:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = kind
    return model


def stored(model: onnx.ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


@pytest.mark.parametrize("kind", NARROW)
@pytest.mark.parametrize("text", [NETWORK, CAST], ids=["everywhere", "behind casts"])
def test_a_narrow_model_is_cut_in_its_own_type_and_verified(text: str, kind: int) -> None:
    analysis = analyse(normalise(build(text, kind)))
    choice = choose(analysis, score(analysis, "random", 0), 0.5)
    assert choice.dropped > 0
    _, small, verdict = cut_and_verify(analysis, choice.drop)
    assert verdict.passed
    assert verdict.upcast == (kind == TensorProto.BFLOAT16 and text == NETWORK)
    assert {dtype for dtype in stored(small).values() if dtype != TensorProto.INT64} == {kind}


def test_an_upcast_model_that_differs_is_told() -> None:
    full = build(NETWORK, TensorProto.BFLOAT16)
    other = build(NETWORK, TensorProto.BFLOAT16)
    weight = next(tensor for tensor in other.graph.initializer if tensor.name == "w4")
    value = numpy_helper.to_array(weight).copy()
    value[0] = 0
    weight.CopyFrom(numpy_helper.from_array(value, "w4"))
    verdict = compare(full, other)
    assert verdict.upcast
    assert not verdict.passed


def test_upcast_reaches_bodies_and_casts() -> None:
    text = """g (bfloat16[N,4] x, bool c) => (bfloat16[N,4] y) { y = If (c)
      <then_branch = t () => (bfloat16[N,4] p) { q = Cast<to=1>(x) p = Cast<to=16>(q) },
       else_branch = e () => (bfloat16[N,4] r) { r = Relu(x) }> }"""
    model = onnx.parser.parse_model('<ir_version: 10, opset_import: ["":22]>\n' + text)
    assert uses_bfloat16(model)
    wide = upcast(model)
    assert not uses_bfloat16(wide)
    onnx.checker.check_model(wide, full_check=True)
    assert helper.tensor_dtype_to_np_dtype(wide.graph.output[0].type.tensor_type.elem_type) == np.float32

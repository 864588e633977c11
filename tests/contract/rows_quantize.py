"""Rows of models that are quantized already: weights, biases and activations behind a DequantizeLinear."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper

from .builder import build
from .rows import PRUNABLE, Row

_TYPES = {"int8": (-120, 120), "uint8": (10, 245), "int32": (-900, 900), "int16": (-9000, 9000)}


def coded(text: str, *, opset: int = 17) -> ModelProto:
    """Return a model whose declared integers are random codes; `s...` are scales, `z...` zero points."""
    model = build(text, opset=opset)
    rng = np.random.default_rng(1)
    for tensor in model.graph.initializer:
        kind = TensorProto.DataType.Name(tensor.data_type).lower()
        dims = tuple(tensor.dims)
        if tensor.name.startswith("s"):
            value = rng.uniform(0.004, 0.02, dims).astype(np.float32)
        elif tensor.name.startswith("z"):
            middle = 128 if kind == "uint8" else 0
            value = (middle + rng.integers(-9, 9, dims)).astype(kind)
        elif kind in _TYPES:
            value = rng.integers(*_TYPES[kind], dims).astype(kind)
        else:
            continue
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(value), tensor.name))
    return model


def pair(name: str, made: str) -> str:
    """Return nodes that quantize and dequantize the tensor `name`: `made`."""
    scale = f"s_{made}, z_{made}"
    return f"q_{made} = QuantizeLinear({name}, {scale}) {made} = DequantizeLinear(q_{made}, {scale})"


def scales(*names: str, kind: str = "uint8") -> str:
    """Return declarations of what `pair` reads."""
    return ", ".join(f"float s_{name}, {kind} z_{name}" for name in names)


def convolutions(
    title: str,
    expect: str = PRUNABLE,
    *,
    op: str = "DequantizeLinear",
    weights: str = "int8",
    activations: str = "uint8",
    first: str = "w1 = DequantizeLinear<axis=0>(c1, s1, z1)",
    declared: str = "float[6] s1, int8[6] z1",
    bias: str = "b1 = DequantizeLinear<axis=0>(d1, sb)",
    probe: str = "c1",
    size: int | None = 6,
    opset: int = 17,
) -> Row:
    """Return a row of two convolutions in the form that quantizers write, a Relu and an Add between them."""
    text = f"""g (float[N,3,6,6] x) => (float[N,5,6,6] y)
    <{weights}[6,3,3,3] c1, {weights}[6,6,1,1] c3, int32[6] d1, float[6] sb, {weights}[5,6,1,1] c2, {declared},
     float s2, {weights} z2, float s3, {weights} z3,
     {scales("a", "h", "r", "e", kind=activations)}>
    {{ {pair("x", "a")} {first} {bias}
       g = Conv<pads=[1,1,1,1]>(a, w1, b1) f = Relu(g) {pair("f", "h")}
       w3 = DequantizeLinear(c3, s3, z3) t = Conv(h, w3) {pair("t", "r")}
       k = Add(r, h) {pair("k", "e")}
       w2 = DequantizeLinear(c2, s2, z2) y = Conv(e, w2) }}"""
    return Row(op, title, expect, lambda: coded(text, opset=opset), probe, 0, size)


TENSOR = {"first": "w1 = DequantizeLinear(c1, s1, z1)", "declared": "float s1, int8 z1"}
ROWS: list[Row] = [
    convolutions("a scale for each channel"),
    convolutions("one scale, a zero point that is not 0", **TENSOR),
    convolutions(
        "unsigned weights",
        weights="uint8",
        first="w1 = DequantizeLinear<axis=0>(c1, s1, z1)",
        declared="float[6] s1, uint8[6] z1",
    ),
    convolutions(
        "without a zero point", first="w1 = DequantizeLinear<axis=0>(c1, s1)", declared="float[6] s1"
    ),
    convolutions("signed activations", op="QuantizeLinear", activations="int8"),
    convolutions(
        "16 bits",
        op="QuantizeLinear",
        weights="int16",
        activations="uint16",
        opset=21,
        declared="float[6] s1, int16[6] z1",
    ),
    convolutions(
        "a scale for each input channel",
        first="w1 = DequantizeLinear<axis=1>(c1, s1, z1)",
        declared="float[3] s1, int8[3] z1",
    ),
    convolutions(
        "the bias in float", first=TENSOR["first"], declared="float s1, int8 z1, float[6] b1", bias=""
    ),
    convolutions(
        "a weight that is quantized when the model runs",
        op="QuantizeLinear",
        first="v1 = QuantizeLinear<axis=0>(p1, s1, z1) w1 = DequantizeLinear<axis=0>(v1, s1, z1)",
        declared="float[6] s1, int8[6] z1, float[6,3,3,3] p1",
        probe="v1",
    ),
    Row(
        "QuantizeLinear",
        "activations with a scale for each channel",
        PRUNABLE,
        lambda: coded(
            """g (float[N,3,6,6] x) => (float[N,5,6,6] y)
            <float[6,3,1,1] w1, float[6] s1, int8[6] z1, float[5,6,1,1] w2>
            { h = Conv(x, w1) q = QuantizeLinear<axis=1>(h, s1, z1) d = DequantizeLinear<axis=1>(q, s1, z1)
              y = Conv(d, w2) }"""
        ),
        size=6,
    ),
    Row(
        "DequantizeLinear",
        "of a MatMul, a scale for each column",
        PRUNABLE,
        lambda: coded(
            """g (float[N,7] x) => (float[N,4] y) <int8[7,6] c1, float[6] s1, int8[6] z1, int8[6,4] c2, float s2>
            { w1 = DequantizeLinear<axis=1>(c1, s1, z1) h = MatMul(x, w1) r = Relu(h)
              w2 = DequantizeLinear(c2, s2) y = MatMul(r, w2) }"""
        ),
        probe="c1",
        axis=1,
        size=6,
    ),
    Row(
        "DequantizeLinear",
        "depthwise and grouped",
        PRUNABLE,
        lambda: coded(
            """g (float[N,3,6,6] x) => (float[N,5,4,4] y)
            <int8[6,3,1,1] c1, float[6] s1, int8[6,1,3,3] c3, float[6] s3, int8[5,6,1,1] c2, float[5] s2>
            { w1 = DequantizeLinear<axis=0>(c1, s1) h = Conv(x, w1) r = Relu(h)
              w3 = DequantizeLinear<axis=0>(c3, s3) d = Conv<group=6>(r, w3)
              w2 = DequantizeLinear<axis=0>(c2, s2) y = Conv(d, w2) }"""
        ),
        probe="c1",
        size=6,
    ),
    Row(
        "Cast",
        "of bytes that a weight is stored as, scaled for each channel",
        PRUNABLE,
        lambda: coded(
            """g (float[N,3,6,6] x) => (float[N,5,6,6] y)
            <int8[6,3,3,3] c1, float[6,1,1,1] s1, float[6] b1, int8[5,6,1,1] c2, float[5,1,1,1] s2>
            { f1 = Cast<to=1>(c1) w1 = Mul(f1, s1) h = Conv<pads=[1,1,1,1]>(x, w1, b1) r = Relu(h)
              f2 = Cast<to=1>(c2) w2 = Mul(s2, f2) y = Conv(r, w2) }"""
        ),
        probe="c1",
        size=6,
    ),
    Row(
        "Cast",
        "of bytes, of a table and a MatMul",
        PRUNABLE,
        lambda: coded(
            """g (int64[N,T] x) => (float[N,T,4] y) <int8[9,8] c1, float[9,1] s1, float[8] b1, int8[8,4] c2, float s2>
            { f1 = Cast<to=1>(c1) w1 = Mul(f1, s1) g = Gather(w1, x) h = Add(g, b1)
              f2 = Cast<to=1>(c2) w2 = Mul(f2, s2) y = MatMul(h, w2) }"""
        ),
        probe="c1",
        axis=1,
        size=8,
    ),
    Row(
        "Cast",
        "of bytes with a zero point subtracted",
        PRUNABLE,
        lambda: coded(
            """g (float[N,7] x) => (float[N,4] y) <uint8[7,6] c1, float v = {130.0}, float s1, float[6,4] w2>
            { f = Cast<to=1>(c1) d = Sub(f, v) w1 = Mul(d, s1) h = MatMul(x, w1) y = MatMul(h, w2) }"""
        ),
        probe="c1",
        axis=1,
        size=6,
    ),
    # --- what is refused --------------------------------------------------------------------------------------
    Row(
        "Cast",
        "of bytes with several zero points subtracted",
        "not zero",
        lambda: coded(
            """g (float[N,7] x) => (float[N,4] y)
            <int8[7,6] c1, float[7,1] v = {3.0,1.0,2.0,3.0,4.0,5.0,6.0}, float s1, float[6,4] w2>
            { f = Cast<to=1>(c1) d = Sub(f, v) w1 = Mul(d, s1) h = MatMul(x, w1) k = Exp(h) y = MatMul(k, w2) }"""
        ),
        probe="c1",
        axis=1,
    ),
    *(
        Row(
            "Cast",
            f"of bytes with {point} subtracted, which is none of their type",
            "not zero",
            lambda kind=kind, point=point: coded(
                f"""g (float[N,7] x) => (float[N,4] y) <{kind}[7,6] c1, float v = {{{point}}}, float s1, float[6,4] w2>
                {{ f = Cast<to=1>(c1) d = Sub(f, v) w1 = Mul(d, s1) h = MatMul(x, w1) y = MatMul(h, w2) }}"""
            ),
            probe="c1",
            axis=1,
        )
        for kind, point in (("int8", "130.0"), ("uint8", "-3.0"), ("uint8", "1e30"))
    ),
    convolutions(
        "a scale that is computed",
        "a scale or zero point that is computed",
        first="m = ReduceMax<keepdims=0>(x) u = Abs(m) w1 = DequantizeLinear(c1, u, z1)",
        declared="int8 z1",
        size=None,
    ),
    Row(
        "DequantizeLinear",
        "two zero points",
        "another zero point",
        lambda: coded(
            """g (float[N,7] x) => (float[N,4] y) <int8[7,6] c1, float s1, int8 u = {3}, int8 v4 = {-4}, float[6,4] w2>
            { v = DequantizeLinear(c1, s1, u) w = DequantizeLinear(c1, s1, v4) h = MatMul(x, v) k = MatMul(x, w)
              e = Add(h, k) y = MatMul(e, w2) }"""
        ),
        probe="c1",
        axis=1,
    ),
    Row(
        "DequantizeLinear",
        "a scale that is 0",
        "no positive number",
        lambda: coded(
            """g (float[N,7] x) => (float[N,4] y) <int8[7,6] c1, float u = {0.0}, float[6,4] w2>
            { v = DequantizeLinear(c1, u) h = MatMul(x, v) y = MatMul(h, w2) }"""
        ),
        probe="c1",
        axis=1,
    ),
    Row(
        "DequantizeLinear",
        "a constant behind a zero",
        "not zero",
        lambda: coded(
            f"""g (float[N,3,6,6] x) => (float[N,5,6,6] y)
            <float[6,3,1,1] w1, int8[5,6,1,1] c2, float s2, {scales("e")}>
            {{ h = Conv(x, w1) f = Sigmoid(h) {pair("f", "e")}
               w2 = DequantizeLinear(c2, s2) y = Conv(e, w2) }}"""
        ),
    ),
    Row(
        "DequantizeLinear",
        "in blocks of an axis",
        "a scale for every block",
        lambda: coded(
            """g (float[N,8] x) => (float[N,4] y) <float[8,8] w1, int8[8,4] c2, float[2,4] s2>
            { h = MatMul(x, w1) w2 = DequantizeLinear<axis=0, block_size=4>(c2, s2) y = MatMul(h, w2) }""",
            opset=21,
        ),
        axis=1,
    ),
]

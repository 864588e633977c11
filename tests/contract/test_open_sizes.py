"""Sizes that come out of arithmetic on Shape are right at every size of every open axis, wherever -1 stands."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from onnx_oto.model import normalise
from onnx_oto.zigs import analyse, choose, score

from .builder import build
from .exactness import assert_prunable, check, check_drop, outputs

SIZES = ({"B": 2, "L": 6, "H": 4}, {"B": 1, "L": 9, "H": 7}, {"B": 3, "L": 5, "H": 1})
INTEGERS = (
    "int64[1] four = {4}, int64[1] two = {2}, int64[1] eight = {8}, int64[1] m1 = {-1}, int64[1] one = {1}"
)
SHAPE = "B = Shape<start=0,end=1>(x) L = Shape<start=2,end=3>(x) B4 = Mul(B, four)"


def sequence(body: str, params: str = "", *, opset: int = 17) -> str:
    """Return x [B,3,L] -> Conv w1 -> h [B,4,L] -> `body` -> z [B,4,..] -> Conv w2 -> y."""
    return f"""g (float[B,3,L] x) => (float[B,5,P] y)
        <float[4,3,1] w1, float[5,4,1] w2, {INTEGERS}{params}>
        {{ h = Conv(x, w1) {SHAPE} {body} y = Conv(z, w2) }}"""


# title: text, probe, size of the dimension.
ROWS: dict[str, tuple[str, str, int]] = {
    "batch times channels, second size inferred": (
        sequence(
            "s1 = Concat<axis=0>(B4, m1) f = Reshape(h, s1) r = Relu(f)"
            " s2 = Concat<axis=0>(B, four, m1) z = Reshape(r, s2)"
        ),
        "w1",
        4,
    ),
    "batch times channels, first size inferred": (
        sequence(
            "s1 = Concat<axis=0>(m1, L) f = Reshape(h, s1) r = Relu(f)"
            " s2 = Concat<axis=0>(B, four, L) z = Reshape(r, s2)"
        ),
        "w1",
        4,
    ),
    "batch times channels, both sizes computed": (
        sequence(
            "s1 = Concat<axis=0>(B4, L) f = Reshape(h, s1) r = Tanh(f)"
            " s2 = Concat<axis=0>(m1, four, L) z = Reshape(r, s2)"
        ),
        "w1",
        4,
    ),
    "batch read from the merged axis": (
        sequence(
            "s1 = Concat<axis=0>(m1, L) f = Reshape(h, s1) r = Relu(f) n = Shape<start=0,end=1>(r)"
            " b = Div(n, four) s2 = Concat<axis=0>(b, four, m1) z = Reshape(r, s2)"
        ),
        "w1",
        4,
    ),
    "length from the number of elements": (
        sequence(
            "s1 = Concat<axis=0>(B4, m1) f = Reshape(h, s1) r = Relu(f) n = Size(r) l0 = Div(n, B4)"
            " s2 = Concat<axis=0>(B, four, l0) z = Reshape(r, s2)"
        ),
        "w1",
        4,
    ),
    "channels times length, computed as a product": (
        sequence(
            "c = Shape<start=1>(h) n = ReduceProd<keepdims=1>(c) s1 = Concat<axis=0>(B, n) f = Reshape(h, s1)"
            " r = Relu(f) s2 = Concat<axis=0>(B, four, L) z = Reshape(r, s2)"
        ),
        "w1",
        4,
    ),
    "channels behind the length": (
        sequence(
            "t = Transpose<perm=[0,2,1]>(h) l4 = Mul(L, four) s1 = Concat<axis=0>(B, l4) f = Reshape(t, s1)"
            " r = Relu(f) s2 = Concat<axis=0>(B, L, four) g = Reshape(r, s2) z = Transpose<perm=[0,2,1]>(g)"
        ),
        "w1",
        4,
    ),
    "a size that is only known as rounded": (
        sequence(
            "p = MaxPool<kernel_shape=[2],strides=[2],pads=[1,0]>(h) one1 = Add(L, one) half = Div(one1, two)"
            " h4 = Mul(half, four) s1 = Concat<axis=0>(B, h4) f = Reshape(p, s1) r = Relu(f)"
            " s2 = Concat<axis=0>(B, four, m1) z = Reshape(r, s2)"
        ),
        "w1",
        4,
    ),
    "expanded in a merged axis": (
        sequence(
            "m = ReduceMean<axes=[1],keepdims=1>(h) s0 = Concat<axis=0>(B, four, L) e = Expand(m, s0)"
            " s1 = Concat<axis=0>(B4, L) f = Reshape(e, s1) q = Reshape(h, s1) p = Mul(f, q)"
            " s2 = Concat<axis=0>(B, four, m1) z = Reshape(p, s2)"
        ),
        "w1",
        4,
    ),
    "filled in a merged axis": (
        sequence(
            "s1 = Concat<axis=0>(B4, L) f = Reshape(h, s1) k = ConstantOfShape(s1) r = Max(f, k)"
            " s2 = Concat<axis=0>(B, four, m1) z = Reshape(r, s2)"
        ),
        "w1",
        4,
    ),
    "a target that may be inferred, as far as anybody knows": (
        f"""g (float[B,3,L] x, int64[1] n) => (float[B,5,P] y)
        <float[4,3,1] w1, float[5,4,1] w2, {INTEGERS}>
        {{ h = Conv(x, w1) {SHAPE} s1 = Concat<axis=0>(B4, n) f = Reshape(h, s1) r = Relu(f)
           s2 = Concat<axis=0>(B, four, L) z = Reshape(r, s2) y = Conv(z, w2) }}""",
        "w1",
        4,
    ),
    "heads folded into the batch": (
        f"""g (float[L,B,6] x) => (float[L,B,5] y) <float[6,16] wq, float[6,16] wk, float[6,16] wv,
        float[16,5] wo, {INTEGERS}, int64[1] width = {{16}}>
        {{ L = Shape<start=0,end=1>(x) B = Shape<start=1,end=2>(x) BH = Mul(B, four)
           s = Concat<axis=0>(L, BH, four) q0 = MatMul(x, wq) q1 = Reshape(q0, s)
           q = Transpose<perm=[1,0,2]>(q1) k0 = MatMul(x, wk) k1 = Reshape(k0, s)
           k = Transpose<perm=[1,2,0]>(k1) v0 = MatMul(x, wv) v1 = Reshape(v0, s)
           v = Transpose<perm=[1,0,2]>(v1) a = MatMul(q, k) p = Softmax<axis=-1>(a) o = MatMul(p, v)
           t = Transpose<perm=[1,0,2]>(o) so = Concat<axis=0>(L, B, width) f = Reshape(t, so)
           y = MatMul(f, wo) }}""",
        "wv",
        4,
    ),
    "a filter per channel, channels folded into the batch": (
        f"""g (float[B,3,H,L] x) => (float[B,5,P,Q] y) <float[8,3,3,3] w1, float[1,1,3,3] blur,
        float[5,8,1,1] w2, {INTEGERS}>
        {{ h = Conv<pads=[1,1,1,1]>(x, w1) B = Shape<start=0,end=1>(h) C = Shape<start=1,end=2>(h)
           hw = Shape<start=2>(h) BC = Mul(B, C) s1 = Concat<axis=0>(BC, one, hw) f = Reshape(h, s1)
           b = Conv<pads=[1,1,1,1],strides=[2,2]>(f, blur) hw2 = Shape<start=2>(b)
           s2 = Concat<axis=0>(B, C, hw2) z = Reshape(b, s2) y = Conv(z, w2) }}""",
        "w1",
        8,
    ),
}


def feed(model: ModelProto, sizes: dict[str, int]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    result = {}
    for value in model.graph.input:
        shape = [d.dim_value or sizes[d.dim_param] for d in value.type.tensor_type.shape.dim]
        result[value.name] = rng.standard_normal(shape).astype(np.float32)
    return result


@pytest.mark.parametrize("title", ROWS)
def test_exact_at_every_size(title: str) -> None:
    text, probe, size = ROWS[title]
    model = build(text)
    analysis = analyse(normalise(model))
    assert_prunable(analysis, probe, 0 if probe == "w1" else 1, size=size)
    drop = choose(analysis, score(analysis, "random", 1), 0.5).drop
    assert drop.any()
    for sizes in SIZES:
        given = feed(model, sizes)
        if "n" in given:
            given["n"] = np.array([-1 if sizes["B"] > 1 else sizes["L"]])
        assert check_drop(analysis, drop, given, outputs(model, given), f"{title} at {sizes}")


@pytest.mark.parametrize("op", ["LpNormalization", "ReduceMean", "ReduceL2", "ReduceMax"])
def test_what_looks_along_an_axis_of_open_size_with_channels_in_it(op: str) -> None:
    """Samples and channels are one axis [L, B*4] that is normalised or reduced: exact at every size, or frozen."""
    norm = f"m = {op}<axes=[1],keepdims=1>(f) n = Mul(f, m)"
    if op == "LpNormalization":
        norm = "n = LpNormalization<axis=1>(f)"
    text = f"""g (float[B,3,L] x) => (float[B,5,P] y) <float[4,3,1] w1, float[5,4,1] w2, {INTEGERS}>
        {{ h = Conv(x, w1) {SHAPE} t = Transpose<perm=[2,0,1]>(h) s1 = Concat<axis=0>(L, B4) f = Reshape(t, s1)
           {norm} s2 = Concat<axis=0>(L, B, four) g = Reshape(n, s2) z = Transpose<perm=[1,2,0]>(g)
           y = Conv(z, w2) }}"""
    model = build(text)
    analysis = analyse(normalise(model))
    drop = choose(analysis, score(analysis, "random", 1), 0.5).drop
    for sizes in SIZES:
        given = feed(model, sizes)
        check_drop(analysis, drop, given, outputs(model, given), f"{op} at {sizes}")


def test_labels_that_meet_a_size_nobody_knows_are_frozen() -> None:
    text = f"""g (float[B,3,L] x, int64[1] n) => (float[P,5,Q] y)
        <float[4,3,1] w1, float[5,4,1] w2, {INTEGERS}>
        {{ h = Conv(x, w1) s1 = Concat<axis=0>(n, m1) f = Reshape(h, s1) r = Relu(f)
           s2 = Concat<axis=0>(m1, four, n) z = Reshape(r, s2) y = Conv(z, w2) }}"""
    analysis = analyse(normalise(build(text)))
    assert not any(d.prunable for d in analysis.dimensions)


def test_removed_positions_that_hold_a_number_computed_from_a_size() -> None:
    """A mean over them: the number has no axis to take it over."""
    text = """g (float[B,L,3] x) => (float[B,L,5] y) <float[3,4] w1, float[4,5] w2, float[4] w3>
    { h = MatMul(x, w1) k = Sigmoid(h) s = Shape<start=1,end=2>(x) f = Cast<to=1>(s) d = Div(k, f)
      m = ReduceMean<axes=[-1]>(d) z = Sub(d, m) q = Mul(z, w3) y = MatMul(q, w2) }"""
    check(build(text))


EMPTY = {
    "an axis sliced to nothing, then joined and reshaped": """g (float[2,3,6] x) => (float[2,2,2,6] y, float[2,4,6] z)
        <float[4,3,1] w1, int64[4] split = {0,2,2,-1}, int64[3] whole = {0,4,-1}, int64[1] two = {2},
        int64[1] nine = {9}>
        { h = Conv(x, w1) g = Reshape(h, split) e = Slice(g, two, nine, two) y = Concat<axis=2>(e, g)
          z = Reshape(y, whole) }""",
    "no samples, channels merged with them": """g (float[2,6,3] x) => (float[3,6,5] y)
        <float[3,4] w1, float[4,5] w2, int64[1] two = {2}, int64[1] nine = {9}, int64[1] zero = {0},
        int64[2] flat = {-1,24}, int64[3] back = {3,6,4}, int64[4] pads = {3,0,0,0}>
        { h = MatMul(x, w1) e = Slice(h, two, nine, zero) f = Reshape(e, flat) p = Pad(f, pads)
          b = Reshape(p, back) y = MatMul(b, w2) }""",
}


@pytest.mark.parametrize("title", EMPTY)
def test_tensors_without_elements(title: str) -> None:
    check(build(EMPTY[title]), must_matter=False)

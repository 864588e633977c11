"""Which nodes can be fitted anew, where a constant is added behind them, and which are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_oto.model import normalise
from onnx_oto.refit import Reader, readers
from onnx_oto.zigs import analyse
from tests.contract.builder import build

DENSE = "g (float[N,5] x) => (y) <float[5,6] w0, {}> {{ a = MatMul(x, w0) r = Relu(a) {} }}"
IMAGE = "g (float[N,2,6,6] x) => (y) <float[6,2,1,1] w0, {}> {{ a = Conv(x, w0) r = Relu(a) {} }}"


def found(text: str, *, opset: int = 17) -> dict[str, Reader]:
    """Return the readers of a model by the names of their weights."""
    return {each.weight: each for each in readers(analyse(normalise(build(text, opset=opset))))}


@pytest.mark.parametrize(
    ("text", "name", "factor"),
    [
        (IMAGE.format("float[4,6,3,3] w, float[4] b", "y = Conv(r, w, b)"), "b", 1.0),
        (
            IMAGE.format(
                "float[4,6,3,3] w, float[4] s, float[4] t, float[4] m, float[4] var",
                "c = Conv(r, w) y = BatchNormalization(c, s, t, m, var)",
            ),
            "m",
            -1.0,
        ),
        (IMAGE.format("float[4,6,3,3] w, float[1,4,1,1] b", "c = Conv(r, w) y = Add(c, b)"), "b", 1.0),
        (IMAGE.format("float[4,6,3,3] w, float[4,1,1] b", "c = Conv(r, w) y = Add(b, c)"), "b", 1.0),
        (DENSE.format("float[6,4] w, float[4] b", "y = Gemm(r, w, b)"), "b", 1.0),
        (DENSE.format("float[4,6] w, float[1,4] b", "y = Gemm<transB=1,alpha=0.5,beta=3.0>(r, w, b)"), "b", 6.0),
        (DENSE.format("float[6,4] w, float[4] b", "c = Gemm<alpha=0.5>(r, w) y = Add(c, b)"), "b", 2.0),
        (
            DENSE.format(
                "float[6,4] w, float[4] s, float[4] t, float[4] m, float[4] var",
                "c = Gemm<alpha=0.5>(r, w) y = BatchNormalization(c, s, t, m, var)",
            ),
            "m",
            -2.0,
        ),
        (DENSE.format("float[6,4] w, float[4] b", "c = MatMul(r, w) y = Add(b, c)"), "b", 1.0),
    ],
)  # fmt: skip
def test_where_a_constant_is_added(text: str, name: str, factor: float) -> None:
    bias = found(text)["w"].bias
    assert bias is not None
    assert (bias.name, bias.factor) == (name, pytest.approx(factor))


@pytest.mark.parametrize(
    "text",
    [
        IMAGE.format("float[4,6,3,3] w", "y = Conv(r, w)"),
        IMAGE.format("float[4,6,3,3] w, float[4] b", "c = Conv(r, w) y = Add(c, b)"),  # along the width
        IMAGE.format("float[4,6,3,3] w, float[1] b", "c = Conv(r, w) y = Add(c, b)"),
        DENSE.format("float[6,4] w, float[4] b", "y = Gemm<beta=0.0>(r, w, b)"),
        DENSE.format("float[6,4] w, float[1] b", "y = Gemm(r, w, b)"),
        DENSE.format("float[6,4] w, float[4] b", "c = MatMul(r, w) d = Add(c, b) e = Neg(c) y = Add(d, e)"),
    ],
)
def test_where_none_is(text: str) -> None:
    assert found(text)["w"].bias is None


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("transA", DENSE.format("float[6,4] w", "t = Transpose(r) y = Gemm<transA=1>(t, w)")),
        ("alpha 0", DENSE.format("float[6,4] w", "y = Gemm<alpha=0.0>(r, w)")),
        ("stacked", DENSE.format("float[2,6,4] w", "y = MatMul(r, w)")),
    ],
)  # fmt: skip
def test_what_is_no_reader(what: str, text: str) -> None:
    assert "w" not in found(text), what


def test_a_weight_that_is_an_output_or_is_read_in_a_body() -> None:
    text = DENSE.format("float[6,4] w", "y = MatMul(r, w) z = Identity(w)").replace("=> (y)", "=> (y, z)")
    assert "w" not in found(text)
    loop = """g (float[N,5] x) => (y) <float[5,6] w0, float[6,4] w> {
      a = MatMul(x, w0) r = Relu(a) c = MatMul(r, w)
      n = Constant<value_int=2>() cond = Constant<value=bool {1}>()
      y = Loop<body = b (int64 i, bool go, float[N,4] s) => (bool on, float[N,4] t)
        { on = Identity(go) k = MatMul(r, w) t = Add(s, k) }>(n, cond, c)
    }"""
    assert "w" not in found(loop)


def test_the_input_and_what_is_frozen_lose_no_channel() -> None:
    """w0 reads the input; v reads what makes the output, whose channels stay."""
    text = DENSE.format("float[6,6] w, float[6,3] v", "c = MatMul(r, w) z = MatMul(c, v)").replace(
        "=> (y)", "=> (c, z)"
    )
    assert set(found(text)) == {"w"}


def test_features_of_a_grouped_convolution_have_their_lanes() -> None:
    text = IMAGE.format("float[4,3,1,2] w, float[2,4,1,1] v", "c = Conv<group=2>(r, w) y = Conv(c, v)")
    analysis = analyse(normalise(build(text)))
    (reader,) = [each for each in readers(analysis) if each.weight == "w"]
    assert (reader.groups, reader.features) == (2, 6)
    lanes = analysis.lanes.of_label[analysis.trace.labels_of("w0", 0)]
    np.testing.assert_array_equal(reader.lanes, np.repeat(lanes.reshape(2, 3), 2, 1))


def test_a_depthwise_convolution_is_no_reader() -> None:
    """Its one feature goes with its output: nothing is left that could make up for it."""
    text = IMAGE.format("float[6,1,3,3] w, float[2,6,1,1] v", "c = Conv<group=6>(r, w) y = Conv(c, v)")
    assert set(found(text)) == {"v"}


def test_a_weight_survives_being_a_matrix() -> None:
    for text in (
        IMAGE.format("float[4,3,2,3] w", "y = Conv<group=2>(r, w)"),
        DENSE.format("float[6,4] w", "y = MatMul(r, w)"),
        DENSE.format("float[4,6] w", "y = Gemm<transB=1>(r, w)"),
    ):
        reader = found(text)["w"]
        shape = {"Conv": (4, 3, 2, 3), "MatMul": (6, 4), "Gemm": (4, 6)}[reader.node.op]
        weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        np.testing.assert_array_equal(reader.as_weight(reader.matrix(weight), weight), weight)

"""Weight decay is for weights: what is a vector in its role is spared, whatever its shape and name."""

from __future__ import annotations

import pytest

from onnx_oto.zigs.decay import undecayed

from .models import analysis_of

CASES = {
    "conv, its bias and a batch norm": (
        """g (float[N,3,6,6] x) => (float[N,4,6,6] y)
        <float[4,3,1,1] w, float[4] b, float[4] scale, float[4] shift, float[4] mean, float[4] var>
        { a = Conv(x, w, b) y = BatchNormalization(a, scale, shift, mean, var) }""",
        {"b", "scale", "shift"},
    ),
    "a weight of one output, one input, or neither": (
        """g (float[N,5] x) => (float[N,1] y) <float[5,1] w0, float[1,6] w1, float[6,1] w2>
        { a = MatMul(x, w0) b = MatMul(a, w1) c = Relu(b) y = MatMul(c, w2) }""",
        set(),
    ),
    "depthwise and one-channel convolutions": (
        """g (float[N,4,6,6] x) => (float[N,1,6,6] y) <float[4,1,3,3] w0, float[1,4,1,1] w1, float[1,1,1,1] w2>
        { a = Conv<group=4,pads=[1,1,1,1]>(x, w0) b = Conv(a, w1) y = Conv(b, w2) }""",
        set(),
    ),
    "a bias and a layer scale as elementwise operands": (
        """g (float[N,3,6,6] x) => (float[N,4,6,6] y) <float[4,3,1,1] w, float[4,1,1] b, float[1,4,1,1] gamma>
        { a = Conv(x, w) c = Add(a, b) y = Mul(c, gamma) }""",
        {"b", "gamma"},
    ),
    "a slope per channel and a slope for all": (
        """g (float[N,3,6,6] x) => (float[N,4,6,6] y) <float[4,3,1,1] w, float[4,1,1] p, float[1] q>
        { a = Conv(x, w) b = PRelu(a, p) y = PRelu(b, q) }""",
        {"p", "q"},
    ),
    "embedding, positions and a layer norm": (
        """g (int64[N,7] ids) => (float[N,7,3] y)
        <float[9,4] table, float[1,7,4] positions, float[4] scale, float[4] shift, float[4,3] w>
        { a = Gather(table, ids) b = Add(a, positions) c = LayerNormalization<axis=-1>(b, scale, shift)
          y = MatMul(c, w) }""",
        {"scale", "shift"},
    ),
    "a gemm with a bias that is stored as a row": (
        "g (float[N,5] x) => (float[N,3] y) <float[5,3] w, float[1,3] b> { y = Gemm(x, w, b) }",
        {"b"},
    ),
    "weights that are turned before they are read": (
        """g (float[N,5] x) => (float[N,1] y) <float[1,5] w0, float[1,1] w1>
        { t = Transpose<perm=[1,0]>(w0) a = MatMul(x, t) y = Gemm<transB=1>(a, w1) }""",
        set(),
    ),
    "a recurrent layer in both directions": (
        """g (float[7,N,5] x) => (float[7,2,N,4] y) <float[2,16,5] w, float[2,16,4] r, float[2,32] b>
        { y = LSTM<hidden_size=4, direction="bidirectional">(x, w, r, b) }""",
        {"b"},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_spared(name: str) -> None:
    text, expected = CASES[name]
    analysis = analysis_of(text)
    floats = {n for n, t in analysis.graph.initializers.items() if t.data_type == 1}
    assert (undecayed(analysis) & floats) - analysis.statistics == expected

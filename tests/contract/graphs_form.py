"""Small graphs about the form of a model: bodies, foreign operators, spellings of weights, operator sets."""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from .builder import build, in_half_precision, initializers_as_inputs, weights_as_constants
from .graphs import ANY, Expect, Graph, bn, bn_params, graph
from .graphs_vision import HEAD, RESIDUAL, head

PLAIN = f"""g (float[N,3,8,8] x) => (float[N,4] y)
<float[6,3,3,3] w0, float[6] b0, {bn_params("n", 6)}, float[5,6,1,1] w1, {head(5)}>
{{ c = Conv<pads=[1,1,1,1]>(x, w0, b0) {bn("c", "b", "n")} r = Relu(b)
   k = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) z = Conv(k, w1) {HEAD} }}"""

BASE = (Expect("w0", 8), Expect("w1", 6))


def _residual(change: Callable[[ModelProto], ModelProto]) -> Callable[[], ModelProto]:
    return lambda: change(build(RESIDUAL))


GRAPHS: list[Graph] = [
    Graph("initializers are graph inputs too", _residual(initializers_as_inputs), BASE),
    Graph("weights are Constant nodes", _residual(weights_as_constants), BASE),
    Graph("float16", _residual(in_half_precision), BASE),
    *(
        graph(f"opset {opset}", PLAIN, Expect("w0", 6), Expect("w1", 5), opset=opset)
        for opset in (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)
    ),
    graph(
        "opset 6, broadcast by attribute",
        """g (float[2,3,8,8] x) => (float[2,5,6,6] y) <float[6,3,3,3] w0, float[6] b0, float[5,6,1,1] w1>
        { c = Conv(x, w0) r = Add<broadcast=1,axis=1>(c, b0) y = Conv(r, w1) }""",
        Expect("w0", ANY),
        opset=6,
    ),
    graph(
        "branch that reads a weight and an activation",
        f"""g (float[N,3,8,8] x, bool c) => (float[N,4] y)
        <float[6,3,3,3] w0, float[5,6,3,3] w1, float[5] bi, float[7,5,1,1] w2, {head(7)}>
        {{ a = Conv(x, w0) r = Relu(a) d = Conv(r, w1)
           i = If (c) <then_branch = t () => (float[N,5,4,4] o1) {{ q = Unsqueeze(bi, ax) o1 = Add(d, q) }},
                       else_branch = e () => (float[N,5,4,4] o2) {{ o2 = Relu(d) }}>
           z = Conv(i, w2) {HEAD} }}""".replace("float[5] bi", "float[5] bi, int64[2] ax = {1,2}"),
        Expect("w0", 6),
        Expect("w1", 5),
        Expect("w2", 7),
    ),
    graph(
        "foreign operator in the middle",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[6,3,3,3] w0, float[5,6,3,3] w1, float[7,5,1,1] w2, {head(7)}>
        {{ a = Conv(x, w0) r = Relu(a) d = Conv(r, w1) o = com.microsoft.BiasGelu(d, bg) z = Conv(o, w2)
           {HEAD} }}""".replace("float[7,5,1,1] w2", "float[4] bg, float[7,5,1,1] w2"),
        Expect("w0", 6),
        Expect("w1", 0),
        domain="com.microsoft",
    ),
    graph(
        "several outputs, one unused",
        f"""g (float[N,3,8,8] x) => (float[N,4] y, float[N,2] y2)
        <float[6,3,3,3] w0, float[5,6,3,3] w1, float[3,5,1,1] wx, {head(5)}, float[5,2] w3>
        {{ a = Conv(x, w0) r = Relu(a) z = Conv(r, w1) unused = Conv(z, wx) {HEAD} y2 = MatMul(f, w3) }}""",
        Expect("w0", 6),
        Expect("w1", 5),
    ),
    graph(
        "double precision",
        """g (double[N,5] x) => (double[N,4] y) <double[5,8] w0, double[8] b0, double[8,4] w1>
        { h = MatMul(x, w0) a = Add(h, b0) r = Tanh(a) y = MatMul(r, w1) }""",
        Expect("w0", 8, axis=1),
    ),
]

"""Small graphs whose shapes are told by something else than onnx's inference: quotients of sizes, stored shapes."""

from __future__ import annotations

from onnx import ModelProto, TensorProto, helper

from .builder import build
from .graphs import Expect, Graph, graph
from .graphs_vision import HEAD, head

PYRAMID = """g (float[N,3,H,W] x) => (float[N,2,P,Q] y)
<float[6,3,3,3] w0, float[7,6,3,3] w1, float[5,7,1,1] w2, float[5,6,1,1] w3, float[2,5,1,1] w4>
{ a = Conv<pads=[1,1,1,1]>(x, w0) r = Relu(a) b = Conv<strides=[2,2],pads=[1,1,1,1]>(r, w1) s = Relu(b)
  p = Conv(s, w2) q = Conv(r, w3) t = Shape(q) u = Shape(p) tf = Cast<to=1>(t) uf = Cast<to=1>(u)
  k = Div(tf, uf) z = Resize<mode="linear",coordinate_transformation_mode="asymmetric">(p, , k)
  o = Add(z, q) y = Conv(o, w4) }"""

LOOP = f"""g (float[N,3,8,8] x, int64 times) => (float[N,4] y)
<float[6,3,1,1] w0, float[5,6,1,1] w1, float[6,5,1,1] w2, float[7,6,1,1] w3, {head(7)}>
{{ a = Conv(x, w0) i = Relu(a) u = Conv(i, w1) v = Relu(u) s = Conv(v, w2)
   o = Loop (times, , s) <body = b (int64 n, bool c, float[M,6,8,8] t) => (bool d, float[M,6,8,8] r)
   {{ e = Tanh(t) r = Add(e, t) d = Identity(c) }}>
   f0 = Relu(o) z = Conv(f0, w3) {HEAD} }}"""
LOOPED = (Expect("w1", 5), Expect("w2", 6), Expect("w3", 7))
FLAT = LOOP.replace(HEAD, "k = Flatten(z) y = Gemm<transB=1>(k, wh, bh)").replace(head(7), head(7 * 64))


def _stored(text: str, **shapes: list[int | str]) -> ModelProto:
    """Return the model with shapes of its tensors stored in it."""
    model = build(text)
    for name, shape in shapes.items():
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return model


GRAPHS: list[Graph] = [
    graph("loop in front of a convolution", LOOP, *LOOPED),
    Graph("loop with a stored shape", lambda: _stored(LOOP, o=["N", 6, 8, 8]), LOOPED),
    Graph("loop with a wrong stored shape", lambda: _stored(LOOP, o=["N", 9, 2, 2]), LOOPED),
    Graph("loop with a stored shape, flattened", lambda: _stored(FLAT, o=["N", 6, 8, 8]), LOOPED),
    graph(
        "upsampled by the quotient of two shapes",
        PYRAMID,
        Expect("w2", 5),
        Expect("w3", 5),
        Expect("w1", 7),
        opset=13,
    ),
    graph(
        "upsampled by the quotient of two shapes, of other channels",
        PYRAMID.replace("float[5,6,1,1] w3", "float[5,6,1,1] w3, float[5,6,1,1] w5, float[2,5,1,1] w6")
        .replace("t = Shape(q)", "e = Conv(r, w5) t = Shape(e)")
        .replace("y = Conv(o, w4)", "f = Conv(o, w4) g1 = Conv(e, w6) y = Add(f, g1)"),
        Expect("w5", 5),
        Expect("w2", 5),
        opset=13,
    ),
]

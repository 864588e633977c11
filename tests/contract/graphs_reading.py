"""Small graphs whose shapes are told by something else than onnx's inference: quotients of sizes, stored shapes."""

from __future__ import annotations

from .graphs import Expect, Graph, graph

PYRAMID = """g (float[N,3,H,W] x) => (float[N,2,P,Q] y)
<float[6,3,3,3] w0, float[7,6,3,3] w1, float[5,7,1,1] w2, float[5,6,1,1] w3, float[2,5,1,1] w4>
{ a = Conv<pads=[1,1,1,1]>(x, w0) r = Relu(a) b = Conv<strides=[2,2],pads=[1,1,1,1]>(r, w1) s = Relu(b)
  p = Conv(s, w2) q = Conv(r, w3) t = Shape(q) u = Shape(p) tf = Cast<to=1>(t) uf = Cast<to=1>(u)
  k = Div(tf, uf) z = Resize<mode="linear",coordinate_transformation_mode="asymmetric">(p, , k)
  o = Add(z, q) y = Conv(o, w4) }"""

GRAPHS: list[Graph] = [
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

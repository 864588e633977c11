"""Small graphs of image networks."""

from __future__ import annotations

from .graphs import Expect, Graph, bn, bn_params, graph

HEAD = "p = GlobalAveragePool(z) f = Flatten(p) y = Gemm<transB=1>(f, wh, bh)"


def head(channels: int) -> str:
    """Return the declarations of a classifier of four classes."""
    return f"float[4,{channels}] wh, float[4] bh"


RESIDUAL = f"""g (float[N,3,8,8] x) => (float[N,4] y)
<float[8,3,3,3] w0, {bn_params("n0", 8)}, float[6,8,3,3] w1, {bn_params("n1", 6)},
 float[8,6,3,3] w2, {bn_params("n2", 8)}, {head(8)}>
{{ c0 = Conv<pads=[1,1,1,1]>(x, w0) {bn("c0", "b0", "n0")} a = Relu(b0)
   c1 = Conv<pads=[1,1,1,1]>(a, w1) {bn("c1", "b1", "n1")} r1 = Relu(b1)
   c2 = Conv<pads=[1,1,1,1]>(r1, w2) {bn("c2", "b2", "n2")} s = Add(a, b2) z = Relu(s)
   {HEAD} }}"""


def shuffle(x: str, y: str) -> str:
    """Return the text of a channel shuffle of [N,8,H,W] in 2 groups, with the shape arithmetic of an exporter."""
    return f"""{y}s = Shape({x}) {y}n = Gather({y}s, i0) {y}h = Gather({y}s, i2) {y}w = Gather({y}s, i3)
    {y}nu = Unsqueeze({y}n, i0v) {y}hu = Unsqueeze({y}h, i0v) {y}wu = Unsqueeze({y}w, i0v)
    {y}t1 = Concat<axis=0>({y}nu, k2, k4, {y}hu, {y}wu) {y}t2 = Concat<axis=0>({y}nu, k8, {y}hu, {y}wu)
    {y}a = Reshape({x}, {y}t1) {y}b = Transpose<perm=[0,2,1,3,4]>({y}a) {y} = Reshape({y}b, {y}t2)"""


SHUFFLE_PARAMS = (
    "int64 i0 = {0}, int64 i2 = {2}, int64 i3 = {3}, int64[1] i0v = {0},"
    " int64[1] k2 = {2}, int64[1] k4 = {4}, int64[1] k8 = {8}"
)


def unit(x: str, y: str, name: str) -> str:
    """Return the text of a ShuffleNet v2 unit on 8 channels."""
    return f"""{y}l, {y}r = Split<axis=1>({x})
    {y}1 = Conv({y}r, {name}a) {y}2 = Relu({y}1) {y}3 = Conv<group=4,pads=[1,1,1,1]>({y}2, {name}b)
    {y}4 = Conv({y}3, {name}c) {y}5 = Relu({y}4) {y}j = Concat<axis=1>({y}l, {y}5) {shuffle(f"{y}j", y)}"""


def unit_params(name: str) -> str:
    """Return the declarations of a ShuffleNet v2 unit."""
    return f"float[4,4,1,1] {name}a, float[4,1,3,3] {name}b, float[4,4,1,1] {name}c"


GRAPHS: list[Graph] = [
    graph("residual, batch norm", RESIDUAL, Expect("w0", 8), Expect("w2", 8), Expect("w1", 6)),
    graph(
        "depthwise separable",
        f"""g (float[N,3,H,W] x) => (float[N,4] y)
        <float[8,3,3,3] w0, float[8,1,3,3] w1, {bn_params("n1", 8)}, float[6,8,1,1] w2, {head(6)},
         float lo = {{0.0}}, float hi = {{6.0}}>
        {{ c0 = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w0) a0 = Relu(c0)
           c1 = Conv<group=8,pads=[1,1,1,1]>(a0, w1) {bn("c1", "b1", "n1")} a1 = Clip(b1, lo, hi)
           z = Conv(a1, w2) {HEAD} }}""",
        Expect("w0", 8),
        Expect("w1", 8),
        Expect("w2", 6),
    ),
    graph(
        "depthwise, multiplier 3",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[4,3,3,3] w0, float[12,1,3,3] w1, float[12] b1, float[6,12,1,1] w2, {head(6)}>
        {{ a = Conv(x, w0) r = Relu(a) d = Conv<group=4>(r, w1, b1) e = Relu(d) z = Conv(e, w2) {HEAD} }}""",
        Expect("w0", 4),
        Expect("w1", 4),
    ),
    graph(
        "concat, flatten, gemm",
        """g (float[N,3,8,8] x) => (float[N,4] y)
        <float[4,3,3,3] w0, float[3,3,3,3] w1, float[3] b1, float[112,5] w2, float[5] b2, float[5,4] w3>
        { a = Conv<pads=[1,1,1,1]>(x, w0) b = Conv<pads=[1,1,1,1]>(x, w1, b1) c = Concat<axis=1>(a, b) r = Relu(c)
          m = MaxPool<kernel_shape=[2,2],strides=[2,2]>(r) f = Flatten(m) h = Gemm(f, w2, b2) t = Tanh(h)
          y = MatMul(t, w3) }""",
        Expect("w0", 4),
        Expect("w1", 3),
        Expect("w2", 5, axis=1),
    ),
    graph(
        "channels last, dense after flatten",
        """g (float[N,6,6,3] x) => (float[N,4] y)
        <float[5,3,3,3] w0, float[5] b0, int64[2] flat = {-1,80}, float[80,7] w1, float[7] b1, float[7,4] w2>
        { t = Transpose<perm=[0,3,1,2]>(x) c = Conv(t, w0, b0) r = Relu(c) u = Transpose<perm=[0,2,3,1]>(r)
          f = Reshape(u, flat) d = MatMul(f, w1) e = Add(d, b1) s = Relu(e) y = MatMul(s, w2) }""",
        Expect("w0", 5),
        Expect("w1", 7, axis=1),
    ),
    graph(
        "batch norm after flatten",
        f"""g (float[N,3,5,5] x) => (float[N,4] y)
        <float[5,3,3,3] w0, {bn_params("n", 45)}, float[45,4] w1>
        {{ c = Conv(x, w0) f = Flatten(c) {bn("f", "b", "n")} r = Relu(b) y = MatMul(r, w1) }}""",
        Expect("w0", 5),
    ),
    graph(
        "squeeze and excitation",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[8,3,3,3] w0, float[8] b0, float[4,8,1,1] w1, float[4] b1, float[8,4,1,1] w2, float[8] b2, {head(8)}>
        {{ c = Conv(x, w0, b0) s = Sigmoid(c) a = Mul(c, s) q = GlobalAveragePool(a) e = Conv(q, w1, b1) r = Relu(e)
           g0 = Conv(r, w2, b2) g1 = Sigmoid(g0) z = Mul(a, g1) {HEAD} }}""",
        Expect("w0", 8),
        Expect("w2", 8),
        Expect("w1", 4),
    ),
    graph(
        "grouped, residual (ResNeXt)",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[8,3,1,1] w0, float[12,8,1,1] w1, float[12,3,3,3] w2, {bn_params("n", 12)}, float[8,12,1,1] w3, {head(8)}>
        {{ a = Conv(x, w0) b = Conv(a, w1) r = Relu(b) c = Conv<group=4,pads=[1,1,1,1]>(r, w2) {bn("c", "n1", "n")}
           s = Relu(n1) d = Conv(s, w3) z = Add(a, d) {HEAD} }}""",
        Expect("w0", 8),
        Expect("w1", 12),
        Expect("w2", 12),
    ),
    graph(
        "shuffle between grouped convolutions (ShuffleNet v1)",
        f"""g (float[N,3,H,W] x) => (float[N,4] y)
        <float[8,3,1,1] w0, float[8,4,1,1] w1, float[8,1,3,3] w2, float[8,4,1,1] w3, {head(8)}, {SHUFFLE_PARAMS}>
        {{ a = Conv(x, w0) b = Conv<group=2>(a, w1) r = Relu(b) {shuffle("r", "q")}
           d = Conv<group=8,pads=[1,1,1,1]>(q, w2) z = Conv<group=2>(d, w3) {HEAD} }}""",
        Expect("w0", 8),
        Expect("w1", 8),
        Expect("w3", 8),
    ),
    graph(
        "split, concat, shuffle over three units (ShuffleNet v2)",
        f"""g (float[N,3,H,W] x) => (float[N,4] y)
        <float[8,3,3,3] w0, {unit_params("u")}, {unit_params("v")}, {unit_params("t")}, {head(8)}, {SHUFFLE_PARAMS}>
        {{ a = Conv<strides=[2,2],pads=[1,1,1,1]>(x, w0) r = Relu(a)
           {unit("r", "o", "u")} {unit("o", "l", "v")} {unit("l", "z", "t")} {HEAD} }}""",
        Expect("w0", 8),
        Expect("ua", 4),
        Expect("uc", 4),
        Expect("tc", 4),
    ),
    graph(
        "dense block",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[4,3,3,3] w0, {bn_params("n1", 4)}, float[3,4,3,3] w1, {bn_params("n2", 7)}, float[3,7,3,3] w2,
         {bn_params("n3", 10)}, float[5,10,1,1] w3, {head(5)}>
        {{ a = Conv<pads=[1,1,1,1]>(x, w0)
           {bn("a", "b1", "n1")} r1 = Relu(b1) c1 = Conv<pads=[1,1,1,1]>(r1, w1) d1 = Concat<axis=1>(a, c1)
           {bn("d1", "b2", "n2")} r2 = Relu(b2) c2 = Conv<pads=[1,1,1,1]>(r2, w2) d2 = Concat<axis=1>(a, c1, c2)
           {bn("d2", "b3", "n3")} r3 = Relu(b3) z = Conv(r3, w3) {HEAD} }}""",
        Expect("w0", 4),
        Expect("w1", 3),
        Expect("w2", 3),
        Expect("w3", 5),
    ),
    graph(
        "skip connections (U-Net)",
        """g (float[N,3,8,8] x) => (float[N,2,8,8] y)
        <float[4,3,3,3] w0, float[6,4,3,3] w1, float[6] b1, float[6,5,2,2] w2, float[5] b2, float[7,9,3,3] w3,
         float[2,7,1,1] w4>
        { a0 = Conv<pads=[1,1,1,1]>(x, w0) a = Relu(a0) m = MaxPool<kernel_shape=[2,2],strides=[2,2]>(a)
          b0 = Conv<pads=[1,1,1,1]>(m, w1, b1) b = Relu(b0) u = ConvTranspose<strides=[2,2]>(b, w2, b2)
          c = Concat<axis=1>(u, a) d0 = Conv<pads=[1,1,1,1]>(c, w3) d = Relu(d0) y = Conv(d, w4) }""",
        Expect("w0", 4),
        Expect("w1", 6),
        Expect("w2", 5, axis=1),
        Expect("w3", 7),
    ),
    graph(
        "padded shortcut (ResNet option A)",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[4,3,3,3] w0, float[8,4,3,3] w1, {bn_params("n", 8)}, float[8,8,1,1] w2, {head(8)},
         int64[8] pads = {{0,2,0,0,0,2,0,0}}, int64[2] s = {{0,0}}, int64[2] e = {{99,99}}, int64[2] ax = {{2,3}},
         int64[2] st = {{2,2}}>
        {{ a = Conv<pads=[1,1,1,1]>(x, w0) b = Conv<pads=[1,1,1,1],strides=[2,2]>(a, w1) {bn("b", "c", "n")}
           r = Relu(c) d = Conv(r, w2) q = Slice(a, s, e, ax, st) k = Pad(q, pads) z = Add(d, k) {HEAD} }}""",
        Expect("w0", 4),
        Expect("w1", 8),
        Expect("w2", 8),
    ),
    graph(
        "inception",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[6,3,3,3] w0, float[2,6,1,1] w1, float[3,6,1,1] w2, float[4,3,3,3] w3, float[2,6,1,1] w4, {head(8)}>
        {{ a = Conv<pads=[1,1,1,1]>(x, w0) b = Conv(a, w1) c0 = Conv(a, w2) c1 = Relu(c0)
           c = Conv<pads=[1,1,1,1]>(c1, w3) m = AveragePool<kernel_shape=[3,3],pads=[1,1,1,1]>(a) d = Conv(m, w4)
           z = Concat<axis=1>(b, c, d) {HEAD} }}""",
        Expect("w0", 6),
        Expect("w2", 3),
        Expect("w3", 4),
    ),
    graph(
        "pixel shuffle by reshapes",
        """g (float[N,3,4,4] x) => (float[N,2,8,8] y)
        <float[12,3,3,3] w0, float[12] b0, float[2,3,1,1] w1, int64[6] s6 = {0,3,2,2,4,4}, int64[4] s4 = {0,3,8,8}>
        { a = Conv<pads=[1,1,1,1]>(x, w0, b0) b = Reshape(a, s6) c = Transpose<perm=[0,1,4,2,5,3]>(b)
          d = Reshape(c, s4) e = Relu(d) y = Conv(e, w1) }""",
        Expect("w0", 3),
    ),
    graph(
        "selective kernels: softmax between branches",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[6,3,3,3] w0, float[6,3,1,1] w1, float[4,6,1,1] w2, float[12,4,1,1] w3, {head(6)},
         int64[1] ax = {{1}}, int64[5] s = {{-1,2,6,1,1}}>
        {{ a = Conv<pads=[1,1,1,1]>(x, w0) b = Conv(x, w1) u = Add(a, b) q = GlobalAveragePool(u) e = Conv(q, w2)
           r = Relu(e) k = Conv(r, w3) t = Reshape(k, s) o = Softmax<axis=1>(t)
           a1 = Unsqueeze(a, ax) b1 = Unsqueeze(b, ax) ab = Concat<axis=1>(a1, b1) g0 = Mul(ab, o)
           z = ReduceSum<keepdims=0>(g0, ax) {HEAD} }}""",
        Expect("w0", 6),
        Expect("w2", 4),
    ),
    graph(
        "gated residual of a sound model (WaveNet)",
        """g (float[N,3,L] x) => (float[N,2,M] y)
        <float[4,3,1] w0, float[10,4,2] w1, float[10] b1, float[4,5,1] w2, float[6,5,1] w3, float[2,6,1] w4,
         float[2,4,1] w5>
        { a = Conv(x, w0) d = Conv<dilations=[2],pads=[2,0]>(a, w1, b1) f, k = Split<axis=1>(d)
          t = Tanh(f) s = Sigmoid(k) v = Mul(t, s) r = Conv(v, w2) o = Add(a, r) l = Conv(v, w3) m = Relu(l)
          n = Conv(m, w4) q = Conv(o, w5) y = Add(n, q) }""",
        Expect("w0", 4),
        Expect("w1", 5),
        Expect("w3", 6),
    ),
    graph(
        "sigmoid before a padded convolution",
        f"""g (float[N,3,8,8] x) => (float[N,4] y) <float[6,3,3,3] w0, float[5,6,3,3] w1, {head(5)}>
        {{ c = Conv(x, w0) s = Sigmoid(c) z = Conv<pads=[1,1,1,1]>(s, w1) {HEAD} }}""",
        Expect("w0", 0, reason="non-zero constant"),
        Expect("w1", 5),
    ),
    graph(
        "sigmoid before a plain convolution",
        f"""g (float[N,3,8,8] x) => (float[N,4] y) <float[6,3,3,3] w0, float[5,6,3,3] w1, float[5] b1, {head(5)}>
        {{ c = Conv(x, w0) s = Sigmoid(c) z = Conv(s, w1, b1) {HEAD} }}""",
        Expect("w0", 6),
        Expect("w1", 5),
    ),
    graph(
        "explicit padding before a convolution",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[6,3,3,3] w0, float[6] b0, float[5,6,3,3] w1, {head(5)}, int64[8] pd = {{0,0,1,1,0,0,1,1}}>
        {{ c = Conv(x, w0, b0) k = Pad<mode="reflect">(c, pd) r = Relu(k) z = Conv(r, w1) {HEAD} }}""",
        Expect("w0", 6),
    ),
    graph(
        "bias by Add",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[6,3,3,3] w0, float[6,1,1] b0, float[5,6,3,3] w1, float[1,5,1,1] b1, {head(5)}>
        {{ c = Conv(x, w0) d = Add(c, b0) r = Relu(d) e = Conv(r, w1) z = Add(b1, e) {HEAD} }}""",
        Expect("w0", 6),
        Expect("b0", 6),
        Expect("w1", 5),
    ),
    graph(
        "one bias for two layers, as exporters merge them",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[6,3,3,3] w0, float[6] b, float[6,6,3,3] w1, {head(6)}>
        {{ c = Conv(x, w0, b) r = Relu(c) z = Conv(r, w1, b) {HEAD} }}""",
        Expect("w0", 6),
        Expect("w1", 6),
    ),
    graph(
        "one weight for two branches",
        f"""g (float[N,3,8,8] x, float[N,3,8,8] v) => (float[N,4] y)
        <float[6,3,3,3] w0, float[6] b0, float[5,6,3,3] w1, {head(10)}>
        {{ a = Conv(x, w0, b0) b = Conv(v, w0, b0) ra = Relu(a) rb = Relu(b) ca = Conv(ra, w1) cb = Conv(rb, w1)
           z = Concat<axis=1>(ca, cb) {HEAD} }}""",
        Expect("w0", 6),
        Expect("w1", 5),
    ),
    graph(
        "one weight applied again and again",
        f"""g (float[N,3,8,8] x) => (float[N,4] y) <float[6,3,1,1] w0, float[6,6,3,3] w1, {head(6)}>
        {{ a = Conv(x, w0) b = Conv<pads=[1,1,1,1]>(a, w1) r = Relu(b) z = Conv<pads=[1,1,1,1]>(r, w1) {HEAD} }}""",
        Expect("w0", 6),
        Expect("w1", 6),
    ),
    graph(
        "an intermediate tensor is an output",
        f"""g (float[N,3,8,8] x) => (float[N,4] y, float[N,6,6,6] h)
        <float[6,3,3,3] w0, float[5,6,3,3] w1, {head(5)}>
        {{ h = Conv(x, w0) r = Relu(h) z = Conv(r, w1) {HEAD} }}""",
        Expect("w0", 0, reason="output 'h'"),
        Expect("w1", 5),
    ),
    graph(
        "decoder with a transposed convolution in groups",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[8,3,3,3] w0, float[8,3,2,2] w1, {bn_params("n1", 6)}, float[6,3,3,3] w2, {head(6)}>
        {{ a = Conv<pads=[1,1,1,1]>(x, w0) r = Relu(a) u = ConvTranspose<group=2,strides=[2,2]>(r, w1)
           {bn("u", "b", "n1")} s = Relu(b) z = Conv<group=2,pads=[1,1,1,1]>(s, w2) {HEAD} }}""",
        Expect("w0", 8),
        Expect("w1", 6, axis=1),
        Expect("w2", 6),
    ),
    graph(
        "spatial attention over positions",
        f"""g (float[2,3,4,4] x) => (float[2,4] y)
        <float[6,3,1,1] w0, float[4,6,1,1] wq, float[4,6,1,1] wk, float[6,6,1,1] wv, {head(6)},
         int64[3] s4 = {{2,4,16}}, int64[3] s6 = {{2,6,16}}, int64[4] sz = {{2,6,4,4}}>
        {{ a = Conv(x, w0) q0 = Conv(a, wq) k0 = Conv(a, wk) v0 = Conv(a, wv)
           q1 = Reshape(q0, s4) q = Transpose<perm=[0,2,1]>(q1) k = Reshape(k0, s4) v = Reshape(v0, s6)
           e = MatMul(q, k) o = Softmax<axis=-1>(e) t = Transpose<perm=[0,2,1]>(o) u = MatMul(v, t)
           b = Reshape(u, sz) z = Add(a, b) {HEAD} }}""",
        Expect("w0", 6),
        Expect("wq", 4),
        Expect("wv", 6),
    ),
    graph(
        "shuffle of an axis in which lanes occur twice",
        f"""g (float[N,3,8,8] x) => (float[N,4] y)
        <float[4,3,3,3] w0, float[5,2,3,3] w1, {head(5)}, int64[5] s5 = {{0,4,2,8,8}}, int64[4] s4 = {{0,8,8,8}},
         int64[1] b0 = {{0}}, int64[1] b2 = {{2}}, int64[1] ax = {{1}}>
        {{ a = Conv<pads=[1,1,1,1]>(x, w0) b = Sigmoid(a) c = Mul(a, b) j = Concat<axis=1>(c, a) r = Reshape(j, s5)
           t = Transpose<perm=[0,2,1,3,4]>(r) q = Reshape(t, s4) k = Slice(q, b0, b2, ax) z = Conv(k, w1) {HEAD} }}""",
        Expect("w0", 4),
    ),
    graph(
        "one weight for a grouped and an ordinary convolution",
        f"""g (float[N,3,8,8] x) => (float[N,4] y) <float[6,3,3,3] w0, float[6] b0, {head(6)}>
        {{ a = Conv<pads=[1,1,1,1]>(x, w0, b0) r = Relu(a) z = Conv<group=2,pads=[1,1,1,1]>(r, w0, b0) {HEAD} }}""",
        Expect("w0", 2),
    ),
    graph(
        "one weight for two grouped convolutions",
        f"""g (float[N,3,8,8] x) => (float[N,4] y) <float[8,3,1,1] w0, float[8,4,3,3] w1, {head(8)}>
        {{ a = Conv(x, w0) r = Relu(a) b = Conv<group=2,pads=[1,1,1,1]>(r, w1) s = Relu(b)
           z = Conv<group=2,pads=[1,1,1,1]>(s, w1) {HEAD} }}""",
        Expect("w0", 8),
        Expect("w1", 8),
    ),
]

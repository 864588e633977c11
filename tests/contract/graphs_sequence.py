"""Small graphs of transformers and other networks over sequences, dynamic batch and length as exporters write them."""

from __future__ import annotations

from .graphs import ANY, Expect, Graph, graph

SIZES = (
    "int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}, int64[1] v0 = {0}, int64[1] d4 = {4}, int64[1] d8 = {8},"
    " int64[1] d2 = {2}, int64[1] d1 = {1}, int64[1] d3 = {3}, int64[1] m1 = {-1}, float scale = {0.5}"
)


def heads(x: str, y: str, count: str = "d4", width: str = "d2") -> str:
    """Return the text that views `x` [N,T,8] as [N,heads,T,width] by shape arithmetic, called `y`."""
    return f"""{y}s = Shape({x}) {y}n = Gather({y}s, i0) {y}t = Gather({y}s, i1) {y}nu = Unsqueeze({y}n, v0)
    {y}tu = Unsqueeze({y}t, v0) {y}c = Concat<axis=0>({y}nu, {y}tu, {count}, {width}) {y}r = Reshape({x}, {y}c)
    {y} = Transpose<perm=[0,2,1,3]>({y}r)"""


def attend(q: str, k: str, v: str, y: str) -> str:
    """Return the text of scaled attention over [N,heads,T,width] and back to [N,T,8], called `y`."""
    return f"""{y}k = Transpose<perm=[0,1,3,2]>({k}) {y}e = MatMul({q}, {y}k) {y}f = Mul({y}e, scale)
    {y}p = Softmax<axis=-1>({y}f) {y}o = MatMul({y}p, {v}) {y}b = Transpose<perm=[0,2,1,3]>({y}o)
    {y}s = Shape({y}b) {y}n = Gather({y}s, i0) {y}t = Gather({y}s, i1) {y}nu = Unsqueeze({y}n, v0)
    {y}tu = Unsqueeze({y}t, v0) {y}c = Concat<axis=0>({y}nu, {y}tu, d8) {y} = Reshape({y}b, {y}c)"""


SELF = "float[5,8] we, float[8,8] wq, float[8] bq, float[8,8] wk, float[8,8] wv, float[8] bv, float[8,8] wo"
PROJECT = "q0 = MatMul(h, wq) q1 = Add(q0, bq) k1 = MatMul(h, wk) v0m = MatMul(h, wv) v1 = Add(v0m, bv)"


def one_key_head(title: str, spread: str, *expect: Expect, params: str = "") -> Graph:
    """Return attention of four query heads that share keys and values; `spread` makes k, v of k4, v4 [N,1,T,2]."""
    head = heads("k1", "k4", "d1", "d2") + " " + heads("v1", "v4", "d1", "d2")
    return graph(
        title,
        f"""g (float[N,T,5] x) => (float[N,T,4] y)
        <float[5,8] we, float[8,8] wq, float[8,2] wk, float[8,2] wv, float[2] bv, float[8,8] wo, float[8,4] w3,
         {params} {SIZES}>
        {{ h = MatMul(x, we) q1 = MatMul(h, wq) k1 = MatMul(h, wk) v0m = MatMul(h, wv) v1 = Add(v0m, bv)
           {heads("q1", "q0")} {head} {spread} {attend("q", "k", "v", "a")}
           o = MatMul(a, wo) z = Add(h, o) y = MatMul(z, w3) }}""",
        Expect("we", 8, axis=1),
        Expect("wv", 2, axis=1),
        *expect,
        head_dims=[Expect("wv", 2, axis=1)],
    )


REPEATED = "int64[1] dm = {-1}, int64[4] r4 = {1,4,1,1},"
GRAPHS: list[Graph] = [
    one_key_head(
        "one head of keys and values, broadcast",
        "q = Identity(q0) k = Identity(k4) v = Identity(v4)",
        Expect("wq", 2, axis=1),
        Expect("wk", 2, axis=1),
    ),
    one_key_head(
        "one head of keys and values, expanded by shape arithmetic",
        """q = Identity(q0) ks = Shape(k4) kt = Slice(ks, d2, d3) e4 = Concat<axis=0>(d1, d4, kt, d2)
        k = Expand(k4, e4) v = Expand(v4, e4)""",
        Expect("wq", 2, axis=1),
        Expect("wk", 2, axis=1),
    ),
    one_key_head(
        "one head of keys and values, repeated by Tile",
        "q = Identity(q0) k = Tile(k4, r4) v = Tile(v4, r4)",
        Expect("wq", 2, axis=1),
        Expect("wk", 2, axis=1),
        params=REPEATED,
    ),
    one_key_head(
        "one head of keys and values, joined with itself",
        "q = Identity(q0) k = Concat<axis=1>(k4, k4, k4, k4) v = Concat<axis=1>(v4, v4, v4, v4)",
        Expect("wq", 2, axis=1),
        Expect("wk", 2, axis=1),
    ),
    one_key_head(
        "one head of keys and values, keys a constant",
        "q = Identity(q0) k = Sigmoid(k4) v = Relu(v4)",
        Expect("wq", 2, axis=1),
        Expect("wk", 2, axis=1),
    ),
    one_key_head(
        "one head of keys and values, queries and keys constants",
        "q = Sigmoid(q0) k = Exp(k4) v = Identity(v4)",
        Expect("wq", 0, axis=1, reason="constant"),
        Expect("wk", 0, axis=1, reason="constant"),
    ),
    one_key_head(
        "one head of keys and values, queries multiplied by a table of positions in heads",
        "q = Mul(q0, gain) k = Identity(k4) v = Identity(v4)",
        Expect("wq", 0, axis=1, reason="not zero"),
        Expect("wk", 0, axis=1, reason="whole"),
        params="float[1,1,1,2] gain,",
    ),
    graph(
        "attention of four heads, layer norms, MLP",
        f"""g (float[N,T,5] x) => (float[N,T,4] y)
        <{SELF}, float[8] s1, float[8] p1, float[8] s2, float[8] p2, float[8,12] w1, float[12] b1, float[12,8] w2,
         float[8] b2, float[8,4] w3, {SIZES}>
        {{ e = MatMul(x, we) h = LayerNormalization(e, s1, p1) {PROJECT}
           {heads("q1", "q")} {heads("k1", "k")} {heads("v1", "v")} {attend("q", "k", "v", "a")}
           o = MatMul(a, wo) r = Add(e, o) n = LayerNormalization(r, s2, p2) u = MatMul(n, w1) u1 = Add(u, b1)
           u2 = Erf(u1) u3 = Mul(u1, u2) d = MatMul(u3, w2) d1m = Add(d, b2) z = Add(r, d1m) y = MatMul(z, w3) }}""",
        Expect("we", 8, axis=1),
        Expect("w1", 12, axis=1),
        Expect("wq", 4, axis=1),
        Expect("wv", 4, axis=1),
        head_dims=[Expect("we", 8, axis=1), Expect("wq", 8, axis=1), Expect("wv", 8, axis=1)],
    ),
    graph(
        "attention with a mask and positions added",
        f"""g (float[2,6,5] x, bool[2,6] mask) => (float[2,6,4] y)
        <{SELF}, float[1,6,8] pos, float[8,4] w3, {SIZES}, float low = {{-10000.0}}, float zero = {{0.0}},
         int64[3] back = {{2,6,8}}, int64[2] a12 = {{1,2}}>
        {{ e = MatMul(x, we) h = Add(e, pos) {PROJECT} {heads("q1", "q")} {heads("k1", "k")} {heads("v1", "v")}
           kx = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, kx) m = Unsqueeze(mask, a12) f = Where(m, zero, low)
           sm = Add(s, f) p = Softmax<axis=-1>(sm) o = MatMul(p, v) b = Transpose<perm=[0,2,1,3]>(o)
           c = Reshape(b, back) w = MatMul(c, wo) z = Add(h, w) y = MatMul(z, w3) }}""",
        Expect("we", 8, axis=1),
        Expect("wv", 4, axis=1),
        head_dims=[Expect("wq", 8, axis=1), Expect("wv", 8, axis=1)],
    ),
    graph(
        "query, key and value fused, taken apart by Split",
        f"""g (float[N,T,5] x) => (float[N,T,4] y)
        <float[5,8] we, float[8,24] wqkv, float[24] b, float[8,8] wo, float[8,4] w3, {SIZES}>
        {{ h = MatMul(x, we) f0 = MatMul(h, wqkv) f = Add(f0, b) q1, k1, v1 = Split<axis=2>(f)
           {heads("q1", "q")} {heads("k1", "k")} {heads("v1", "v")} {attend("q", "k", "v", "a")}
           o = MatMul(a, wo) z = Add(h, o) y = MatMul(z, w3) }}""",
        Expect("we", 8, axis=1),
        Expect("wqkv", 4, axis=1),
        head_dims=[Expect("wqkv", 16, axis=1)],
    ),
    graph(
        "query, key and value fused, taken apart by Gather (timm)",
        """g (float[N,6,5] x) => (float[N,6,4] y)
        <float[5,8] we, float[8,24] wqkv, float[24] b, float[8,8] wo, float[8,4] w3, int64[5] s = {-1,6,3,4,2},
         int64 i0 = {0}, int64 i1 = {1}, int64 i2 = {2}, int64[3] back = {-1,6,8}, float scale = {0.7}>
        { h = MatMul(x, we) f0 = MatMul(h, wqkv) f = Add(b, f0) r = Reshape(f, s)
          t = Transpose<perm=[2,0,3,1,4]>(r) q = Gather<axis=0>(t, i0) k = Gather<axis=0>(t, i1)
          v = Gather<axis=0>(t, i2) kt = Transpose<perm=[0,1,3,2]>(k) qs = Mul(q, scale) e = MatMul(qs, kt)
          p = Softmax<axis=-1>(e) o = MatMul(p, v) b1 = Transpose<perm=[0,2,1,3]>(o) a = Reshape(b1, back)
          c = MatMul(a, wo) z = Add(h, c) y = MatMul(z, w3) }""",
        Expect("we", 8, axis=1),
        Expect("wqkv", 4, axis=1),
        head_dims=[Expect("wqkv", 16, axis=1)],
    ),
    graph(
        "grouped queries by Expand",
        f"""g (float[N,T,5] x) => (float[N,T,4] y)
        <float[5,8] we, float[8,8] wq, float[8,4] wk, float[8,4] wv, float[8,8] wo, float[8,4] w3, {SIZES}>
        {{ h = MatMul(x, we) q1 = MatMul(h, wq) k1 = MatMul(h, wk) v1 = MatMul(h, wv) {heads("q1", "q")}
           {heads("k1", "k", "d2", "d2")} {heads("v1", "v", "d2", "d2")}
           ku = Unsqueeze(k, d2) vu = Unsqueeze(v, d2) sh = Concat<axis=0>(d1, d1, d2, d1, d1)
           ke = Expand(ku, sh) ve = Expand(vu, sh) us = Shape(v) un = Gather(us, i0) ut = Gather(us, i2)
           unu = Unsqueeze(un, v0) utu = Unsqueeze(ut, v0) tgt = Concat<axis=0>(unu, d4, utu, d2)
           kg = Reshape(ke, tgt) vg = Reshape(ve, tgt) {attend("q", "kg", "vg", "a")}
           o = MatMul(a, wo) z = Add(h, o) y = MatMul(z, w3) }}""",
        Expect("we", 8, axis=1),
        Expect("wq", 2, axis=1),
        Expect("wv", 2, axis=1),
        head_dims=[Expect("wq", 2, axis=1), Expect("wv", 2, axis=1)],
    ),
    graph(
        "rotary positions by Slice, Neg, Concat",
        """g (float[2,6,5] x) => (float[2,6,4] y)
        <float[5,8] we, float[8,16] wq, float[8,16] wk, float[8,16] wv, float[16,8] wo, float[8,4] w3,
         float[1,1,6,4] cos, float[1,1,6,4] sin, int64[4] s = {2,6,4,4}, int64[3] back = {2,6,16},
         int64[1] a3 = {3}, int64[1] b0 = {0}, int64[1] b2 = {2}, int64[1] b9 = {9999}>
        { h = MatMul(x, we) q0 = MatMul(h, wq) k0 = MatMul(h, wk) v0 = MatMul(h, wv)
          q1 = Reshape(q0, s) q = Transpose<perm=[0,2,1,3]>(q1) k1 = Reshape(k0, s) k = Transpose<perm=[0,2,1,3]>(k1)
          v1 = Reshape(v0, s) v = Transpose<perm=[0,2,1,3]>(v1)
          ql = Slice(q, b0, b2, a3) qr = Slice(q, b2, b9, a3) qn = Neg(qr) qj = Concat<axis=-1>(qn, ql)
          qc = Mul(q, cos) qs = Mul(qj, sin) qe = Add(qc, qs)
          kl = Slice(k, b0, b2, a3) kr = Slice(k, b2, b9, a3) kn = Neg(kr) kj = Concat<axis=-1>(kn, kl)
          kc = Mul(k, cos) ks = Mul(kj, sin) ke = Add(kc, ks)
          kt = Transpose<perm=[0,1,3,2]>(ke) e = MatMul(qe, kt) p = Softmax<axis=-1>(e) o = MatMul(p, v)
          b = Transpose<perm=[0,2,1,3]>(o) c = Reshape(b, back) w = MatMul(c, wo) z = Add(h, w) y = MatMul(z, w3) }""",
        Expect("we", 8, axis=1),
        Expect("wv", 4, axis=1),
        Expect("wq", 4, axis=1),
        head_dims=[Expect("wq", 2, axis=1), Expect("wv", 16, axis=1)],
    ),
    graph(
        "gate and value fused (SwiGLU)",
        """g (float[N,T,5] x) => (float[N,T,4] y)
        <float[5,8] we, float[8,12] w1, float[6,8] w2, float[8] s, float[8,4] w3>
        { h = MatMul(x, we) u = MatMul(h, w1) a, b = Split<axis=-1>(u) c = Sigmoid(a) d = Mul(a, c) e = Mul(d, b)
          f = MatMul(e, w2) z = Add(h, f) y = MatMul(z, w3) }""",
        Expect("we", 8, axis=1),
        Expect("w1", 6, axis=1),
    ),
    graph(
        "flatten by shape arithmetic",
        """g (float[N,3,6,6] x) => (float[N,4] y)
        <float[5,3,3,3] w0, float[80,7] w1, float[7] b1, float[7,4] w2, int64 i0 = {0}, int64[1] v0 = {0},
         int64[1] m1 = {-1}>
        { c = Conv(x, w0) r = Relu(c) s = Shape(r) n = Gather(s, i0) u = Unsqueeze(n, v0) t = Concat<axis=0>(u, m1)
          f = Reshape(r, t) d = Gemm(f, w1, b1) k = Relu(d) y = MatMul(k, w2) }""",
        Expect("w0", 5),
        Expect("w1", 7, axis=1),
    ),
    graph(
        "embedding tied to the output",
        """g (int64[N,T] x) => (float[N,T,200] y)
        <float[200,8] w0, float[8] s, float[8] p, float[8,6] w1, float[6] b1, float[6,8] w2>
        { e = Gather(w0, x) n = LayerNormalization(e, s, p) u = MatMul(n, w1) v = Add(u, b1) r = Relu(v)
          d = MatMul(r, w2) z = Add(e, d) t = Transpose<perm=[1,0]>(w0) y = MatMul(z, t) }""",
        Expect("w0", 8, axis=1),
        Expect("w1", 6, axis=1),
    ),
    graph(
        "class token and positions (ViT)",
        """g (float[N,3,4,4] x) => (float[N,4] y)
        <float[8,3,2,2] w0, float[8] b0, float[1,1,8] cls, float[1,5,8] pos, float[8] s, float[8] p, float[8,6] w1,
         float[6,8] w2, float[8] s2, float[8] p2, float[8,4] w3, int64[3] f = {0,8,-1},
         int64[1] d1 = {1}, int64[1] d8 = {8}, int64[1] v0 = {0}, int64 i0 = {0}>
        { c = Conv<strides=[2,2]>(x, w0, b0) r = Reshape(c, f) t = Transpose<perm=[0,2,1]>(r) xs = Shape(x)
          xn = Gather(xs, v0) e = Concat<axis=0>(xn, d1, d8) k = Expand(cls, e)
          j = Concat<axis=1>(k, t) h = Add(j, pos) n = LayerNormalization(h, s, p) u = MatMul(n, w1)
          g0 = Relu(u) d = MatMul(g0, w2) z = Add(h, d) o = LayerNormalization(z, s2, p2) q = Gather<axis=1>(o, i0)
          y = MatMul(q, w3) }""",
        Expect("w0", 8),
        Expect("cls", 8, axis=2),
        Expect("w1", 6, axis=1),
    ),
    graph(
        "windows over space (Swin)",
        """g (float[2,4,4,3] x) => (float[2,4,4,5] y)
        <float[3,8] w0, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo, float[8,5] w3,
         int64[6] s6 = {2,2,2,2,2,8}, int64[3] win = {8,4,8}, int64[4] s4 = {2,4,4,8},
         int64[1] b0 = {0}, int64[1] b1 = {1}, int64[1] b9 = {99}, int64[1] a1 = {1}>
        { h0 = MatMul(x, w0) l = Slice(h0, b1, b9, a1) f = Slice(h0, b0, b1, a1) h = Concat<axis=1>(l, f)
          r = Reshape(h, s6) t = Transpose<perm=[0,1,3,2,4,5]>(r) w = Reshape(t, win)
          q = MatMul(w, wq) k = MatMul(w, wk) v = MatMul(w, wv) kt = Transpose<perm=[0,2,1]>(k) e = MatMul(q, kt)
          p = Softmax<axis=-1>(e) o = MatMul(p, v) c = MatMul(o, wo) d = Reshape(c, s6)
          u = Transpose<perm=[0,1,3,2,4,5]>(d) b = Reshape(u, s4) z = Add(h, b) y = MatMul(z, w3) }""",
        Expect("w0", 8, axis=1),
        Expect("wv", 8, axis=1),
        Expect("wq", 8, axis=1),
    ),
    graph(
        "tied autoencoder",
        """g (float[N,5] x) => (float[N,5] y) <float[5,8] w, float[8] b, float[5] c>
        { h = Gemm(x, w, b) r = Relu(h) y = Gemm<transB=1>(r, w, c) }""",
        Expect("w", 8, axis=1),
    ),
    graph(
        "tied autoencoder, sigmoid",
        """g (float[N,5] x) => (float[N,5] y) <float[5,8] w, float[8] b, float[5] c>
        { h = Gemm(x, w, b) r = Sigmoid(h) y = Gemm<transB=1>(r, w, c) }""",
        Expect("w", 8, axis=1),
    ),
    graph(
        "sigmoid before a dense layer",
        """g (float[N,5] x) => (float[N,4] y) <float[5,8] w, float[8] b, float[8,6] w1, float[6] b1, float[6,4] w2>
        { h = Gemm(x, w, b) r = Sigmoid(h) d = Gemm<alpha=0.5>(r, w1, b1) e = Tanh(d) y = MatMul(e, w2) }""",
        Expect("w", 8, axis=1),
        Expect("w1", 6, axis=1),
    ),
    graph(
        "recurrent layer written out, from a state of zeros",
        """g (float[N,2,5] x) => (float[N,4] y)
        <float[5,8] wi, float[8] bi, float[8,8] wr, float[8,4] wo, int64[1] d8 = {8}, int64[1] v0 = {0},
         int64[1] v1 = {1}, int64[1] d2 = {2}, float zero = {0.0}>
        { i = MatMul(x, wi) j = Add(i, bi) s = Shape(x) n = Slice(s, v0, v1) c = Concat<axis=0>(n, d8)
          h0 = Expand(zero, c) a = Slice(j, v0, v1, v1) b = Slice(j, v1, d2, v1) a0 = Squeeze(a, v1)
          b0 = Squeeze(b, v1) r0 = MatMul(h0, wr) s0 = Add(a0, r0) h1 = Tanh(s0) r1 = MatMul(h1, wr)
          s1 = Add(b0, r1) h2 = Tanh(s1) y = MatMul(h2, wo) }""",
        Expect("wi", 8, axis=1),
    ),
    graph(
        "recurrent layer in the middle",
        """g (float[T,N,5] x) => (float[T,1,N,6] y, float[T,N,4] z)
        <float[5,8] w0, float[1,24,8] w, float[1,24,6] r, float[5,7] w1, float[7,4] w2>
        { h = MatMul(x, w0) y, yh, yc = LSTM<hidden_size=6>(h, w, r) a = MatMul(x, w1) b = Relu(a)
          z = MatMul(b, w2) }""",
        Expect("w0", ANY, axis=1),
        Expect("w1", 7, axis=1),
    ),
    graph(
        "cross attention between two inputs",
        f"""g (float[N,T,5] x, float[N,S,3] c) => (float[N,T,4] y)
        <float[5,8] we, float[3,6] wc, float[8,8] wq, float[6,8] wk, float[6,8] wv, float[8,8] wo,
         float[8,4] w3, {SIZES}>
        {{ h = MatMul(x, we) m = MatMul(c, wc) q1 = MatMul(h, wq) k1 = MatMul(m, wk) v1 = MatMul(m, wv)
           {heads("q1", "q")} {heads("k1", "k")} {heads("v1", "v")} {attend("q", "k", "v", "a")}
           o = MatMul(a, wo) z = Add(h, o) y = MatMul(z, w3) }}""",
        Expect("we", 8, axis=1),
        Expect("wc", 6, axis=1),
        Expect("wv", 4, axis=1),
        head_dims=[Expect("wq", 8, axis=1), Expect("wv", 8, axis=1)],
    ),
    graph(
        "sigmoid of a product from both sides, flattened",
        """g (float[N,3,5] x) => (float[N,2] y) <float[6,3] w1, float[5,4] w2, float[24,2] w3>
        { a = MatMul(w1, x) b = MatMul(a, w2) c = Sigmoid(b) f = Flatten(c) y = MatMul(f, w3) }""",
        Expect("w1", ANY),
    ),
    graph(
        "sigmoid before a convolution whose bias is computed",
        """g (float[1,3,6,6] x) => (float[1,2,6,6] y)
        <float[6,3,1,1] w0, float[5,6,1,1] w1, float[5,3,1,1] w2, float[2,5,1,1] w3, int64[3] ax = {0,2,3}>
        { a = Conv(x, w0) s = Sigmoid(a) p = GlobalAveragePool(x) q = Conv(p, w2) b = Squeeze(q, ax)
          c = Conv(s, w1, b) y = Conv(c, w3) }""",
        Expect("w0", ANY),
        Expect("w1", 5),
    ),
    graph(
        "one weight read from both sides",
        """g (float[N,5] x) => (float[N,2] y) <float[5,6] w0, float[6,6] w, float[6] b, float[6,2] w1>
        { h = MatMul(x, w0) a = MatMul(h, w) c = Gemm<transB=1>(h, w, b) d = Add(a, c) r = Relu(d)
          y = MatMul(r, w1) }""",
        Expect("w0", 0, axis=1, reason="groups of two of its axes"),
    ),
    graph(
        "product of two weights, one of them read by itself too",
        """g (float[N,5] x) => (float[N,2] y)
        <float[5,40] w0, float[5,30] w1, float[40,30] a, float[30,40] b, float[40,2] w2>
        { h = MatMul(x, w0) z = MatMul(x, w1) r = Relu(z) v = MatMul(a, b) p = MatMul(h, v) q = MatMul(r, b)
          s = Add(p, q) y = MatMul(s, w2) }""",
        Expect("w0", 40, axis=1),
        Expect("w1", 0, axis=1),
    ),
]

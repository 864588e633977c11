"""Rows of the operators that optimizers fuse, each with the plain operators it stands for."""

from __future__ import annotations

import numpy as np

from .harness import Row

MS = "com.microsoft::"
X = {"a": (2, 3)}


def number(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def fused(op: str, call: str, params: dict[str, tuple[int, ...]], twin: str, **more: object) -> Row:
    """Return a row of a call of the domain com.microsoft and of its twin."""
    return Row(MS + op, call.replace(f"= {op}", f"= com.microsoft.{op}"), params, twin=twin, **more)  # type: ignore[arg-type]


HALF = {"half": number(0.5), "one": number(1.0), "root": number(np.sqrt(0.5))}
EXACT = "m = Mul(z, root) e = Erf(m) p = Add(e, one) h = Mul(z, half) y = Mul(h, p)"
FAST = {"c": number(0.044715), "r": number(np.sqrt(2 / np.pi)), "half": number(0.5), "one": number(1.0)}
TANH = """q = Mul(z, z) k = Mul(q, z) kc = Mul(k, c) s = Add(z, kc) sr = Mul(s, r) t = Tanh(sr) p = Add(t, one)
    h = Mul(z, half) y = Mul(h, p)"""
EPSILON = {"eps": number(1e-3)}
RMS = "q = Mul({x}, {x}) v = ReduceMean<axes=[-1]>(q) e = Add(v, eps) d = Sqrt(e) n = Div({x}, d) {y} = Mul(n, s)"
NORM = "m = ReduceMean<axes=[-1]>(t) x = Sub(t, m) " + RMS.format(x="x", y="w")

TOKENS = {"a": (2, 3, 4)}
SPLIT = "h{p} = Reshape({p}, to) t{p} = Transpose<perm=[0, 2, 1, 3]>(h{p}) "
SHAPES = {"to": np.array([0, -1, 2, 2]), "back": np.array([0, 0, -1])}


def attention(scale: float, extra: str = "") -> str:
    """Return attention with two heads of q, k, v, scores sc plus what `extra` adds to them as `sx`."""
    heads = "".join(SPLIT.format(p=p) for p in "qkv")
    return f"""{heads} kt = Transpose<perm=[0, 1, 3, 2]>(tk) sm = MatMul(tq, kt)
    f0 = Constant<value_float={scale}>() f = CastLike(f0, sm) sc = Mul(sm, f) {extra or "sx = Identity(sc)"}
    so = Softmax<axis=-1>(sx) o = MatMul(so, tv) u = Transpose<perm=[0, 2, 1, 3]>(o) y = Reshape(u, back)"""


PACKED = "m = MatMul(a, w) mb = Add(m, b) q, k, v = Split<axis=-1>(mb, thirds) "
MASK = {"mask": np.array([[1, 1, 0], [1, 0, 1]], np.int32)}
ADDED = {"add": np.where(MASK["mask"][:, None, None, :], 0, -1e4).astype(np.float32)}
CAUSAL = {"add": np.where(np.tri(3), 0, -1e4).astype(np.float32)}
ADD = "sx = Add(sc, add)"
SCALE = float(np.sqrt(0.5))

FUSED = [
    fused("Gelu", "y = Gelu(a)", X, f"z = Identity(a) {EXACT}", constants=HALF),
    fused("BiasGelu", "y = BiasGelu(a, b)", X | {"b": (3,)}, f"z = Add(a, b) {EXACT}", constants=HALF),
    fused("FastGelu", "y = FastGelu(a)", X, f"z = Identity(a) {TANH}", constants=FAST),
    fused(
        "FastGelu",
        "y = FastGelu(a, b)",
        X | {"b": (3,)},
        f"z = Add(a, b) {TANH}",
        constants=FAST,
        label="bias",
    ),
    fused(
        "QuickGelu",
        "y = QuickGelu<alpha=1.5>(a)",
        X,
        "m = Mul(a, k) s = Sigmoid(m) y = Mul(a, s)",
        constants={"k": number(1.5)},
    ),
    fused(
        "FusedConv",
        'y = FusedConv<activation="LeakyRelu", activation_params=[0.2], pads=[1, 1, 1, 1]>(a, w, b, r)',
        {"a": (2, 2, 3, 3), "w": (2, 2, 3, 3), "b": (2,), "r": (2, 2, 3, 3)},
        "c = Conv<pads=[1, 1, 1, 1]>(a, w, b) s = Add(c, r) y = LeakyRelu<alpha=0.2>(s)",
    ),
    fused(
        "FusedConv",
        'y = FusedConv<activation="Clip", activation_params=[-0.5, 0.5]>(a, w)',
        {"a": (2, 2, 3, 3), "w": (2, 2, 2, 2)},
        "c = Conv(a, w) y = Clip(c, l, h)",
        constants={"l": number(-0.5), "h": number(0.5)},
        label="clip",
    ),
    fused(
        "FusedGemm",
        'y = FusedGemm<activation="Relu", alpha=0.5, transB=1>(a, w, b)',
        {"a": (4, 3), "w": (2, 3), "b": (2,)},
        "g = Gemm<alpha=0.5, transB=1>(a, w, b) y = Relu(g)",
    ),
    *(
        fused(
            op,
            f"y = {op}<transA=1, transB=1, alpha=0.5>(a, b)",
            {"a": (2, 3, 4), "b": (2, 5, 3)},
            "c = Transpose<perm=[0, 2, 1]>(a) d = Transpose<perm=[0, 2, 1]>(b) m = MatMul(c, d) y = Mul(m, k)",
            constants={"k": number(0.5)},
        )
        for op in ("FusedMatMul", "TransposeMatMul")
    ),
    Row(
        "SimplifiedLayerNormalization",
        "y = SimplifiedLayerNormalization<axis=-1, epsilon=0.001>(a, s)",
        TOKENS | {"s": (4,)},
        EPSILON,
        twin=RMS.format(x="a", y="y"),
    ),
    fused(
        "SkipLayerNormalization",
        "y, , , t = SkipLayerNormalization<epsilon=0.001>(a, b, s, g, c)",
        TOKENS | {"b": (2, 3, 4), "s": (4,), "g": (4,), "c": (4,)},
        f"ab = Add(a, b) t = Add(ab, c) {NORM} y = Add(w, g)",
        constants=EPSILON,
        outputs=("y", "t"),
    ),
    fused(
        "SkipSimplifiedLayerNormalization",
        "y = SkipSimplifiedLayerNormalization<epsilon=0.001>(a, b, s)",
        TOKENS | {"b": (2, 3, 4), "s": (4,)},
        f"t = Add(a, b) {RMS.format(x='t', y='y')}",
        constants=EPSILON,
    ),
    fused(
        "EmbedLayerNormalization",
        "y, n, t = EmbedLayerNormalization<epsilon=0.001>(i, g, a, p, q, s, c, mask) z = Add(y, t)",
        {"a": (5, 4), "p": (3, 4), "q": (2, 4), "s": (4,), "c": (4,)},
        f"k0 = Gather(a, i) k1 = Gather(q, g) k2 = Add(k0, p) t = Add(k2, k1) {NORM} y = Add(w, c) z = Add(y, t)",
        constants={
            **EPSILON,
            **MASK,
            "i": np.array([[0, 4, 2], [1, 1, 3]], np.int32),
            "g": np.array([[0, 1, 1], [0, 0, 0]], np.int32),
        },
        outputs=("z",),
    ),
    fused(
        "Attention",
        "e0, n, e1 = com.microsoft.EmbedLayerNormalization(i, , a, p, , s, s, mask) "
        "y = Attention<num_heads=2>(e1, w, b, n)",
        {"a": (5, 4), "p": (3, 4), "w": (4, 12), "b": (12,)},
        "k0 = Gather(a, i) e1 = Add(k0, p) "
        + PACKED.replace("MatMul(a", "MatMul(e1")
        + attention(SCALE, ADD),
        constants={
            **SHAPES,
            "mask": np.array([[1, 1, 0], [1, 0, 1]], np.int32),
            "i": np.array([[0, 4, 2], [1, 1, 3]], np.int32),
            "s": np.ones(4, np.float32),
            "add": np.where([[1, 1, 0], [1, 1, 0]], 0, -1e4).astype(np.float32)[:, None, None],
            "thirds": np.array([4, 4, 4]),
        },
        label="lengths",
    ),
    fused(
        "Attention",
        "y = Attention<num_heads=2>(a, w, b, mask)",
        TOKENS | {"w": (4, 12), "b": (12,)},
        PACKED + attention(SCALE, ADD),
        constants={**SHAPES, **MASK, **ADDED, "thirds": np.array([4, 4, 4])},
    ),
    fused(
        "Attention",
        "y = Attention<num_heads=2, unidirectional=1, scale=0.3>(a, w, b)",
        TOKENS | {"w": (4, 12), "b": (12,)},
        PACKED + attention(0.3, ADD),
        constants={**SHAPES, **CAUSAL, "thirds": np.array([4, 4, 4])},
        label="causal",
    ),
    fused(
        "MultiHeadAttention",
        "y = MultiHeadAttention<num_heads=2>(a, e, f, b, mask, d)",
        TOKENS | {"e": (2, 3, 4), "f": (2, 3, 4), "b": (12,), "d": (2, 2, 3, 3)},
        "c0, c1, c2 = Split<axis=0>(b, thirds) q = Add(a, c0) k = Add(e, c1) v = Add(f, c2) "
        + attention(SCALE, "sy = Add(sc, add) sx = Add(sy, d)"),
        constants={**SHAPES, **MASK, **ADDED, "thirds": np.array([4, 4, 4])},
    ),
    fused(
        "MultiHeadAttention",
        "y = MultiHeadAttention<num_heads=2, scale=0.3>(a, e, f)",
        TOKENS | {"e": (2, 5, 4), "f": (2, 5, 4)},
        "q = Identity(a) k = Identity(e) v = Identity(f) " + attention(0.3),
        constants=SHAPES,
        label="crosswise",
    ),
    fused(
        "Inverse",
        "y = Inverse(a)",
        {"a": (2, 2, 2)},
        "f = Reshape(a, flat) p, q, r, s = Split<axis=1>(f) ps = Mul(p, s) qr = Mul(q, r) d = Sub(ps, qr) "
        "nq = Neg(q) nr = Neg(r) j = Concat<axis=1>(s, nq, nr, p) k = Div(j, d) y = Reshape(k, square)",
        constants={"flat": np.array([2, 4]), "square": np.array([2, 2, 2])},
    ),
    fused(
        "GridSample",
        "y = GridSample<align_corners=1>(a, g)",
        {"a": (2, 2, 3, 4), "g": (2, 2, 2, 2)},
        'y = GridSample<align_corners=1, mode="bilinear">(a, g)',
    ),
]

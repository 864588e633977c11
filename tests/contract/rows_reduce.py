"""Rows of reductions and other operators along an axis."""

from __future__ import annotations

from .rows import PRUNABLE, Row, image, whole

NOT_ZERO = "not zero"
EVERY = "every position"


def _reduced(op: str, expect: str, opset: int = 17) -> list[Row]:
    """Over space (to [N,C,1,1] and to [N,C]) by the spelling of the opset."""
    if opset >= 18 or (op == "ReduceSum" and opset >= 13):
        params, call = "int64[2] ax = {2, -1}", f"{op}(h, ax)"
        flat = f"t = {op}<keepdims=0>(h, ax)"
    else:
        params, call = "", f"{op}<axes=[2,-1]>(h)"
        flat = f"t = {op}<axes=[2,3],keepdims=0>(h)"
    sizes = "int64[4] sh = {-1, 6, 1, 1}"
    return [
        image(op, f"over space, opset {opset}", expect, f"z = {call}", params, opset=opset),
        image(
            op,
            f"over space to [N,C], opset {opset}",
            expect,
            f"{flat} z = Reshape(t, sh)",
            f"{params}, {sizes}" if params else sizes,
            opset=opset,
        ),
    ]


def _over_channels(op: str, expect: str, opset: int = 17) -> Row:
    if opset >= 18 or (op == "ReduceSum" and opset >= 13):
        return image(
            op,
            f"over channels, opset {opset}",
            expect,
            f"z = {op}(h, ax)",
            "int64[1] ax = {1}",
            opset=opset,
            channels=1,
        )
    return image(
        op, f"over channels, opset {opset}", expect, f"z = {op}<axes=[1]>(h)", opset=opset, channels=1
    )


SUMS = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")

ROWS: list[Row] = [
    *(row for op in (*SUMS, "ReduceMean", "ReduceMax", "ReduceMin") for row in _reduced(op, PRUNABLE)),
    *(row for op in (*SUMS, "ReduceMean", "ReduceMax") for row in _reduced(op, PRUNABLE, 18)),
    *_reduced("ReduceSum", PRUNABLE, 11),
    *(_over_channels(op, PRUNABLE) for op in SUMS),
    *(_over_channels(op, PRUNABLE, 18) for op in SUMS),
    _over_channels("ReduceMean", PRUNABLE),
    _over_channels("ReduceMean", PRUNABLE, 18),
    *(_over_channels(op, PRUNABLE) for op in ("ReduceMax", "ReduceMin")),
    _over_channels("ReduceMax", PRUNABLE, 18),
    _over_channels("ReduceProd", EVERY),
    image(
        "ReduceMax",
        "over channels of a constant",
        "non-zero constant",
        "s = Sigmoid(h) m = ReduceMax<axes=[1]>(s) z = Mul(h, m)",
    ),
    image("ReduceProd", "over space", NOT_ZERO, "z = ReduceProd<axes=[2,3]>(h)"),
    image("ReduceLogSum", "over space", NOT_ZERO, "a = Abs(h) z = ReduceLogSum<axes=[2,3]>(a)"),
    image("ReduceLogSumExp", "over space", NOT_ZERO, "z = ReduceLogSumExp<axes=[2,3]>(h)"),
    image(
        "ReduceLogSumExp", "over space, a gate", PRUNABLE, "g = ReduceLogSumExp<axes=[2,3]>(h) z = Mul(h, g)"
    ),
    image("ReduceSum", "no axes: all", PRUNABLE, "z = ReduceSum(h)", channels=1),
    image(
        "ReduceSum",
        "no axes: none",
        PRUNABLE,
        "z = ReduceSum<noop_with_empty_axes=1>(h, ax)",
        "int64[0] ax = {}",
        opset=18,
    ),
    image(
        "ReduceSum",
        "of a constant",
        "non-zero constant",
        "e = Exp(h) z = ReduceSum(e, ax)",
        "int64[1] ax = {1}",
        channels=1,
    ),
    image("ReduceL2", "normalised over channels", PRUNABLE, "n = ReduceL2<axes=[1]>(h) z = Div(h, n)"),
    image(
        "ReduceL2",
        "weight norm",
        PRUNABLE,
        "l = ReduceL2<axes=[1,2,3]>(w3) n = Max(l, e) u = Div(w3, n) v = Mul(u, p) z = Conv<pads=[1,1,1,1]>(h, v)",
        "float[20,6,3,3] w3, float[20,1,1,1] p, float e = {0.001}",
        channels=20,
        probe="w3",
        size=20,
    ),
    image(
        "ReduceL2",
        "weight norm, zero over zero",
        PRUNABLE,
        "n = ReduceL2<axes=[1,2,3]>(w3) u = Div(w3, n) v = Mul(u, p) z = Conv<pads=[1,1,1,1]>(h, v)",
        "float[20,6,3,3] w3, float[20,1,1,1] p",
        channels=20,
        probe="w3",
        size=20,
    ),
    image(
        "ReduceL2",
        "weight norm: what it reads",
        PRUNABLE,
        "n = ReduceL2<axes=[1,2,3]>(w3) u = Div(w3, n) v = Mul(u, p) z = Conv<pads=[1,1,1,1]>(h, v)",
        "float[20,6,3,3] w3, float[20,1,1,1] p",
        channels=20,
    ),
    image("ArgMax", "over space, a gate", PRUNABLE, "i = ArgMax<axis=3>(h) c = Cast<to=1>(i) z = Mul(h, c)"),
    image(
        "ArgMax",
        "the last of equal ones",
        NOT_ZERO,
        "i = ArgMax<axis=3,select_last_index=1>(h) z = Cast<to=1>(i)",
    ),
    image(
        "ArgMin",
        "the last of equal ones",
        NOT_ZERO,
        "i = ArgMin<axis=3,select_last_index=1>(h) z = Cast<to=1>(i)",
    ),
    image("ArgMax", "over channels", EVERY, "i = ArgMax<axis=1>(h) z = Cast<to=1>(i)", channels=1),
    image(
        "ArgMin",
        "over space without dimension",
        PRUNABLE,
        "i = ArgMin<axis=2,keepdims=0>(h) c = Cast<to=1>(i) u = Unsqueeze(c, ax) z = Mul(h, u)",
        "int64[1] ax = {2}",
    ),
    image("ArgMin", "over channels", EVERY, "i = ArgMin<axis=1>(h) z = Cast<to=1>(i)", channels=1),
    image("TopK", "over space", NOT_ZERO, "z, i = TopK(h, k)", "int64[1] k = {2}"),
    image(
        "TopK",
        "over space, a gate",
        PRUNABLE,
        "v, i = TopK<axis=3>(h, k) c = Cast<to=1>(i) m = ReduceMean<axes=[3]>(h) t = Mul(v, m) z = Mul(t, m)",
        "int64[1] k = {2}",
    ),
    image("TopK", "over channels", EVERY, "z, i = TopK<axis=1>(h, k)", "int64[1] k = {2}", channels=2),
    image("CumSum", "over space, a gate", PRUNABLE, "c = CumSum(h, ax) z = Mul(h, c)", "int64 ax = {3}"),
    image("CumSum", "over space", PRUNABLE, "z = CumSum(h, ax)", "int64 ax = {2}", size=6),
    image(
        "CumSum", "over space, of a constant", "not zero", "k = Exp(h) z = CumSum(k, ax)", "int64 ax = {2}"
    ),
    image("ArgMax", "over space, as a number", "not zero", "a = ArgMax<axis=2>(h) z = Cast<to=1>(a)"),
    image("CumSum", "over channels", EVERY, "z = CumSum(h, ax)", "int64 ax = {1}"),
    whole(
        "ReduceMean",
        "layer norm written out",
        PRUNABLE,
        """g (float[N,T,5] x) => (float[N,T,4] y)
        <float[5,8] w1, float[8] b1, float[8] s, float[8] p, float[8,4] w2, float two = {2.0}, float eps = {0.001}>
        { m = MatMul(x, w1) h = Add(m, b1) mu = ReduceMean<axes=[-1]>(h) d = Sub(h, mu) q = Pow(d, two)
          v = ReduceMean<axes=[-1]>(q) ve = Add(v, eps) sd = Sqrt(ve) n = Div(d, sd)
          ns = Mul(n, s) z = Add(ns, p) y = MatMul(z, w2) }""",
        axis=1,
        size=8,
    ),
    whole(
        "ReduceSum",
        "variance of centred lanes",
        PRUNABLE,
        """g (float[N,T,5] x) => (float[N,T,1] y)
        <float[5,8] w1, float[8] b1, int64[1] ax = {-1}>
        { m = MatMul(x, w1) h = Add(m, b1) mu = ReduceMean<axes=[-1]>(h) d = Sub(h, mu) q = Mul(d, d)
          y = ReduceSum(q, ax) }""",
        axis=1,
        size=8,
    ),
]

"""Rows of If, Loop and Scan: what branches and trips have in common, and what stays whole."""

from __future__ import annotations

from .rows import EITHER, PRUNABLE, Row, whole

FREE = "reads a value that is not zero with its group"
ROUND = "does not stay what it starts as"


def rows(op: str, title: str, expect: str, body: str, params: str = "", **more: object) -> Row:
    """Return a row x [N,5] -> MatMul w1 -> h [N,12] -> `body` -> z [N,12] -> MatMul w2 -> y [N,4].

    `c` is a truth value that the input decides, `zeros` is [2,12], `m` is 3.
    """
    more.setdefault("axis", 1)
    extra = f", {params}" if params else ""
    text = f"""g (float[2,5] x) => (float[2,4] y)
        <float[5,12] w1, float[12,4] w2, float nil = {{0}}, int64 m = {{3}},
         float[2,12] zeros = {{{", ".join("0" * 24)}}}{extra}>
        {{ h = MatMul(x, w1) a0 = ReduceSum<keepdims=0>(x) c = Less(a0, nil)
           {body} y = MatMul(z, w2) }}"""
    return whole(op, title, expect, text, **more)  # type: ignore[arg-type]


def branches(one: str, other: str, given: str = "z", weights: tuple[str, str] = ("", "")) -> str:
    """Return an If whose branches make p and q."""
    declared = [f"<{each}> " if each else "" for each in weights]
    return (
        f"{given} = If (c) <then_branch = t () => (float[A,B] p) {declared[0]}{{ {one} }}, "
        f"else_branch = e () => (float[C,D] q) {declared[1]}{{ {other} }}>"
    )


def loop(
    start: str, body: str, *, out: str = "z", weights: str = "", trips: str = "m", sizes: str = "2,12"
) -> str:
    """Return a Loop that carries s [2,12] and makes r of it."""
    inner = f"<{weights}> " if weights else ""
    return (
        f"{out} = Loop ({trips}, , {start}) <body = b (int64 i, bool go, float[{sizes}] s) => "
        f"(bool on, float[{sizes}] r) {inner}{{ {body} on = Identity(go) }}>"
    )


def scan(start: str, parts: str, body: str, *, out: str, weights: str = "", how: str = "") -> str:
    """Return a Scan that carries s [2,12], reads part [2,12] and gives r and e."""
    inner = f"<{weights}> " if weights else ""
    return (
        f"{out} = Scan ({start}, {parts}) <num_scan_inputs = 1{how}, body = b (float[2,12] s, float[2,12] part) => "
        f"(float[2,12] r, float[2,12] e) {inner}{{ {body} }}>"
    )


OWN = ("float[12,12] u", "float[12,12] v")
LAYERS = branches("j = MatMul(h, u) p = Relu(j)", "k = MatMul(h, v) q = Tanh(k)", weights=OWN)
STACKED = (
    "ax = Constant<value = int64[1] {0}>() h1 = Unsqueeze(h, ax) h2 = Neg(h1) hs = Concat<axis=0>(h1, h2) "
)
SUM = "z = ReduceSum<keepdims=0>(st, ax)"

ROWS: list[Row] = [
    # --- If ---------------------------------------------------------------------------------------------------
    rows("If", "weights in the branches", PRUNABLE, LAYERS, size=12),
    rows("If", "weights in the branches make one set of channels", PRUNABLE, LAYERS, probe="u", size=12),
    rows(
        "If",
        "weights outside, one read by both branches",
        PRUNABLE,
        branches("j = MatMul(h, u) p = Relu(j)", "k = MatMul(h, u) n = Neg(k) q = Relu(n)"),
        "float[12,12] u",
        probe="u",
        size=12,
    ),
    rows("If", "one branch passes it on", PRUNABLE, branches("p = Relu(h)", "q = Identity(h)"), size=12),
    rows("If", "one branch gives zeros", PRUNABLE, branches("p = Relu(h)", "q = Identity(zeros)"), size=12),
    rows("If", "one branch gives a constant", FREE, branches("p = Relu(h)", "q = Sigmoid(h)")),
    rows(
        "If",
        "the condition changes nothing",
        PRUNABLE,
        branches("p = Sigmoid(h)", "q = Softplus(h)", "o") + " z = Mul(h, o)",
        size=12,
    ),
    rows(
        "If",
        "branches of other widths",
        "has branches that give other sizes",
        branches("p = MatMul(h, u)", "q = MatMul(h, v)", "o", ("float[12,6] u", "float[12,7] v"))
        + " k = ReduceMean<axes=[1],keepdims=1>(o) z = Add(k, zeros)",
        probe="u",
    ),
    rows(
        "If",
        "branches of other ranks, both possible",
        "gives tensors of different ranks",
        branches("ax = Constant<value = int64[1] {0}>() p = Unsqueeze(h, ax)", "q = Relu(h)", "o")
        + " sh = Constant<value = int64[2] {2,12}>() k = Reshape(o, sh) z = Relu(k)",
    ),
    rows(
        "If",
        "in a branch of another, a weight in each",
        PRUNABLE,
        branches(
            "n = If (c) <then_branch = tt () => (float[F,G] pp) <float[12,12] u2> { pp = MatMul(h, u2) }, "
            "else_branch = ee () => (float[H,I] qq) { qq = Neg(h) }> p = Relu(n)",
            "q = MatMul(h, v)",
            weights=("", "float[12,12] v"),
        ),
        probe="v",
        size=12,
    ),
    rows(
        "If",
        "two outputs, one of them whole",
        PRUNABLE,
        "z, o = If (c) <then_branch = t () => (float[A,B] p, float[A,E] p2) { p = Relu(h) p2 = Abs(x) }, "
        "else_branch = e () => (float[C,D] q, float[C,F] q2) { q = Tanh(h) q2 = Neg(x) }> o2 = ReduceMax(o)",
        size=12,
    ),
    # --- Loop -------------------------------------------------------------------------------------------------
    rows(
        "Loop",
        "state from a layer",
        PRUNABLE,
        loop("h", "j = MatMul(s, u) r = Tanh(j)", weights=OWN[0]),
        size=12,
    ),
    rows(
        "Loop",
        "state from a layer, the weight makes its channels",
        PRUNABLE,
        loop("h", "j = MatMul(s, u) r = Tanh(j)", weights=OWN[0]),
        probe="u",
        size=12,
    ),
    rows(
        "Loop",
        "state from zeros, a layer read inside",
        PRUNABLE,
        loop("zeros", "j = MatMul(s, u) k = Add(j, h) r = Tanh(k)", weights=OWN[0]),
        size=12,
    ),
    rows(
        "Loop",
        "state from a parameter, which is zeroed with its group",
        PRUNABLE,
        loop("p0", "r = Add(s, h)"),
        "float[2,12] p0",
        size=12,
    ),
    rows(
        "Loop",
        "a number that is zero in the first trip only",
        ROUND,
        "z, o = Loop (m, , h, nil) <body = b (int64 i, bool go, float[2,12] s, float g) => "
        "(bool on, float[2,12] r, float g1) { r = Add(s, g) one = Constant<value = float {1}>() g1 = Add(g, one) "
        "on = Identity(go) }>",
    ),
    rows("Loop", "a sum over trips", PRUNABLE, loop("zeros", "r = Add(s, h)"), size=12),
    rows(
        "Loop",
        "never run",
        PRUNABLE,
        loop("h", "j = MatMul(s, u) r = Tanh(j)", weights=OWN[0], trips="none"),
        "int64 none = {0}",
        size=12,
    ),
    rows("Loop", "zero becomes something", ROUND, loop("h", "r = Sigmoid(s)")),
    rows("Loop", "zero becomes something by a parameter", EITHER, loop("h", "r = Add(s, b)"), "float[12] b"),
    rows("Loop", "a constant that stays", PRUNABLE, "o = Sigmoid(h) " + loop("o", "r = Identity(s)")),
    rows("Loop", "another constant", ROUND, "o = Sigmoid(h) " + loop("o", "r = Mul(s, s)")),
    rows(
        "Loop",
        "state from an input of the model",
        "combines the axis with",
        "t = Constant<value = int64[2] {1,3}>() u1 = Tile(x, t) i0 = Constant<value = int64[1] {0}>() "
        "i1 = Constant<value = int64[1] {12}>() i2 = Constant<value = int64[1] {1}>() "
        "start = Slice(u1, i0, i1, i2) " + loop("start", "r = Add(s, h)"),
    ),
    rows(
        "Loop",
        "an axis that grows",
        "carries an axis that changes its size",
        loop("h", "r = Concat<axis=1>(s, s)", out="o", sizes="2,L")
        + " k = ReduceMean<axes=[1],keepdims=1>(o) z = Add(k, zeros)",
    ),
    rows(
        "Loop",
        "what every trip gives",
        PRUNABLE,
        "z0, st = Loop (m, , h) <body = b (int64 i, bool go, float[2,12] s) => (bool on, float[2,12] r, float[2,12] e) "
        "<float[12,12] u> { j = MatMul(s, u) r = Tanh(j) e = Relu(s) on = Identity(go) }> "
        "ax = Constant<value = int64[1] {0}>() z1 = ReduceSum<keepdims=0>(st, ax) z = Add(z0, z1)",
        probe="u",
        size=12,
    ),
    rows(
        "Loop",
        "an If inside",
        PRUNABLE,
        loop("h", branches("j = MatMul(s, u) p = Relu(j)", "q = Neg(s)", "r", (OWN[0], ""))),
        probe="u",
        size=12,
    ),
    rows(
        "Loop",
        "inside of an If",
        PRUNABLE,
        branches(loop("h", "j = MatMul(s, u) r = Tanh(j)", weights=OWN[0], out="p"), "q = Abs(h)"),
        probe="u",
        size=12,
    ),
    rows(
        "Loop",
        "ends by itself",
        PRUNABLE,
        "z = Loop (m, c, h) <body = b (int64 i, bool go, float[2,12] s) => (bool on, float[2,12] r) "
        "<float[12,12] u> { j = MatMul(s, u) r = Tanh(j) k = ReduceSum<keepdims=0>(r) on = Less(k, nil) }>",
        size=12,
    ),
    rows(
        "Loop",
        "a weight that is read outside, too",
        PRUNABLE,
        "g1 = MatMul(h, u) g2 = Relu(g1) " + loop("g2", "j = MatMul(s, u) r = Tanh(j)"),
        "float[12,12] u",
        probe="u",
        size=12,
    ),
    rows(
        "Loop",
        "heads inside",
        PRUNABLE,
        loop(
            "h",
            "j = MatMul(s, u) k = Reshape(j, split) n = Transpose<perm=[0,2,1]>(k) l = Transpose<perm=[0,2,1]>(n) "
            "o = Reshape(l, whole) r = Tanh(o)",
            weights="float[12,12] u, int64[3] split = {2,3,4}, int64[2] whole = {2,12}",
        ),
        probe="u",
    ),
    # --- Scan -------------------------------------------------------------------------------------------------
    rows(
        "Scan",
        "a state from zeros, and what every trip gives",
        PRUNABLE,
        STACKED
        + scan(
            "zeros",
            "hs",
            "j = MatMul(s, u) k = Add(j, part) r = Tanh(k) e = Relu(r)",
            out="o, st",
            weights=OWN[0],
        )
        + f" z0 = {SUM[4:]} z = Add(z0, o)",
        size=12,
    ),
    rows(
        "Scan",
        "along another axis, stacked behind",
        PRUNABLE,
        STACKED
        + "ht = Transpose<perm=[1,0,2]>(hs) "
        + scan(
            "zeros",
            "ht",
            "k = Add(s, part) r = Tanh(k) e = MatMul(r, u)",
            out="o, st",
            weights=OWN[0],
            how=", scan_input_axes = [1], scan_output_axes = [-1]",
        )
        + " a2 = Constant<value = int64[1] {2}>() z = ReduceSum<keepdims=0>(st, a2)",
        probe="u",
        size=12,
    ),
    rows(
        "Scan",
        "along the channels",
        "goes along the axis",
        "hc = Transpose<perm=[1,0]>(h) "
        "o, st = Scan (s0, hc) <num_scan_inputs = 1, body = b (float[2] s, float[2] part) => (float[2] r, float[2] e) "
        "{ r = Add(s, part) e = Relu(r) }> sh = Constant<value = int64[2] {2,12}>() "
        "sm = Transpose<perm=[1,0]>(st) z = Reshape(sm, sh)",
        "float[2] s0 = {0,0}",
    ),
]

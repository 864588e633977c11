"""More rows of recurrent layers, attention, Einsum and fused operators, in the middle of a network."""

from __future__ import annotations

from .rows import EITHER, PRUNABLE, Row, whole

MS = "com.microsoft"
FROZEN = ""
"""Some reason; which one is not the point of the row."""


def _tokens(
    op: str,
    title: str,
    expect: str,
    body: str,
    params: str = "",
    *,
    opset: int = 17,
    probe: str = "w1",
    axis: int = 1,
    size: int | None = None,
    inputs: str = "",
    outputs: str = "",
    width: int = 8,
) -> Row:
    """Return a row x [2,4,5] -> MatMul w1 -> h [2,4,8] -> `body` -> z [2,4,width] -> MatMul w2 -> y [2,4,3]."""
    more = f", {params}" if params else ""
    text = f"""g (float[2,4,5] x{inputs}) => (float[2,4,3] y{outputs})
        <float[5,8] w1, float[{width},3] w2{more}>
        {{ h = MatMul(x, w1) {body} y = MatMul(z, w2) }}"""
    return whole(op, f"between, {title}", expect, text, opset=opset, probe=probe, axis=axis, size=size)


def _recurrent(op: str, gates: int, title: str, expect: str, extra: str = "", **options: object) -> Row:
    """Return a row of one direction with biases, hidden size 6, read by a MatMul."""
    body = f"t = Transpose<perm=[1,0,2]>(h) r0, n = {op}<hidden_size=6{extra}>(t, w, r, b)"
    body += " q = Squeeze(r0, ax) z = Transpose<perm=[1,0,2]>(q)"
    params = (
        f"float[1,{6 * gates},8] w, float[1,{6 * gates},6] r, float[1,{12 * gates}] b, int64[1] ax = {{1}}"
    )
    return _tokens(op, title, expect, body, params, width=6, **options)  # type: ignore[arg-type]


RECURRENT: list[Row] = [
    _recurrent("LSTM", 4, "hidden units", PRUNABLE, probe="w", size=6),
    _recurrent("LSTM", 4, "input", PRUNABLE, size=8),
    _recurrent("GRU", 3, "hidden units", PRUNABLE, probe="r", size=6),
    _recurrent("GRU", 3, "linear before reset", PRUNABLE, ",linear_before_reset=1", probe="r", size=6),
    _recurrent("RNN", 1, "hidden units", PRUNABLE, probe="w", size=6),
    _recurrent("RNN", 1, "relu", PRUNABLE, ',activations=["Relu"]', probe="w", size=6),
    _recurrent("RNN", 1, "sigmoid", "not zero at zero", ',activations=["Sigmoid"]', probe="w"),
    _recurrent(
        "RNN",
        1,
        "affine with an offset",
        FROZEN,
        ',activations=["Affine"],activation_alpha=[0.5],activation_beta=[0.3]',
        probe="w",
    ),
    _tokens(
        "LSTM",
        "both directions, peepholes, no bias",
        PRUNABLE,
        """t = Transpose<perm=[1,0,2]>(h)
        r0, n, m = LSTM<hidden_size=4,direction="bidirectional">(t, w, r, , , , , p)
        u = Transpose<perm=[2,0,1,3]>(r0) z = Reshape(u, sh)""",
        "float[2,16,8] w, float[2,16,4] r, float[2,12] p, int64[3] sh = {2,4,8}",
        probe="w",
        size=4,
    ),
    _tokens(
        "LSTM",
        "final state, two layers",
        PRUNABLE,
        """t = Transpose<perm=[1,0,2]>(h) r0, n, m = LSTM<hidden_size=6>(t, w, r, b) q = Squeeze(r0, ax)
        r1, n1, m1 = LSTM<hidden_size=8>(q, v, s) q1 = Squeeze(n1, a0) u = Unsqueeze(q1, ax) z = Add(h, u)""",
        """float[1,24,8] w, float[1,24,6] r, float[1,48] b, float[1,32,6] v, float[1,32,8] s, int64[1] ax = {1},
        int64[1] a0 = {0}""",
        probe="w",
        size=6,
    ),
    _tokens(
        "GRU",
        "initial state given",
        "state that stays whole: it comes from the model's input",
        """t = Transpose<perm=[1,0,2]>(h) r0, n = GRU<hidden_size=8>(t, w, r, , , h0) q = Squeeze(r0, ax)
        z = Transpose<perm=[1,0,2]>(q)""",
        "float[1,24,8] w, float[1,24,8] r, int64[1] ax = {1}",
        inputs=", float[1,2,8] h0",
        probe="w",
    ),
    _tokens(
        "GRU",
        "initial state that is a parameter",
        PRUNABLE,
        """t = Transpose<perm=[1,0,2]>(h) r0, n = GRU<hidden_size=8>(t, w, r, , , h0) q = Squeeze(r0, ax)
        z = Transpose<perm=[1,0,2]>(q)""",
        "float[1,24,8] w, float[1,24,8] r, float[1,2,8] h0, int64[1] ax = {1}",
        probe="w",
    ),
    _tokens(
        "GRU",
        "initial state of zeros",
        PRUNABLE,
        """t = Transpose<perm=[1,0,2]>(h) h0 = ConstantOfShape(sh) r0, n = GRU<hidden_size=8>(t, w, r, , , h0)
        q = Squeeze(r0, ax) z = Transpose<perm=[1,0,2]>(q)""",
        "float[1,24,8] w, float[1,24,8] r, int64[1] ax = {1}, int64[3] sh = {1,2,8}",
        probe="w",
        size=8,
    ),
]
PROJECTED = "float[8,8] wq, float[8,8] wk, float[8,8] wv"
PROJECT = "q = MatMul(h, wq) k = MatMul(h, wk) v = MatMul(h, wv)"
CACHE = "float[4,1] cos, float[4,1] sin, int64[2,4] ids = {0,1,2,3,0,1,2,3}"

ATTENTION: list[Row] = [
    _tokens(
        f"{MS}::RotaryEmbedding",
        "of a constant",
        "not zero",
        f"q = MatMul(h, wq) e = Sigmoid(q) z = {MS}.RotaryEmbedding<num_heads=4>(e, ids, cos, sin)",
        f"float[8,8] wq, {CACHE}",
        probe="wq",
    ),
    _tokens(
        "RotaryEmbedding",
        "of a constant",
        "not zero",
        "q = MatMul(h, wq) e = Sigmoid(q) z = RotaryEmbedding<num_heads=4>(e, cos, sin, ids)",
        f"float[8,8] wq, {CACHE}",
        opset=23,
        probe="wq",
    ),
    _tokens(
        "Attention",
        "flat",
        PRUNABLE,
        f"{PROJECT} z = Attention<q_num_heads=4,kv_num_heads=4>(q, k, v)",
        PROJECTED,
        opset=23,
        probe="wv",
        size=4,
    ),
    _tokens(
        "Attention",
        "grouped queries, causal",
        PRUNABLE,
        f"{PROJECT} z = Attention<q_num_heads=4,kv_num_heads=2,is_causal=1>(q, k, v)",
        "float[8,8] wq, float[8,4] wk, float[8,4] wv",
        opset=23,
        probe="wv",
        size=2,
    ),
    _tokens(
        f"{MS}::MultiHeadAttention",
        "bias",
        PRUNABLE,
        f"{PROJECT} z = {MS}.MultiHeadAttention<num_heads=4>(q, k, v, b)",
        f"{PROJECTED}, float[24] b",
        probe="wv",
        size=4,
    ),
    _tokens(
        f"{MS}::MultiHeadAttention",
        "no bias",
        PRUNABLE,
        f"{PROJECT} z = {MS}.MultiHeadAttention<num_heads=2>(q, k, v)",
        PROJECTED,
        probe="wq",
        size=2,
    ),
    _tokens(
        f"{MS}::Attention",
        "projection inside",
        PRUNABLE,
        f"z = {MS}.Attention<num_heads=4>(h, w, b)",
        "float[8,24] w, float[24] b",
        probe="w",
        size=4,
    ),
    _tokens(
        f"{MS}::Attention",
        "what it reads",
        PRUNABLE,
        f"z = {MS}.Attention<num_heads=4>(h, w, b)",
        "float[8,24] w, float[24] b",
        size=8,
    ),
    _tokens(
        "RotaryEmbedding",
        "heads",
        PRUNABLE,
        f"{PROJECT} p = RotaryEmbedding<num_heads=4>(q, cos, sin, ids)"
        " o = RotaryEmbedding<num_heads=4>(k, cos, sin, ids)"
        " z = Attention<q_num_heads=4,kv_num_heads=4>(p, o, v)",
        f"{PROJECTED}, {CACHE}",
        opset=23,
        probe="wq",
        size=4,
    ),
    _tokens(
        f"{MS}::RotaryEmbedding",
        "heads",
        PRUNABLE,
        f"{PROJECT} p = {MS}.RotaryEmbedding<num_heads=4>(q, ids, cos, sin)"
        f" o = {MS}.RotaryEmbedding<num_heads=4>(k, ids, cos, sin)"
        f" z = {MS}.MultiHeadAttention<num_heads=4>(p, o, v)",
        f"{PROJECTED}, {CACHE}",
        probe="wq",
        size=4,
    ),
    _tokens(
        f"{MS}::RotaryEmbedding",
        "heads from the cache",
        PRUNABLE,
        f"{PROJECT} p = {MS}.RotaryEmbedding(q, ids, cos, sin) z = {MS}.MultiHeadAttention<num_heads=4>(p, k, v)",
        f"{PROJECTED}, {CACHE}",
        probe="wv",
        size=4,
    ),
    _tokens(
        f"{MS}::GroupQueryAttention",
        "prompt",
        PRUNABLE,
        f"{PROJECT} z, pk, pv = {MS}.GroupQueryAttention<num_heads=4,kv_num_heads=2>(q, k, v, , , len, total)",
        "float[8,64] wq, float[8,32] wk, float[8,32] wv, int32[2] len = {3,3}, int32[1] total = {4}",
        probe="wv",
        size=2,
        width=64,
    ),
]


def _gemm(
    title: str, expect: str, attributes: str, *, probe: str = "w1", between: str = "Relu", **options: int
) -> Row:
    """Return a row x [3,5] -> Gemm w0 -> `between` -> FusedGemm w1, c -> MatMul w2 -> y [3,4]."""
    shape = "7,6" if "transB" in attributes else "6,7"
    text = f"""g (float[3,5] x) => (float[3,4] y) <float[6,5] w0, float[{shape}] w1, float[7] c, float[7,4] w2>
        {{ h = Gemm<transB=1>(x, w0) r = {between}(h) z = {MS}.FusedGemm<{attributes}>(r, w1, c)
           y = MatMul(z, w2) }}"""
    return whole(f"{MS}::FusedGemm", title, expect, text, probe=probe, **options)


def _embedding(title: str, reads: str, outputs: str, then: str, size: int = 8) -> Row:
    """Return a row of an embedding of width 8; `then` makes z of n (the norm), c (the count) or s (the sum)."""
    text = f"""g (int32[2,6] ids, int32[2,6] seg, int32[2,6] mask, int32[2,6] pos) => (float[2,6,3] y)
        <float[9,8] we, float[7,8] pe, float[2,8] se, float[8] g0, float[8] b0, float[8,3] w2, float[8,24] wa,
         float[24] ba>
        {{ {outputs} = {MS}.EmbedLayerNormalization<epsilon=0.1>({reads}) {then} y = MatMul(z, w2) }}"""
    return whole(f"{MS}::EmbedLayerNormalization", title, PRUNABLE, text, probe="pe", axis=1, size=size)


EMBEDDINGS = (
    ("all tables", "ids, seg, we, pe, se, g0, b0, mask", "n, c", "z = Relu(n)"),
    ("no segments", "ids, , we, pe, , g0, b0", "n, c", "z = Relu(n)"),
    ("places given, sum put out", "ids, seg, we, pe, se, g0, b0, , pos", "n, c, s", "z = Add(n, s)"),
    (
        "count read by attention",
        "ids, seg, we, pe, se, g0, b0, mask",
        "n, c",
        f"a = {MS}.Attention<num_heads=4>(n, wa, ba, c) z = Add(a, n)",
        4,
    ),
)

CONTRIB: list[Row] = [
    _tokens(
        "Einsum",
        "linear",
        PRUNABLE,
        'r = Relu(h) t = Einsum<equation="btc,cd->btd">(r, w) z = Tanh(t)',
        "float[8,8] w",
        probe="w",
        size=8,
    ),
    _tokens(
        "Einsum", "ellipsis", PRUNABLE, 'z = Einsum<equation="...c,dc->...d">(h, w)', "float[8,8] w", size=8
    ),
    _tokens(
        "Einsum",
        "scores and values",
        PRUNABLE,
        'e = Einsum<equation="bqc,bkc->bqk">(h, h) p = Softmax<axis=-1>(e) z = Einsum<equation="bqk,bkc->bqc">(p, h)',
        size=8,
    ),
    _tokens(
        "Einsum", "implicit output", PRUNABLE, 'z = Einsum<equation="abc,cd">(h, w)', "float[8,8] w", size=8
    ),
    _tokens(
        "Einsum",
        "diagonal",
        "diagonal",
        't = Transpose<perm=[0,2,1]>(h) e = MatMul(t, h) d = Einsum<equation="bii->bi">(e) u = Unsqueeze(d, ax)'
        " z = Mul(h, u)",
        "int64[1] ax = {1}",
    ),
    _tokens(f"{MS}::Gelu", "tokens", PRUNABLE, f"z = {MS}.Gelu(h)", size=8),
    _tokens(f"{MS}::QuickGelu", "tokens", PRUNABLE, f"z = {MS}.QuickGelu<alpha=1.5>(h)", size=8),
    _tokens(f"{MS}::FastGelu", "bias", PRUNABLE, f"z = {MS}.FastGelu(h, b)", "float[8] b", size=8),
    _tokens(f"{MS}::BiasGelu", "bias", PRUNABLE, f"z = {MS}.BiasGelu(h, b)", "float[8] b", size=8),
    _tokens(
        f"{MS}::FusedMatMul",
        "transposed",
        PRUNABLE,
        f"z = {MS}.FusedMatMul<transB=1,alpha=0.5>(h, w)",
        "float[8,8] w",
        size=8,
    ),
    _tokens(
        f"{MS}::FusedMatMul",
        "transposed, produced",
        PRUNABLE,
        f"z = {MS}.FusedMatMul<transB=1,alpha=0.5>(h, w)",
        "float[8,8] w",
        probe="w",
        axis=0,
        size=8,
    ),
    _tokens(
        f"{MS}::SkipLayerNormalization",
        "bias, sum put out",
        PRUNABLE,
        f"d = MatMul(h, w) n, , , s = {MS}.SkipLayerNormalization<epsilon=0.1>(h, d, g0, b0, c0) z = Add(n, s)",
        "float[8,8] w, float[8] g0, float[8] b0, float[8] c0",
        size=8,
    ),
    _tokens(
        f"{MS}::SkipSimplifiedLayerNormalization",
        "sum put out",
        PRUNABLE,
        f"d = MatMul(h, w) n, , , s = {MS}.SkipSimplifiedLayerNormalization<epsilon=0.1>(h, d, g0) z = Add(n, s)",
        "float[8,8] w, float[8] g0",
        size=8,
    ),
    _tokens(
        f"{MS}::TransposeMatMul",
        "transposed",
        PRUNABLE,
        f"z = {MS}.TransposeMatMul<transB=1,alpha=0.5>(h, w)",
        "float[8,8] w",
        size=8,
    ),
    _gemm("relu", PRUNABLE, 'activation="Relu",transB=1', size=7),
    _gemm("leaky, not transposed", PRUNABLE, 'activation="LeakyRelu",activation_alpha=0.1', axis=1, size=7),
    _gemm("input", PRUNABLE, 'activation="Tanh",transB=1,alpha=0.5,beta=2.0', probe="w0", size=6),
    _gemm("sigmoid, folded behind", PRUNABLE, 'activation="Sigmoid",transB=1', size=7),
    *(
        _gemm(
            f"{kind}, constants of the layer in front",
            PRUNABLE,
            attributes,
            probe="w0",
            size=6,
            between="Sigmoid",
        )
        for kind, attributes in (
            ("relu", 'activation="Relu",transB=1'),
            ("scaled", 'activation="Tanh",alpha=0.5,beta=-2.0'),
        )
    ),
    _gemm("nothing is added", "non-zero constant", 'activation="Relu",beta=0.0', probe="w0", between="Exp"),
    whole(
        f"{MS}::FusedGemm",
        "constants, first matrix transposed, nothing added",
        PRUNABLE,
        """g (float[5,3] x) => (float[3,4] y) <float[6,5] w0, float[6,7] w1, float[7,4] w2>
        { h = MatMul(w0, x) e = Exp(h) z = com.microsoft.FusedGemm<transA=1,activation="Relu">(e, w1)
          y = MatMul(z, w2) }""",
        probe="w0",
        size=6,
    ),
    *(
        whole(
            f"{MS}::FusedMatMul",
            f"constants, {title}",
            PRUNABLE,
            f"""g (float[2,5,3] x) => (float[2,3,4] y) <float[6,5] w0, float[4,6] w1>
            {{ h = MatMul(w0, x) e = Exp(h) {between} y = {MS}.FusedMatMul<{attributes}>({reads}, w1) }}""",
            probe="w0",
            size=6,
        )
        for title, between, attributes, reads in (
            ("first matrix transposed", "", "alpha=0.5,transA=1,transB=1", "e"),
            ("second matrix transposed", "t = Transpose<perm=[0,2,1]>(e)", "alpha=2.0,transB=1", "t"),
        )
    ),
    _gemm("shift alone", PRUNABLE, 'activation="Relu",beta=0.5,transB=1', probe="c", size=7),
    *(_embedding(*row) for row in EMBEDDINGS),
    *(
        whole(
            f"{MS}::FusedConv",
            f"of a sum, {title}, with whole blocks of channels or not",
            PRUNABLE,
            f"""g (float[2,3,6,6] x) => (float[2,4,6,6] y)
            <float[16,3,3,3] w1, float[16,16,3,3] w2, float[16] b2, float[16,16,1,1] w3, float[4,16,1,1] w4>
            {{ a = {MS}.FusedConv<activation="Relu",pads=[1,1,1,1]>(x, w1)
               h = {MS}.FusedConv<activation="Relu",pads=[1,1,1,1]>(a, w2)
               z = {MS}.FusedConv<{activation}>(h, w3, b2, a) y = Conv(z, w4) }}""",
            size=16,
        )
        for title, activation in (("relu", 'activation="Relu"'), ("as it is", "group=1"))
    ),
    whole(
        f"{MS}::FusedConv",
        "clip, zero inside",
        PRUNABLE,
        """g (float[2,3,6,6] x) => (float[2,4,6,6] y) <float[6,3,3,3] w1, float[6] b1, float[4,6,1,1] w2>
        { h = com.microsoft.FusedConv<activation="Clip",activation_params=[0.0,6.0],pads=[1,1,1,1]>(x, w1, b1)
          y = Conv(h, w2) }""",
        size=6,
    ),
    whole(
        f"{MS}::FusedConv",
        "clip, zero outside",
        EITHER,
        """g (float[2,3,6,6] x) => (float[2,4,6,6] y) <float[6,3,3,3] w1, float[6] b1, float[4,6,1,1] w2>
        { h = com.microsoft.FusedConv<activation="Clip",activation_params=[0.5,6.0],pads=[1,1,1,1]>(x, w1, b1)
          y = Conv(h, w2) }""",
    ),
    whole(
        f"{MS}::GridSample",
        "channels",
        PRUNABLE,
        """g (float[2,3,6,6] x, float[2,4,4,2] s) => (float[2,4,4,4] y) <float[6,3,3,3] w1, float[4,6,1,1] w2>
        { h = Conv<pads=[1,1,1,1]>(x, w1) r = Relu(h) z = com.microsoft.GridSample(r, s) y = Conv(z, w2) }""",
        size=6,
    ),
    whole(
        f"{MS}::FusedConv",
        "relu",
        PRUNABLE,
        """g (float[2,3,6,6] x) => (float[2,4,6,6] y) <float[6,3,3,3] w1, float[6] b1, float[4,6,1,1] w2>
        { h = com.microsoft.FusedConv<activation="Relu",pads=[1,1,1,1]>(x, w1, b1) y = Conv(h, w2) }""",
        size=6,
    ),
]
ROWS = [*RECURRENT, *ATTENTION, *CONTRIB]

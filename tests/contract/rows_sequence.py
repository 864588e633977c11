"""Rows of recurrent, attention and fused operators."""

from __future__ import annotations

from .rows import PRUNABLE, Row, image, vector, whole

MS = "com.microsoft"


def _recurrent(
    op: str, title: str, gates: int, *, both: bool = False, expect: str = PRUNABLE, more: str = ""
) -> Row:
    """x [T,N,3] -> op with 6 units -> its last state -> Gemm."""
    d, direction = (2, 'direction="bidirectional",') if both else (1, "")
    text = f"""g (float[T,N,3] x) => (float[T,N,4] y)
        <float[{d},{6 * gates},3] w1, float[{d},{6 * gates},6] r, float[{d},{12 * gates}] b, float[{6 * d},4] w2,
         int64[3] s = {{0,0,-1}}, float[1,1,6] start>
        {{ h = {op}<{direction}hidden_size=6{more}>(x, w1, r, b)
           t = Transpose<perm=[0,2,1,3]>(h)
           z = Reshape(t, s)
           y = MatMul(z, w2) }}"""
    return whole(op, title, expect, text, axis=1, size=6 if expect == PRUNABLE else None)


def _attention(
    op: str, title: str, call: str, extra: str = "", *, opset: int = 17, kv: int = 12, size: int = 3
) -> Row:
    """x [N,4,5] -> q, k, v [N,4,12] -> `call` -> a -> MatMul; probed: the values' projection."""
    text = f"""g (float[N,4,5] x) => (float[N,4,3] y)
        <float[5,12] wq, float[5,{kv}] wk, float[5,{kv}] w1, float[12,3] w2{extra}>
        {{ q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, w1)
           {call}
           y = MatMul(a, w2) }}"""
    return whole(op, title, PRUNABLE, text, opset=opset, axis=1, size=size)


def _started(op: str, title: str, gates: int, expect: str, starts: str, params: str, body: str = "") -> Row:
    """x [T,2,3] -> `op` with 6 units from `starts` (h0, or h0 and c0) -> its last state -> Gemm."""
    text = f"""g (float[T,2,3] x) => (float[2,4] y)
        <float[1,{gates * 6},3] w1, float[1,{gates * 6},6] r, float[1,{gates * 12}] b, float[6,4] w2,
         int64[1] ax = {{0}}, {params}>
        {{ {body} s, h = {op}<hidden_size=6>(x, w1, r, b, , {starts})
           z = Squeeze(h, ax) y = MatMul(z, w2) }}"""
    return whole(op, title, expect, text, axis=1, size=6 if expect == PRUNABLE else None)


ZEROS = "float[1,2,6] z0 = {" + ",".join(["0"] * 12) + "}"


def _tokens(
    op: str, call: str, params: str, *, opset: int = 17, size: int = 6, batch_first: bool = True
) -> Row:
    """Six learned tokens w1, scaled by x -> t [N,6,5] (or [6,N,5]) -> `call` -> z -> MatMul: all tokens stay."""
    shape, out, turn = (
        ("1,6,5", f"N,{size},4", "Identity")
        if batch_first
        else ("6,1,5", f"{size},N,4", "Transpose<perm=[1,0,2]>")
    )
    text = f"""g (float[N,7,5] x, int64[N,6] ids) => (float[{out}] y)
        <float[{shape}] w1, float[8,4] w2, int64[2] ax = {{1,2}}, {params}>
        {{ m = ReduceSum(x, ax) a = {turn}(m) t = Mul(a, w1) {call} y = MatMul(z, w2) }}"""
    return whole(op, "learned tokens", "the axis", text, opset=opset, axis=1 if batch_first else 0)


def _across(op: str, vectors: str) -> Row:
    """h [N,4,8] -> transposed [N,8,4] -> `op` over the four tokens: with a scale per token, channels are not zero."""
    names = ", ".join(part.split()[-1] for part in vectors.split(", "))
    text = f"""g (float[N,4,5] x) => (float[N,4,3] y) <float[5,8] w1, float[8,3] w2, {vectors}>
        {{ h = MatMul(x, w1) t = Transpose<perm=[0,2,1]>(h) n = {op.replace("::", ".")}(t, t, {names})
           z = Transpose<perm=[0,2,1]>(n) y = MatMul(z, w2) }}"""
    return whole(op, "over tokens", "not zero", text, axis=1)


ROWS: list[Row] = [
    _started("LSTM", "starts that are parameters", 4, PRUNABLE, "h0, c0", "float[1,2,6] h0, float[1,2,6] c0"),
    _started("GRU", "a start that is a parameter", 3, PRUNABLE, "h0", "float[1,2,6] h0"),
    _started("RNN", "a start that is a parameter", 1, PRUNABLE, "h0", "float[1,2,6] h0"),
    _started("LSTM", "one start for both", 4, PRUNABLE, "h0, h0", "float[1,2,6] h0"),
    _started("LSTM", "starts of zeros", 4, PRUNABLE, "z0, z0", ZEROS),
    _started(
        "GRU",
        "a start that is one parameter for all samples",
        3,
        PRUNABLE,
        "h0",
        "float[1,1,6] p, int64[3] sh = {1,2,6}",
        "h0 = Expand(p, sh)",
    ),
    _started(
        "GRU",
        "a start that is not zero with its parameter",
        3,
        "the initial state",
        "h0",
        "float[1,1,6] p, float[3,6] q",
        "m = ReduceMean<axes=[0],keepdims=0>(x) e = MatMul(m, q) v = Mul(e, p) h0 = Sigmoid(v)",
    ),
    whole(
        "GRU",
        "two layers that share zeros to start from",
        PRUNABLE,
        f"""g (float[T,2,3] x) => (float[2,4] y)
        <float[1,18,3] w1, float[1,18,6] r1, float[1,18,6] w3, float[1,18,6] r3, float[6,4] w2, {ZEROS},
         int64[1] ax = {{0}}, int64[1] a1 = {{1}}>
        {{ s, h = GRU<hidden_size=6>(x, w1, r1, , , z0) q = Squeeze(s, a1)
           t, k = GRU<hidden_size=6>(q, w3, r3, , , z0) z = Squeeze(k, ax) y = MatMul(z, w2) }}""",
        axis=1,
        size=6,
    ),
    image(
        f"{MS}::FusedConv",
        "of a constant, padded",
        "non-zero constant",
        f'e = Sigmoid(h) z = {MS}.FusedConv<activation="Relu",pads=[1,1,1,1]>(e, w3)',
        "float[6,6,3,3] w3",
    ),
    image(
        f"{MS}::FusedConv",
        "of a constant, grouped",
        "non-zero constant",
        f'e = Sigmoid(h) z = {MS}.FusedConv<activation="Relu",group=2>(e, w3)',
        "float[6,3,1,1] w3",
    ),
    image(
        f"{MS}::FusedConv",
        "of a constant",
        PRUNABLE,
        f'e = Sigmoid(h) z = {MS}.FusedConv<activation="LeakyRelu",activation_params=[0.3]>(e, w3, b3)',
        "float[6,6,1,1] w3, float[6] b3",
        size=6,
    ),
    _across(f"{MS}::SkipLayerNormalization", "float[4] s, float[4] p"),
    _across(f"{MS}::SkipSimplifiedLayerNormalization", "float[4] s"),
    _tokens(
        "Attention",
        "q = MatMul(t, w3) k = MatMul(x, w4) v = MatMul(x, w5) z = Attention<q_num_heads=2,kv_num_heads=2>(q, k, v)",
        "float[5,8] w3, float[5,8] w4, float[5,8] w5",
        opset=23,
    ),
    _tokens(
        f"{MS}::MultiHeadAttention",
        f"q = MatMul(x, w3) k = MatMul(t, w4) v = MatMul(t, w5) z = {MS}.MultiHeadAttention<num_heads=2>(q, k, v)",
        "float[5,8] w3, float[5,8] w4, float[5,8] w5",
        size=7,
    ),
    _tokens(
        f"{MS}::Attention", f"z = {MS}.Attention<num_heads=2>(t, w3, b3)", "float[5,24] w3, float[24] b3"
    ),
    _tokens(
        f"{MS}::RotaryEmbedding",
        f"q = MatMul(t, w3) z = {MS}.RotaryEmbedding<num_heads=2>(q, ids, c, s)",
        "float[5,8] w3, float[10,2] c, float[10,2] s",
    ),
    _tokens(
        "GRU",
        "h = GRU<hidden_size=8>(t, w3, r3) z = Squeeze(h, one)",
        "float[1,24,5] w3, float[1,24,8] r3, int64[1] one = {1}",
        batch_first=False,
    ),
    _recurrent("LSTM", "forward", 4),
    _recurrent("LSTM", "both directions", 4, both=True),
    _recurrent("LSTM", "clipped", 4, more=", clip=3.0"),
    _recurrent("GRU", "forward", 3),
    _recurrent("GRU", "linear before reset", 3, more=", linear_before_reset=1"),
    _recurrent("GRU", "both directions", 3, both=True),
    _recurrent("RNN", "forward", 1),
    _recurrent("RNN", "relu", 1, more=', activations=["Relu"]'),
    _recurrent("RNN", "sigmoid", 1, expect="not zero at zero", more=', activations=["Sigmoid"]'),
    whole(
        "LSTM",
        "input channels",
        PRUNABLE,
        """g (float[T,2,3] x) => (float[1,2,6] y)
        <float[3,8] w1, float[8] b1, float[1,24,8] w, float[1,24,6] r, float[1,48] b>
        { m = MatMul(x, w1) h = Add(m, b1) u = Relu(h) s, y = LSTM<hidden_size=6>(u, w, r, b) }""",
        axis=1,
        size=8,
    ),
    whole(
        "LSTM",
        "given start",
        "starts from a state that stays whole: it comes from the model's input 'h0'",
        """g (float[T,2,3] x, float[1,2,6] h0, float[1,2,6] c0) => (float[2,4] y)
        <float[1,24,3] w1, float[1,24,6] r, float[1,48] b, float[6,4] w2>
        { s, h, c = LSTM<hidden_size=6>(x, w1, r, b, , h0, c0) z = Squeeze(h) y = MatMul(z, w2) }""",
        axis=1,
    ),
    whole(
        "ConstantOfShape",
        "zero start of a dynamic batch",
        PRUNABLE,
        """g (float[T,N,3] x) => (float[N,4] y)
        <float[1,24,3] w1, float[1,24,6] r, float[1,48] b, float[6,4] w2, int64[1] one = {1}, int64[1] six = {6},
         int64[1] at = {1}, int64[1] ax = {0}>
        { sh = Shape(x) n = Gather(sh, at) d = Concat<axis=0>(one, n, six)
          h0 = ConstantOfShape(d)
          s, h, c = LSTM<hidden_size=6>(x, w1, r, b, , h0, h0) z = Squeeze(h, ax) y = MatMul(z, w2) }""",
        axis=1,
        size=6,
    ),
    whole(
        "LSTM",
        "zero start, expanded and sliced",
        PRUNABLE,
        """g (float[T,N,3] x) => (float[N,4] y)
        <float[1,24,3] w1, float[1,24,6] r, float[1,48] b, float[6,4] w2, int64[1] one = {1}, int64[1] six = {6},
         int64[1] at = {1}, int64[1] ax = {0}, int64[1] zero = {0}, float nothing = {0.0}>
        { sh = Shape(x) n = Gather(sh, at) d = Concat<axis=0>(one, n, six) e = Expand(nothing, d)
          h0 = Slice(e, zero, one, zero)
          s, h, c = LSTM<hidden_size=6>(x, w1, r, b, , h0, h0) z = Squeeze(h, ax) y = MatMul(z, w2) }""",
        axis=1,
        size=6,
    ),
    vector("Einsum", "dense", PRUNABLE, 'z = Einsum<equation="ni,io->no">(h, w3)', "float[8,8] w3", size=8),
    whole(
        "Einsum",
        "heads projected and merged",
        PRUNABLE,
        """g (float[N,4,5] x) => (float[N,4,3] y) <float[5,3,4] w1, float[3,4,3] w2>
        { h = Einsum<equation="bli,ihd->blhd">(x, w1) z = Relu(h) y = Einsum<equation="...hd,hdo->...o">(z, w2) }""",
        axis=2,
        size=4,
    ),
    _attention("Attention", "flat", "a = Attention<q_num_heads=3, kv_num_heads=3>(q, k, v)", opset=23),
    _attention(
        "Attention",
        "grouped queries",
        "a = Attention<q_num_heads=6, kv_num_heads=3>(q, k, v)",
        opset=23,
        kv=6,
    ),
    _attention(
        f"{MS}::MultiHeadAttention",
        "biased",
        f"a = {MS}.MultiHeadAttention<num_heads=3>(q, k, v, b)",
        ", float[36] b",
    ),
    whole(
        f"{MS}::GroupQueryAttention",
        "two queries per key",
        PRUNABLE,
        f"""g (float[2,4,5] x) => (float[2,4,3] y)
        <float[5,48] wq, float[5,24] wk, float[5,24] w1, float[48,3] w2,
         int32[2] lengths = {{3,3}}, int32[1] total = {{4}}>
        {{ q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, w1)
           a, pk, pv = {MS}.GroupQueryAttention<num_heads=6, kv_num_heads=3>(q, k, v, , , lengths, total)
           y = MatMul(a, w2) }}""",
        axis=1,
        size=3,
    ),
    whole(
        f"{MS}::RotaryEmbedding",
        "flat heads",
        PRUNABLE,
        f"""g (float[N,4,5] x) => (float[N,4,3] y)
        <float[5,24] w1, float[24,3] w2, float[8,4] cos, float[8,4] sin, int64[1] at = {{0}}>
        {{ q = MatMul(x, w1) a = {MS}.RotaryEmbedding(q, at, cos, sin) y = MatMul(a, w2) }}""",
        axis=1,
        size=3,
    ),
    whole(
        f"{MS}::Attention",
        "packed",
        PRUNABLE,
        f"""g (float[N,4,5] x) => (float[N,4,3] y) <float[5,36] w1, float[36] b, float[12,3] w2>
        {{ a = {MS}.Attention<num_heads=3>(x, w1, b) y = MatMul(a, w2) }}""",
        axis=1,
        size=3,
    ),
    whole(
        f"{MS}::SkipLayerNormalization",
        "residual",
        PRUNABLE,
        f"""g (float[N,4,5] x) => (float[N,4,3] y)
        <float[5,8] w1, float[5,8] w3, float[8] s, float[8] p, float[8] b, float[8,3] w2>
        {{ h = MatMul(x, w1) k = MatMul(x, w3) a = {MS}.SkipLayerNormalization(h, k, s, p, b) y = MatMul(a, w2) }}""",
        axis=1,
        size=8,
    ),
    whole(
        f"{MS}::SkipSimplifiedLayerNormalization",
        "residual",
        PRUNABLE,
        f"""g (float[N,4,5] x) => (float[N,4,3] y)
        <float[5,8] w1, float[5,8] w3, float[8] s, float[8,3] w2>
        {{ h = MatMul(x, w1) k = MatMul(x, w3) a = {MS}.SkipSimplifiedLayerNormalization(h, k, s)
           y = MatMul(a, w2) }}""",
        axis=1,
        size=8,
    ),
    vector(f"{MS}::Gelu", "fused", PRUNABLE, f"z = {MS}.Gelu(h)", size=8),
    vector(f"{MS}::QuickGelu", "fused", PRUNABLE, f"z = {MS}.QuickGelu(h)", size=8),
    vector(f"{MS}::BiasGelu", "fused", PRUNABLE, f"z = {MS}.BiasGelu(h, b3)", "float[8] b3", size=8),
    vector(f"{MS}::FastGelu", "fused", PRUNABLE, f"z = {MS}.FastGelu(h, b3)", "float[8] b3", size=8),
    image(
        f"{MS}::FusedConv",
        "with activation",
        PRUNABLE,
        f'z = {MS}.FusedConv<activation="Relu">(h, w3, b3)',
        "float[6,6,1,1] w3, float[6] b3",
        probe="w3",
        size=6,
    ),
    vector(
        f"{MS}::FusedMatMul",
        "transposed",
        PRUNABLE,
        f"z = {MS}.FusedMatMul<transB=1, alpha=0.5>(h, w3)",
        "float[8,8] w3",
        probe="w3",
        size=8,
    ),
]

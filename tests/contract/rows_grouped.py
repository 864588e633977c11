"""Rows of convolutions in groups, and of windows that leave an axis as it is."""

from __future__ import annotations

from .rows import EITHER, PRUNABLE, Row, image, whole

GROUP_NORM = "float[2] one = {1.0,1.0}, float[2] nil = {0.0,0.0}, float[12,1,1] s, float[12,1,1] p"


def behind_groups(title: str, expect: str, body: str, params: str, **more: object) -> Row:
    """Return a row h -> Conv w3 [12,...] -> a norm over two groups, as exporters write it -> c -> `body` -> z."""
    front = """t = Conv(h, w3) r = Reshape(t, flat) g = InstanceNormalization(r, one, nil) sh = Shape(t)
        b = Reshape(g, sh) m = Mul(b, s) c = Add(m, p) """
    shapes = "float[12,6,1,1] w3, int64[3] flat = {0,2,-1}"
    op = body.split("=", 1)[1].split("<")[0].split("(")[0].strip()
    return image(op, title, expect, front + body, f"{shapes}, {GROUP_NORM}, {params}", probe="w3", **more)  # type: ignore[arg-type]


def tokens(op: str, title: str, expect: str, body: str, params: str, **more: object) -> Row:
    """Return a row x [N,3,5] -> MatMul w1 -> h [N,3,8] -> `body` -> z [N,M,8] -> MatMul w2 -> y."""
    text = f"""g (float[N,3,5] x) => (float[N,M,4] y) <float[5,8] w1, float[8,4] w2, {params}>
        {{ h = MatMul(x, w1) {body} y = MatMul(z, w2) }}"""
    return whole(op, title, expect, text, axis=1, **more)  # type: ignore[arg-type]


ROWS: list[Row] = [
    # --- behind a norm over groups: an axis of several factors ------------------------------------------------
    behind_groups(
        "grouped, a norm over as many groups in front",
        PRUNABLE,
        "z = Conv<group=2>(c, w4)",
        "float[8,6,1,1] w4",
        channels=8,
        size=2,
    ),
    behind_groups(
        "grouped, a constant behind the norm goes with its group",
        PRUNABLE,
        "k = Sigmoid(c) z = Conv<group=2>(k, w4)",
        "float[8,6,1,1] w4",
        channels=8,
        size=2,
    ),
    behind_groups(
        "grouped in half as many channels as the norm",
        PRUNABLE,
        "z = Conv<group=4,pads=[1,1,1,1]>(c, w4, b4)",
        "float[8,3,3,3] w4, float[8] b4",
        channels=8,
        size=2,
    ),
    behind_groups(
        "depthwise behind a norm over groups",
        PRUNABLE,
        "z = Conv<group=12,pads=[1,1,1,1]>(c, w4, b4)",
        "float[12,1,3,3] w4, float[12] b4",
        channels=12,
        size=2,
    ),
    behind_groups(
        "behind a norm over groups",
        "are one lane",
        "z = DepthToSpace<blocksize=2>(c)",
        "float[1] unused",
        channels=3,
    ),
    behind_groups(
        "behind a norm over groups",
        PRUNABLE,
        "z = SpaceToDepth<blocksize=2>(c)",
        "float[1] unused",
        channels=48,
    ),
    behind_groups(
        "behind a norm over groups",
        PRUNABLE,
        "z = GroupNormalization<num_groups=4>(c, sg, pg)",
        "float[12] sg, float[12] pg",
        channels=12,
        opset=21,
        size=2,
    ),
    image(
        "Conv",
        "grouped, several norm groups in each of its own",
        PRUNABLE,
        """t = Conv(h, w3) r = Reshape(t, flat) g = InstanceNormalization(r, one, nil) sh = Shape(t)
        b = Reshape(g, sh) m = Mul(b, s) c = Add(m, p) z = Conv<group=2>(c, w4)""",
        """float[16,6,1,1] w3, int64[3] flat = {0,8,-1}, float[8] one = {1.0,1.0,1.0,1.0,1.0,1.0,1.0,1.0},
        float[8] nil = {0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0}, float[16,1,1] s, float[16,1,1] p, float[6,8,1,1] w4""",
        channels=6,
        probe="w3",
        size=8,
    ),
    image(
        "Conv",
        "grouped, several norm groups in each, a constant",
        "non-zero constant",
        """t = Conv(h, w3) c = GroupNormalization<num_groups=8>(t, s, p) k = Sigmoid(c) z = Conv<group=2>(k, w4)""",
        "float[16,6,1,1] w3, float[16] s, float[16] p, float[6,8,1,1] w4",
        channels=6,
        opset=21,
        probe="w3",
    ),
    # --- groups -----------------------------------------------------------------------------------------------
    whole(
        "Conv",
        "grouped, channels of the model's input",
        PRUNABLE,
        """g (float[N,6,6,6] x) => (float[N,5,P,Q] y) <float[8,3,3,3] w1, float[5,8,1,1] w2>
        { z = Conv<group=2>(x, w1) y = Conv(z, w2) }""",
        size=8,
    ),
    whole(
        "Conv",
        "depthwise, channels of the model's input, multiplied",
        PRUNABLE,
        """g (float[N,3,6,6] x) => (float[N,5,P,Q] y) <float[12,1,3,3] w1, float[5,12,1,1] w2>
        { z = Conv<group=3>(x, w1) y = Conv(z, w2) }""",
        size=12,
    ),
    image(
        "Conv",
        "depthwise, multiplied, some channels stay",
        PRUNABLE,
        "a, b = Split<axis=1>(h, parts) k = Mul(h, a) z = Conv<group=6>(k, w3)",
        "float[12,1,3,3] w3, int64[2] parts = {1,5}",
        channels=12,
        size=5,
        rest="single position",
    ),
    image(
        "Conv",
        "depthwise behind channels picked by a condition",
        PRUNABLE,
        "k = Compress<axis=1>(h, c) z = Conv<group=4>(k, w3)",
        "float[4,1,3,3] w3, bool[6] c = {1,0,1,1,0,1}",
        channels=4,
        size=6,
    ),
    image(
        "Conv",
        "grouped, weight is computed",
        PRUNABLE,
        "a = ReduceMean<keepdims=1>(x) v = Mul(w3, a) z = Conv<group=2>(h, v)",
        "float[8,3,3,3] w3",
        channels=8,
        size=2,
    ),
    image(
        "Conv",
        "grouped, a weight that is not zero with its parameter",
        PRUNABLE,
        "a = ReduceMean<keepdims=1>(x) m = Mul(w3, a) v = Sigmoid(m) z = Conv<group=6>(h, v)",
        "float[6,1,3,3] w3",
    ),
    image(
        "Conv",
        "grouped, neither channel nor weight zero",
        "not zero",
        "a = ReduceMean<keepdims=1>(x) m = Mul(w3, a) v = Sigmoid(m) k = Sigmoid(h) z = Conv<group=6>(k, v)",
        "float[6,1,3,3] w3",
    ),
    image(
        "Conv",
        "grouped, a constant is summed",
        "non-zero constant",
        "k = Sigmoid(h) z = Conv<group=2>(k, w3)",
        "float[8,3,1,1] w3",
        channels=8,
    ),
    whole(
        "Conv",
        "depthwise by a weight that is an input",
        "no parameter produces",
        """g (float[1,6,6,6] x, float[6,1,3,3] v) => (float[1,5,P,Q] y) <float[6,6,1,1] w1, float[5,6,1,1] w2>
        { h = Conv(x, w1) z = Conv<group=6>(h, v) y = Conv(z, w2) }""",
    ),
    image(
        "ConvTranspose",
        "grouped, its channels",
        PRUNABLE,
        "z = ConvTranspose<group=2,strides=[2,2]>(h, w3, b3)",
        "float[6,4,2,2] w3, float[8] b3",
        channels=8,
        size=6,
    ),
    image(
        "ConvTranspose",
        "grouped, its outputs",
        PRUNABLE,
        "z = ConvTranspose<group=2,strides=[2,2]>(h, w3, b3)",
        "float[6,4,2,2] w3, float[8] b3",
        channels=8,
        probe="w3",
        axis=1,
        size=8,
    ),
    image(
        "ConvTranspose",
        "grouped, a constant is summed",
        "non-zero constant",
        "k = Sigmoid(h) z = ConvTranspose<group=2>(k, w3)",
        "float[6,4,2,2] w3",
        channels=8,
    ),
    image(
        "ConvTranspose",
        "depthwise, multiplied",
        PRUNABLE,
        "z = ConvTranspose<group=6>(h, w3)",
        "float[6,2,2,2] w3",
        channels=12,
        size=6,
    ),
    behind_groups(
        "grouped, behind a norm over groups",
        PRUNABLE,
        "z = ConvTranspose<group=2>(c, w4, b4)",
        "float[12,4,2,2] w4, float[8] b4",
        channels=8,
        size=2,
    ),
    image(
        "ConvTranspose",
        "one weight for two in groups",
        PRUNABLE,
        "a = ConvTranspose<group=2>(h, w3) z = ConvTranspose<group=2>(a, w3)",
        "float[6,3,2,2] w3",
        probe="w3",
        axis=1,
        size=6,
    ),
    # --- windows of one position ------------------------------------------------------------------------------
    tokens(
        "Conv", "across tokens, every channel alone", PRUNABLE, "z = Conv(h, w3)", "float[7,3,1] w3", size=8
    ),
    tokens(
        "Conv",
        "across tokens, its own channels",
        EITHER,
        "z = Conv(h, w3, b3)",
        "float[2,3,1] w3, float[2] b3",
    ),
    tokens(
        "Conv",
        "across tokens, a bias for every one",
        "not zero",
        "z = Conv(h, w3, b3)",
        "float[2,3,1] w3, float[2] b3",
    ),
    tokens(
        "Conv",
        "across tokens, a single bias is a constant",
        PRUNABLE,
        "z = Conv(h, w3, b3)",
        "float[1,3,1] w3, float[1] b3 = {0.5}",
        size=8,
    ),
    tokens(
        "Conv", "across tokens, of a constant", "not zero", "k = Exp(h) z = Conv(k, w3)", "float[2,3,1] w3"
    ),
    tokens(
        "Conv",
        "a stride along channels",
        "slides",
        "k = Conv<strides=[2]>(h, w3) z = Concat<axis=2>(k, k)",
        "float[2,3,1] w3",
    ),
    tokens(
        "Conv",
        "padding along channels",
        "slides",
        "k = Conv<pads=[1,1]>(h, w3) z = Slice(k, a, b, c)",
        "float[2,3,1] w3, int64[1] a = {1}, int64[1] b = {9}, int64[1] c = {2}",
    ),
    tokens("Conv", "every token alone", PRUNABLE, "z = Conv<group=3>(h, w3)", "float[3,1,1] w3", size=8),
    tokens(
        "Conv",
        "every token alone, of a constant",
        "not zero",
        "k = Sigmoid(h) z = Conv<group=3>(k, w3)",
        "float[3,1,1] w3",
    ),
    tokens("ConvTranspose", "across tokens", PRUNABLE, "z = ConvTranspose(h, w3)", "float[3,2,1] w3", size=8),
    tokens(
        "ConvTranspose",
        "across tokens, one more position",
        "slides",
        "k = ConvTranspose<strides=[2],output_padding=[1]>(h, w3) z = Slice(k, a, b, c)",
        "float[3,2,1] w3, int64[1] a = {0}, int64[1] b = {8}, int64[1] c = {2}",
    ),
    whole(
        "Conv",
        "a column of channels",
        PRUNABLE,
        """g (float[N,2,7,5] x) => (float[N,3,P,4] y) <float[5,8] w1, float[3,2,3,1] w3, float[8,4] w2>
        { h = MatMul(x, w1) t = Conv<pads=[1,0,1,0],dilations=[1,3]>(h, w3) z = Relu(t) y = MatMul(z, w2) }""",
        axis=1,
        size=8,
    ),
    *(
        whole(
            op,
            "a window of one channel",
            PRUNABLE,
            f"""g (float[N,2,7,5] x) => (float[N,2,P,4] y) <float[5,8] w1, float[8,4] w2>
            {{ h = MatMul(x, w1) z = {op}<kernel_shape=[3,1],strides=[2,1],ceil_mode=1>(h) y = MatMul(z, w2) }}""",
            axis=1,
            size=8,
            opset=18,
        )
        for op in ("MaxPool", "AveragePool", "LpPool")
    ),
    whole(
        "MaxPool",
        "a window of one channel, a constant",
        PRUNABLE,
        """g (float[N,2,7,5] x) => (float[N,2,P,4] y) <float[5,8] w1, float[8,4] w2>
        { h = MatMul(x, w1) k = Exp(h) z = MaxPool<kernel_shape=[3,1]>(k) y = MatMul(z, w2) }""",
        axis=1,
        size=8,
    ),
    whole(
        "LpPool",
        "a window of one channel, a constant",
        "not zero",
        """g (float[N,2,7,5] x) => (float[N,2,P,4] y) <float[5,8] w1, float[8,4] w2>
        { h = MatMul(x, w1) k = Exp(h) z = LpPool<kernel_shape=[3,1]>(k) y = MatMul(z, w2) }""",
        axis=1,
    ),
    # --- places of maxima -------------------------------------------------------------------------------------
    image(
        "MaxPool",
        "places that are read as numbers",
        "counted through all channels",
        "m, i = MaxPool<kernel_shape=[2,2]>(h) f = Cast<to=1>(i) z = Mul(m, f)",
    ),
    image(
        "MaxUnpool",
        "what a pool took",
        PRUNABLE,
        """m, i = MaxPool<kernel_shape=[2,2],strides=[2,2]>(h) r = Relu(m)
        z = MaxUnpool<kernel_shape=[2,2],strides=[2,2]>(r, i)""",
        size=6,
    ),
    image(
        "MaxUnpool",
        "the size is given",
        PRUNABLE,
        """m, i = MaxPool<kernel_shape=[2,2],strides=[2,2]>(h) s = Shape(h)
        z = MaxUnpool<kernel_shape=[2,2],strides=[2,2]>(m, i, s)""",
        size=6,
    ),
    image(
        "MaxUnpool",
        "a constant",
        "not zero",
        """k = Exp(h) m, i = MaxPool<kernel_shape=[2,2],strides=[2,2]>(k)
        z = MaxUnpool<kernel_shape=[2,2],strides=[2,2]>(m, i)""",
    ),
    image(
        "MaxUnpool",
        "a map of another size",
        "not certainly as large",
        """m, i = MaxPool<kernel_shape=[3,3],strides=[1,1]>(h)
        z = MaxUnpool<kernel_shape=[2,2],strides=[2,2]>(m, i)""",
    ),
]

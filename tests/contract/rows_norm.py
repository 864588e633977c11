"""Rows of normalisations and of operators that change the resolution."""

from __future__ import annotations

from .rows import EITHER, PRUNABLE, Row, image, vector, whole

EVERY = "every position"
CONSTANT = "non-zero constant"


ROWS: list[Row] = [
    image(
        "InstanceNormalization",
        "conv",
        PRUNABLE,
        "z = InstanceNormalization(h, s, p)",
        "float[6] s, float[6] p",
        size=6,
    ),
    image(
        "GroupNormalization",
        "three groups",
        PRUNABLE,
        "t = Conv(h, w3, b3) z = GroupNormalization<num_groups=3>(t, s, p)",
        "float[12,6,1,1] w3, float[12] b3, float[12] s, float[12] p",
        opset=21,
        channels=12,
        probe="w3",
        size=3,
    ),
    image(
        "GroupNormalization",
        "one group",
        PRUNABLE,
        "z = GroupNormalization<num_groups=1>(h, s, p)",
        "float[6] s, float[6] p",
        opset=21,
        size=6,
    ),
    whole(
        "InstanceNormalization",
        "one group of unknown size",
        PRUNABLE,
        """g (float[N,3,H,W] x) => (float[N,2,H,W] y)
        <float[6,3,3,3] w1, float[2,6,1,1] w2, float[6,1,1] w3, float[6,1,1] p3, int64[3] flat = {0,1,-1},
         float[1] one = {1.0}, float[1] nil = {0.0}>
        { h = Conv<pads=[1,1,1,1]>(x, w1) r = Reshape(h, flat) g = InstanceNormalization(r, one, nil) s = Shape(h)
          b = Reshape(g, s) m = Mul(b, w3) z = Add(m, p3) y = Conv(z, w2) }""",
        size=6,
    ),
    image(
        "InstanceNormalization",
        "one group as exporters write it",
        PRUNABLE,
        """r = Reshape(h, flat) g = InstanceNormalization(r, one, nil) b = Reshape(g, back) m = Mul(b, w3)
        z = Add(m, p3)""",
        "int64[3] flat = {0,1,-1}, int64[4] back = {-1,6,6,6}, float[1] one = {1.0}, float[1] nil = {0.0},"
        " float[6,1,1] w3, float[6,1,1] p3",
        size=6,
    ),
    image(
        "GroupNormalization",
        "a group per channel",
        PRUNABLE,
        "z = GroupNormalization<num_groups=6>(h, s, p)",
        "float[6] s, float[6] p",
        opset=21,
        size=6,
    ),
    vector(
        "LayerNormalization",
        "over the channels",
        PRUNABLE,
        "z = LayerNormalization(h, s, p)",
        "float[8] s, float[8] p",
        size=8,
    ),
    vector(
        "LayerNormalization",
        "no bias, large epsilon",
        PRUNABLE,
        "z = LayerNormalization<epsilon=0.1>(h, s)",
        "float[8] s",
        size=8,
    ),
    vector(
        "LayerNormalization",
        "of a constant",
        CONSTANT,
        "e = Exp(h) z = LayerNormalization(e, s)",
        "float[8] s",
    ),
    image(
        "LayerNormalization",
        "channels last",
        PRUNABLE,
        "t = Transpose<perm=[0,2,3,1]>(h) n = LayerNormalization(t, s, p) z = Transpose<perm=[0,3,1,2]>(n)",
        "float[6] s, float[6] p",
        size=6,
    ),
    image(
        "LayerNormalization",
        "over space",
        "not zero",
        "z = LayerNormalization(h, s, p)",
        "float[6] s, float[6] p",
    ),
    image(
        "LayerNormalization",
        "over three axes",
        EVERY,
        "z = LayerNormalization<axis=1>(h, s)",
        "float[6,6,6] s",
    ),
    whole(
        "LayerNormalization",
        "twice, residual",
        PRUNABLE,
        """g (float[N,T,5] x) => (float[N,T,4] y)
        <float[5,8] w1, float[8] s, float[8] p, float[8,8] w3, float[8] s2, float[8] p2, float[8,4] w2>
        { h = MatMul(x, w1) n = LayerNormalization(h, s, p) t = MatMul(n, w3) r = Add(h, t)
          z = LayerNormalization(r, s2, p2) y = MatMul(z, w2) }""",
        axis=1,
        size=8,
    ),
    vector(
        "LayerNormalization",
        "statistics read",
        "statistics",
        "n, m, d = LayerNormalization(h, s) z = Add(n, m)",
        "float[8] s",
    ),
    vector(
        "RMSNormalization",
        "over the channels",
        PRUNABLE,
        "z = RMSNormalization(h, s)",
        "float[8] s",
        opset=23,
        size=8,
    ),
    vector(
        "RMSNormalization",
        "large epsilon",
        PRUNABLE,
        "z = RMSNormalization<epsilon=0.1>(h, s)",
        "float[8] s",
        opset=23,
        size=8,
    ),
    *(
        image(
            "MeanVarianceNormalization",
            f"over channels too, opset {opset}",
            PRUNABLE,
            "n = MeanVarianceNormalization<axes=[1,2,3]>(h) m = Mul(n, s) z = Add(m, p)",
            "float[6,1,1] s, float[6,1,1] p",
            size=6,
            opset=opset,
        )
        for opset in (9, 13, 18)
    ),
    image(
        "MeanVarianceNormalization",
        "over channels, of a constant",
        "the mean",
        "k = Sigmoid(h) n = MeanVarianceNormalization<axes=[1,2,3]>(k) m = Mul(n, s) z = Add(m, p)",
        "float[6,1,1] s, float[6,1,1] p",
    ),
    image(
        "MeanVarianceNormalization", "read as it is", "not zero", "z = MeanVarianceNormalization<axes=[1]>(h)"
    ),
    image(
        "MeanVarianceNormalization",
        "every channel: 0 / 0",
        "not zero",
        "z = MeanVarianceNormalization<axes=[0,2,3]>(h)",
    ),
    image(
        "MeanVarianceNormalization",
        "every channel: 0 / 0, scaled",
        "not zero",
        "n = MeanVarianceNormalization<axes=[2,3]>(h) z = Mul(n, s)",
        "float[6,1,1] s",
    ),
    image(
        "BatchNormalization",
        "of what is not finite",
        "not zero",
        "a = Reciprocal(h) z = BatchNormalization(a, s, p, m, var)",
        "float[6] s, float[6] p, float[6] m, float[6] var",
    ),
    vector("LpNormalization", "over the channels", PRUNABLE, "z = LpNormalization<axis=1,p=2>(h)", size=8),
    image("LpNormalization", "l1", PRUNABLE, "z = LpNormalization<axis=1,p=1>(h)", size=6),
    image("LpNormalization", "over space", PRUNABLE, "z = LpNormalization<axis=-1>(h)", size=6),
    image(
        "ReduceMean",
        "RMSNorm by hand",
        PRUNABLE,
        "q = Mul(h, h) m = ReduceMean<axes=[1]>(q) e = Add(m, s) r = Sqrt(e) z = Div(h, r)",
        "float s = {0.01}",
        size=6,
    ),
    image(
        "ReduceMean",
        "LayerNorm by hand",
        EITHER,
        "m = ReduceMean<axes=[1]>(h) c = Sub(h, m) q = Mul(c, c) v = ReduceMean<axes=[1]>(q)"
        " e = Add(v, s) r = Sqrt(e) z = Div(c, r)",
        "float s = {0.01}",
    ),
    image(
        "ReduceMean",
        "over channels and space, a gate",
        PRUNABLE,
        "m = ReduceMean<axes=[1,2,3]>(h) z = Mul(h, m)",
        size=6,
    ),
    # --- resolution -------------------------------------------------------------------------------------------
    image(
        "Resize",
        "scales",
        PRUNABLE,
        'z = Resize<mode="nearest">(h, , k)',
        "float[4] k = {1.0,1.0,2.0,2.0}",
        size=6,
    ),
    image(
        "Resize", "sizes", PRUNABLE, 'z = Resize<mode="linear">(h, , , k)', "int64[4] k = {2,6,9,4}", size=6
    ),
    image(
        "Resize",
        "sizes computed",
        PRUNABLE,
        'n = Shape<start=0,end=2>(h) c = Concat<axis=0>(n, k) z = Resize<mode="nearest">(h, , , c)',
        "int64[2] k = {12,12}",
        size=6,
    ),
    image(
        "Resize",
        "opset 10",
        PRUNABLE,
        'z = Resize<mode="nearest">(h, k)',
        "float[4] k = {1.0,1.0,2.0,2.0}",
        opset=10,
        size=6,
    ),
    image(
        "Resize",
        "axes",
        PRUNABLE,
        'z = Resize<mode="cubic",axes=[3,2]>(h, , , k)',
        "int64[2] k = {9,4}",
        opset=18,
        size=6,
    ),
    image(
        "Resize",
        "cropped, another value outside",
        "not zero",
        'z = Resize<mode="linear",coordinate_transformation_mode="tf_crop_and_resize",extrapolation_value=0.7>'
        "(h, roi, , k)",
        "float[8] roi = {0.0,0.0,0.0,0.0,1.0,1.0,1.5,1.5}, int64[4] k = {2,6,6,6}",
    ),
    image(
        "Resize",
        "the channels too",
        "interpolates",
        'z = Resize<mode="nearest">(h, , k)',
        "float[4] k = {1.0,2.0,1.0,1.0}",
        channels=12,
    ),
    image(
        "Resize",
        "a constant that comes back",
        PRUNABLE,
        'e = Cosh(h) r = Resize<mode="nearest">(e, , k) z = Sub(r, s)',
        "float[4] k = {1.0,1.0,2.0,2.0}, float s = {1.0}",
        size=6,
    ),
    image(
        "Upsample",
        "opset 9",
        PRUNABLE,
        'z = Upsample<mode="nearest">(h, k)',
        "float[4] k = {1.0,1.0,2.0,2.0}",
        opset=9,
        size=6,
    ),
    image(
        "Upsample",
        "opset 7",
        PRUNABLE,
        'z = Upsample<mode="nearest",scales=[1.0,1.0,2.0,2.0]>(h)',
        opset=7,
        size=6,
    ),
    image(
        "DepthToSpace",
        "DCR",
        PRUNABLE,
        "t = Conv(h, w3) z = DepthToSpace<blocksize=2>(t)",
        "float[12,6,1,1] w3",
        channels=3,
        probe="w3",
        size=3,
    ),
    image(
        "DepthToSpace",
        "CRD",
        PRUNABLE,
        't = Conv(h, w3) z = DepthToSpace<blocksize=2,mode="CRD">(t)',
        "float[12,6,1,1] w3",
        channels=3,
        probe="w3",
        size=3,
    ),
    image("SpaceToDepth", "conv", PRUNABLE, "z = SpaceToDepth<blocksize=2>(h)", channels=24, size=6),
    image(
        "SpaceToDepth",
        "and back",
        PRUNABLE,
        "t = SpaceToDepth<blocksize=3>(h) z = DepthToSpace<blocksize=3>(t)",
        size=6,
    ),
    image("Tile", "over space", PRUNABLE, "z = Tile(h, r)", "int64[4] r = {1,1,2,1}", size=6),
    image("Tile", "channels", PRUNABLE, "z = Tile(h, r)", "int64[4] r = {1,3,1,1}", channels=18, size=6),
    image(
        "Tile",
        "pooled to a map",
        PRUNABLE,
        "p = GlobalAveragePool(h) t = Tile(p, r) z = Mul(t, h)",
        "int64[4] r = {1,1,6,6}",
        size=6,
    ),
    image(
        "Tile",
        "one channel to many",
        PRUNABLE,
        "g = Conv<pads=[1,1,1,1]>(x, w3) t = Sigmoid(g) e = Tile(t, r) z = Mul(e, h)",
        "float[1,3,3,3] w3, int64[4] r = {1,6,1,1}",
        size=6,
    ),
    image(
        "Tile",
        "one channel to as many as another has",
        PRUNABLE,
        """g = Conv<pads=[1,1,1,1]>(x, w3) s = Shape(h) n = Slice(s, one, two) r = Concat<axis=0>(one, n, one, one)
        e = Tile(g, r) z = Mul(e, h)""",
        "float[1,3,3,3] w3, int64[1] one = {1}, int64[1] two = {2}",
        size=6,
    ),
    image(
        "Tile",
        "one channel to many, added",
        "not zero",
        "g = Conv<pads=[1,1,1,1]>(x, w3) e = Tile(g, r) z = Add(e, h)",
        "float[1,3,3,3] w3, int64[4] r = {1,6,1,1}",
    ),
    image(
        "Tile",
        "one channel to many, of a constant",
        "not zero",
        "g = Conv<pads=[1,1,1,1]>(x, w3) e = Tile(g, r) k = Exp(h) z = Mul(e, k)",
        "float[1,3,3,3] w3, int64[4] r = {1,6,1,1}",
    ),
    whole(
        "Tile",
        "a token many times, flattened",
        PRUNABLE,
        """g (float[N,5] x) => (float[N,4] y)
        <float[5,8] w1, float[24,4] w2, int64[1] ax = {1}, int64[3] r = {1,3,1}>
        { h = MatMul(x, w1) u = Unsqueeze(h, ax) t = Tile(u, r) q = Relu(t) f = Flatten(q) y = MatMul(f, w2) }""",
        axis=1,
        size=8,
    ),
    image("Trilu", "over space", PRUNABLE, "z = Trilu(h)", size=6),
    vector("Trilu", "over the channels", EVERY, "z = Trilu<upper=0>(h)"),
]

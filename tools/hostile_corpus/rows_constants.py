"""Constants that are computed: absurd sizes, and arithmetic that has no result."""

from __future__ import annotations

from hostile_corpus.case import ANY, INVALID
from hostile_corpus.placing import BESIDE, BODY, CHAIN, DEAD, FUNCTION, PATH, Row

LEAST, MOST = str(-(2**63)), str(2**63 - 1)
TERA = str(10**12)
PLACES = (BESIDE, PATH, CHAIN, FUNCTION)
"""For kernels that end the process or never end: what is dead or in a branch is rightly left alone."""


def _doubled(times: int) -> str:
    nodes = " ".join(f"t{i + 1} = Concat <axis = 0> (t{i}, t{i})" for i in range(times))
    return f"{{ t0 = Constant <value_ints = [1, 2]> () {nodes} z = Cast <to = 1> (t{times}) }}"


def _squared(times: int) -> str:
    nodes = " ".join(f"t{i + 1} = Mul (t{i}, t{i})" for i in range(times))
    return f"{{ t0 = Constant <value_ints = [3]> () {nodes} z = Cast <to = 1> (t{times}) }}"


def _window(name: str) -> Row:
    return Row(
        f"{name.lower()}", f"<int64 n = {{$v}}> {{ z = {name} (n) }}", "8", {"tera": TERA, "negative": "-5"}
    )


def _integers(op: str, kind: str, good: str, bad: dict[str, str], codes: frozenset[int] = INVALID) -> Row:
    """Return a row of an operator on two integers."""
    text = (
        f"<{kind}[2] p = {{$v}}, int64[1] i = {{0}}, int64[1] j = {{1}}> "
        f"{{ p0 = Gather (p, i) p1 = Gather (p, j) z = {op} (p0, p1) }}"
    )
    name = f"{op.split()[0].lower()}-{kind}{'-as-fmod' if 'fmod' in op else ''}"
    return Row(name, text, good, bad, gives=kind, codes=codes, places=PLACES)


ROWS = (
    Row(
        "constant-of-shape",
        "<int64[2] s = {$v}> { z = ConstantOfShape (s) }",
        "2, 3",
        {"tera": "1000000, 1000000", "overflow": f"{2**40}, {2**40}", "negative": "-5, 3"},
        places=(BESIDE, PATH, CHAIN, BODY, FUNCTION, DEAD),
    ),
    Row(
        "constant-of-shape-rank",
        "<int64[1] n = {$v}, int64[1] one = {1}> { s = Expand (one, n) z = ConstantOfShape (s) }",
        "3",
        {"thousand": "1000", "million": "1000000"},
        codes=ANY,
    ),
    Row(
        "range",
        "<int64[3] p = {$v}, int64 i = {0}, int64 j = {1}, int64 k = {2}> "
        "{ p0 = Gather (p, i) p1 = Gather (p, j) p2 = Gather (p, k) z = Range (p0, p1, p2) }",
        "0, 5, 1",
        {"tera": f"0, {TERA}, 1", "step-0": "0, 5, 0", "overflow": f"{LEAST}, {MOST}, 1"},
        gives="int64",
    ),
    Row(
        "range-float",
        "<float low = {0.0}, float high = {1.0}, float step = {$v}> { z = Range (low, high, step) }",
        "0.25",
        {"tiny-step": "1e-30", "small-step": "1e-12"},
        codes=ANY,
    ),
    Row(
        "tile",
        "<int64[2] t = {1, 2}, int64[1] r = {$v}> { z = Tile (t, r) }",
        "3",
        {"tera": TERA, "negative": "-3", "overflow": MOST},
        gives="int64",
    ),
    Row(
        "expand",
        "<int64[1] t = {1}, int64[2] r = {$v}> { z = Expand (t, r) }",
        "2, 3",
        {"tera": "1000000, 1000000", "overflow": f"{2**40}, {2**40}", "negative": "-2, 3"},
        gives="int64",
    ),
    Row(
        "pad",
        "<float[2] t = {1.0, 2.0}, int64[2] p = {$v}> { z = Pad (t, p) }",
        "0, 3",
        {"tera": f"0, {TERA}", "negative": "-9, 0", "overflow": f"{MOST}, {MOST}", "cancels": f"{-(2**62)}, {2**62}"},
    ),
    Row(
        "pad-of-data",
        "<int64[4] p = {$v}> { z = Pad (d, p) }",
        "0, 1, 0, 1",
        {"tera": f"0, 0, 0, {TERA}", "negative": "0, -9, 0, -9", "overflow": f"0, {MOST}, 0, {MOST}"},
    ),
    Row(
        "one-hot",
        "<int64[2] t = {0, 1}, int64 depth = {$v}, float[2] v = {0.0, 1.0}> { z = OneHot (t, depth, v) }",
        "3",
        {"tera": TERA, "negative": "-3", "most": MOST},
    ),
    Row(
        "eye-like",
        "<int64[2] s = {$v}> { q = ConstantOfShape (s) z = EyeLike (q) }",
        "2, 3",
        {"tera": "1000000, 1000000"},
    ),
    Row(
        "resize-sizes",
        "<float[1, 1, 2, 2] t = {1.0, 2.0, 3.0, 4.0}, int64[4] s = {$v}> "
        '{ z = Resize <mode = "nearest"> (t, , , s) }',
        "1, 1, 4, 4",
        {"tera": "1, 1, 1000000, 1000000", "negative": "1, 1, -4, 4", "zero": "0, 0, 0, 0"},
    ),
    Row(
        "resize-scales",
        "<float[1, 1, 2, 2] t = {1.0, 2.0, 3.0, 4.0}, float[4] s = {$v}> "
        '{ z = Resize <mode = "nearest"> (t, , s) }',
        "1.0, 1.0, 2.0, 2.0",
        {"1e30": "1.0, 1.0, 1e30, 1e30", "1e6": "1.0, 1.0, 1e6, 1e6", "negative": "1.0, 1.0, -2.0, 2.0"},
    ),
    Row("concat-doubled", "$v", _doubled(3), {"40-times": _doubled(40), "60-times": _doubled(60)}),
    Row(
        "mul-squared", "$v", _squared(3), {"200-times": _squared(200)}, codes=ANY, places=(BESIDE, PATH, FUNCTION)
    ),
    _window("HannWindow"),
    _window("HammingWindow"),
    _window("BlackmanWindow"),
    Row(
        "mel-weights",
        "<int64[3] p = {$v}, int64 i = {0}, int64 j = {1}, int64 k = {2}, float low = {0.0}, float high = {4000.0}> "
        "{ p0 = Gather (p, i) p1 = Gather (p, j) p2 = Gather (p, k) z = MelWeightMatrix (p0, p1, p2, low, high) }",
        "8, 64, 16000",
        {"tera": "1000000, 1000000000, 16000", "negative": "-8, 64, 16000", "rate-0": "8, 64, 0"},
    ),
    Row(
        "random-normal",
        "{ z = RandomNormal <shape = [$v], seed = 1.0> () }",
        "2, 3",
        {"tera": "1000000, 1000000", "overflow": f"{2**40}, {2**40}"},
        places=(BESIDE, PATH, FUNCTION),
    ),
    Row(
        "random-uniform",
        "{ z = RandomUniform <shape = [$v], seed = 1.0> () }",
        "2, 3",
        {"tera": "1000000, 1000000", "negative": "-2, 3"},
        places=(BESIDE, PATH, FUNCTION),
    ),
    Row(
        "gather",
        "<int64[2] t = {1, 2}, int64[1] i = {$v}> { z = Gather (t, i) }",
        "1",
        {"beyond": TERA, "before": "-3", "least": LEAST},
        gives="int64",
    ),
    Row(
        "gather-nd",
        "<float[2, 2] t = {1.0, 2.0, 3.0, 4.0}, int64[2] n = {$v}, int64[1] nought = {0}> "
        "{ i = Expand (nought, n) z = GatherND (t, i) }",
        "3, 1",
        {"tera": f"{TERA}, 1"},
    ),
    Row(
        "gather-elements",
        "<float[2] t = {1.0, 2.0}, int64[1] i = {$v}> { z = GatherElements (t, i) }",
        "1",
        {"beyond": TERA, "before": "-3"},
    ),
    Row(
        "reshape",
        "<int64[2] t = {1, 2}, int64[2] s = {$v}> { z = Reshape (t, s) }",
        "2, 1",
        {"tera": f"{TERA}, {TERA}", "two-inferred": "-1, -1", "negative": "-2, -1", "overflow": f"{2**33}, {2**31}"},
        gives="int64",
    ),
    Row(
        "reshape-of-data",
        "<int64[2] s = {$v}> { z = Reshape (d, s) }",
        "-1, 8",
        {"huge": f"{2**62}, -1", "negative": "-1, -8", "two-inferred": "-1, -1"},
    ),
    Row(
        "slice",
        "<int64[2] t = {1, 2}, int64[1] from = {0}, int64[1] to = {2}, int64[1] axis = {0}, int64[1] step = {$v}> "
        "{ z = Slice (t, from, to, axis, step) }",
        "1",
        {"step-0": "0"},
        gives="int64",
    ),
    Row(
        "slice-axis",
        "<int64[1] from = {0}, int64[1] to = {2}, int64[1] axis = {$v}> { z = Slice (d, from, to, axis) }",
        "1",
        {"beyond": "7", "least": LEAST, "most": MOST},
    ),
    Row(
        "top-k",
        "<int64[1] k = {$v}> { z, places = TopK (d, k) }",
        "3",
        {"beyond": TERA, "negative": "-1"},
        places=PLACES,
    ),
    Row(
        "unsqueeze",
        "<int64[2] axes = {$v}> { z = Unsqueeze (d, axes) }",
        "0, 1",
        {"beyond": f"0, {10**9}", "twice": "0, 0", "least": f"0, {LEAST}"},
    ),
    Row(
        "squeeze",
        "<int64[1] axes = {$v}, int64[1] nought = {0}> { u = Unsqueeze (d, nought) z = Squeeze (u, axes) }",
        "0",
        {"beyond": "9", "not-1": "2"},
    ),
    Row(
        "scatter-nd",
        "<float[3] t = {1.0, 2.0, 3.0}, int64[1, 1] i = {$v}, float[1] u = {9.0}> { z = ScatterND (t, i, u) }",
        "1",
        {"beyond": TERA, "least": LEAST},
    ),
    Row(
        "scatter-elements",
        "<float[3] t = {1.0, 2.0, 3.0}, int64[1] i = {$v}, float[1] u = {9.0}> { z = ScatterElements (t, i, u) }",
        "1",
        {"beyond": TERA, "before": "-4"},
    ),
    Row(
        "cumsum",
        "<int64 axis = {$v}> { z = CumSum (d, axis) }",
        "1",
        {"beyond": "7", "least": LEAST},
    ),
    Row(
        "trilu",
        "<int64 k = {$v}> { z = Trilu (d, k) }",
        "1",
        {"most": MOST, "least": LEAST},
        codes=ANY,
    ),
    Row(
        "center-crop-pad",
        "<float[2] t = {1.0, 2.0}, int64[1] s = {$v}> { z = CenterCropPad (t, s) }",
        "5",
        {"tera": TERA, "negative": "-5"},
        places=(BESIDE, PATH, CHAIN),
        codes=ANY,
    ),
    Row(
        "affine-grid",
        "<float[1, 2, 3] theta = {1.0, 0.0, 0.0, 0.0, 1.0, 0.0}, int64[4] s = {$v}> { z = AffineGrid (theta, s) }",
        "1, 1, 4, 4",
        {"tera": "1, 1, 1000000, 1000000", "negative": "1, 1, -4, 4"},
        places=(BESIDE, PATH, CHAIN),
    ),
    Row(
        "col2im",
        "<float[1, 4, 4] t = {1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0}, "
        "int64[2] s = {$v}, int64[2] b = {2, 2}> { z = Col2Im (t, s, b) }",
        "3, 3",
        {"tera": "1000000, 1000000", "negative": "-3, -3"},
    ),
    Row(
        "max-unpool",
        "<float[1, 1, 2, 2] t = {1.0, 2.0, 3.0, 4.0}, int64[1, 1, 2, 2] i = {0, 2, 8, 10}, int64[4] s = {$v}> "
        "{ z = MaxUnpool <kernel_shape = [2, 2], strides = [2, 2]> (t, i, s) }",
        "1, 1, 4, 4",
        {"tera": "1, 1, 1000000, 1000000", "negative": "1, 1, -4, -4", "too-small": "1, 1, 1, 1"},
    ),
    Row(
        "dft-length",
        "<float[1, 4, 1] t = {1.0, 2.0, 3.0, 4.0}, int64 n = {$v}> { z = DFT (t, n) }",
        "4",
        {"tera": TERA, "zero": "0", "negative": "-4"},
    ),
    Row(
        "stft-step",
        "<float[1, 16, 1] t = {1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0, 1.0, 2.0, 3.0, 4.0}, "
        "int64 step = {$v}, float[4] w = {1.0, 1.0, 1.0, 1.0}> { z = STFT (t, step, w) }",
        "4",
        {"zero": "0", "negative": "-4"},
    ),
    Row(
        "split",
        "<int64[2] s = {$v}> { z, rest = Split <axis = 1> (d, s) }",
        "4, 12",
        {"negative": "-4, 20", "overflow": f"{MOST}, 17", "sum": "4, 4"},
        places=PLACES,
    ),
    Row(
        "cast-text",
        '<string[1] t = {"$v"}> { z = Cast <to = 1> (t) }',
        "1.5",
        {"no-number": "one", "overlong": "9" * 5000},
        codes=ANY,
        places=(BESIDE, PATH),
    ),
    _integers("Div", "int64", "7, 2", {"zero": "7, 0"}),
    _integers("Div", "int64", "7, 2", {"least": f"{LEAST}, -1"}, ANY),
    _integers("Div", "int32", "7, 2", {"zero": "7, 0"}),
    _integers("Div", "int32", "7, 2", {"least": f"{-(2**31)}, -1"}, ANY),
    _integers("Mod", "int64", "7, 2", {"zero": "7, 0"}),
    _integers("Mod", "int64", "7, 2", {"least": f"{LEAST}, -1"}, ANY),
    _integers("Mod", "int32", "7, 2", {"zero": "7, 0"}),
    _integers("Mod", "int32", "7, 2", {"least": f"{-(2**31)}, -1"}, ANY),
    _integers("Mod <fmod = 1>", "int64", "7, 2", {"zero": "7, 0"}, ANY),
    Row(
        "bit-shift",
        '<uint64[1] t = {1}, uint64[1] n = {$v}> { z = BitShift <direction = "LEFT"> (t, n) }',
        "3",
        {"200": "200", "most": str(2**63)},
        gives="uint64",
        codes=ANY,
    ),
    Row(
        "pow",
        "<int64[1] t = {10}, int64[1] e = {$v}> { z = Pow (t, e) }",
        "2",
        {"huge": str(2**40), "negative": "-1"},
        gives="int64",
        codes=ANY,
    ),
    Row(
        "einsum",
        '<float[2] t = {1.0, 2.0}> { z = Einsum <equation = "$v"> ('
        + ", ".join(["t"] * 24)
        + ") }",
        ",".join("a" * 24) + "->a",
        {"every-letter": ",".join("abcdefghijklmnopqrstuvwx") + "->abcdefghijklmnopqrstuvwx"},
        codes=ANY,
        places=(BESIDE, PATH),
    ),
)  # fmt: skip

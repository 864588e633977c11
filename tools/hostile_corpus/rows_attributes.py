"""Attributes out of range."""

from __future__ import annotations

from hostile_corpus.case import ANY, INVALID
from hostile_corpus.placing import FUNCTION, PATH, Row

LEAST, HUGE = str(-(2**63)), str(2**62)
PLACES = (PATH, FUNCTION)
ONES_8, ONES_16, ONES_64 = (", ".join(["1.0"] * count) for count in (8, 16, 64))


def _row(
    name: str,
    text: str,
    good: str,
    bad: dict[str, str],
    on: str = "flat",
    gives: str = "float",
    codes: frozenset[int] = INVALID,
) -> Row:
    return Row(name, text, good, bad, gives, on, codes, PLACES)


def _conv(attribute: str, good: str, bad: dict[str, str]) -> Row:
    text = f"<float[2, 8, 1, 1] w = {{{ONES_16}}}> {{ z = Conv <{attribute} = $v> (d, w) }}"
    return _row(f"conv-{attribute.replace('_', '-')}", text, good, bad, "image")


def _pool(op: str, attribute: str, good: str, bad: dict[str, str]) -> Row:
    kernel = "" if attribute == "kernel_shape" else "kernel_shape = [2, 2], "
    text = f"{{ z = {op} <{kernel}{attribute} = $v> (d) }}"
    return _row(f"{op.lower()}-{attribute.replace('_', '-')}", text, good, bad, "image")


def _recurrent(op: str, gates: int) -> Row:
    size = 3 * gates
    w, r = (", ".join(["0.1"] * (size * n)) for n in (16, 3))
    text = (
        f"<float[1, {size}, 16] w = {{{w}}}, float[1, {size}, 3] r = {{{r}}}> "
        f"{{ z = {op} <hidden_size = $v> (d, w, r) }}"
    )
    return _row(
        f"{op.lower()}-hidden-size", text, "3", {"negative": "-3", "zero": "0", "huge": HUGE}, "sequence"
    )


KERNELS = {"zero": "[0, 0]", "negative": "[-2, 2]", "huge": f"[{2**40}, {2**40}]"}
STRIDES = {"zero": "[0, 0]", "negative": "[-1, 1]"}
DILATIONS = {"zero": "[0, 0]", "huge": f"[{HUGE}, {HUGE}]", "negative": "[-1, -1]"}
PADS = {"huge": f"[{2**40}, {2**40}, {2**40}, {2**40}]", "negative": f"[-{HUGE}, 0, 0, 0]"}
AXES = {"beyond": "99", "least": LEAST}

ROWS = (
    _conv("group", "1", {"zero": "0", "negative": "-1", "no-divisor": "3", "huge": HUGE}),
    _conv("strides", "[2, 2]", STRIDES),
    _conv("dilations", "[1, 1]", {"zero": "[0, 0]", "negative": "[-1, -1]"}),
    _conv("pads", "[1, 1, 1, 1]", PADS),
    _conv("kernel_shape", "[1, 1]", KERNELS),
    _row(
        "convtranspose-output-padding",
        f"<float[8, 2, 2, 2] w = {{{ONES_64}}}> "
        "{ z = ConvTranspose <strides = [2, 2], output_padding = [$v]> (d, w) }",
        "0, 0",
        {"huge": f"{2**40}, {2**40}", "negative": "-9, -9"},
        "image",
    ),
    _row(
        "convtranspose-strides",
        "<float[8, 2, 2, 2] w = {" + ", ".join(["1.0"] * 64) + "}> { z = ConvTranspose <strides = [$v]> (d, w) }",
        "2, 2",
        {"huge": f"{2**30}, {2**30}", "zero": "0, 0", "negative": "-1, -1"},
        "image",
    ),
    _pool("MaxPool", "kernel_shape", "[2, 2]", KERNELS),
    _pool("MaxPool", "strides", "[2, 2]", STRIDES),
    _pool("MaxPool", "dilations", "[1, 1]", DILATIONS),
    _pool("MaxPool", "pads", "[1, 1, 1, 1]", PADS),
    _pool("AveragePool", "kernel_shape", "[2, 2]", KERNELS),
    _pool("AveragePool", "strides", "[2, 2]", STRIDES),
    _pool("LpPool", "kernel_shape", "[2, 2]", KERNELS),
    _row("lppool-p", "{ z = LpPool <kernel_shape = [2, 2], p = $v> (d) }", "2",
         {"zero": "0", "negative": "-1"}, "image", codes=ANY),
    _row(
        "group-norm-groups",
        f"<float[8] s = {{{ONES_8}}}> "
        "{ z = GroupNormalization <num_groups = $v> (d, s, s) }",
        "2",
        {"zero": "0", "negative": "-2", "no-divisor": "3", "huge": HUGE},
        "image",
    ),
    _row("lrn-size", "{ z = LRN <size = $v> (d) }", "3", {"zero": "0", "negative": "-3"}, "image"),
    _row("depth-to-space", "{ z = DepthToSpace <blocksize = $v> (d) }", "2",
         {"zero": "0", "negative": "-2", "no-divisor": "3", "huge": str(2**32)}, "image"),
    _row("space-to-depth", "{ z = SpaceToDepth <blocksize = $v> (d) }", "2",
         {"zero": "0", "negative": "-2", "no-divisor": "3", "huge": str(2**32)}, "image"),
    _row("transpose-perm", "{ z = Transpose <perm = [$v]> (d) }", "1, 0",
         {"twice": "0, 0", "beyond": "0, 7", "negative": "-1, 0", "short": "0", "long": "0" + ", 1" * 9999}),
    _row("softmax-axis", "{ z = Softmax <axis = $v> (d) }", "1", AXES),
    _row("log-softmax-axis", "{ z = LogSoftmax <axis = $v> (d) }", "1", AXES),
    _row("concat-axis", "{ z = Concat <axis = $v> (d, d) }", "1", AXES),
    _row("flatten-axis", "{ z = Flatten <axis = $v> (d) }", "1", AXES),
    _row("gather-axis", "<int64[1] i = {1}> { z = Gather <axis = $v> (d, i) }", "1", AXES),
    _row("argmax-axis", "{ k = ArgMax <axis = $v> (d) z = Cast <to = 1> (k) }", "1", AXES),
    _row("split-outputs", "{ z, rest = Split <axis = 1, num_outputs = $v> (d) }", "2",
         {"zero": "0", "negative": "-2", "huge": HUGE}),
    _row("layer-norm-axis", f"<float[16] s = {{{ONES_16}}}> "
         "{ z = LayerNormalization <axis = $v> (d, s) }", "1", AXES),
    _row("layer-norm-epsilon", f"<float[16] s = {{{ONES_16}}}> "
         "{ z = LayerNormalization <epsilon = $v> (d, s) }", "1e-5",
         {"negative": "-1e30", "infinite": "3e38"}, codes=ANY),
    _row("reduce-axes", "<int64[1] axes = {$v}> { z = ReduceSum (d, axes) }", "0", {**AXES, "negative": "-3"}),
    _row("reduce-axes-twice", "<int64[2] axes = {$v}> { z = ReduceMean (d, axes) }", "0, 1",
         {"same": "1, 1", "alias": "1, -1"}, codes=ANY),
    _row("lp-normalization", "{ z = LpNormalization <axis = 1, p = $v> (d) }", "2", {"zero": "0", "negative": "-1"}),
    _row("one-hot-axis", "<int64 n = {3}, float[2] v = {0.0, 1.0}> { k = ArgMax <axis = 1, keepdims = 0> (d) "
         "w = OneHot <axis = $v> (k, n, v) t = ReduceMax <keepdims = 0> (w) z = Add (d, t) }", "1", AXES),
    _row("cast-to", "{ k = Cast <to = $v> (d) z = Cast <to = 1> (k) }", "11",
         {"nothing": "0", "beyond": "999", "negative": "-1"}),
    _row("hardmax-axis", "{ k = Hardmax <axis = $v> (d) z = Add (k, d) }", "1", AXES),
    _row("einsum-equation", '{ z = Einsum <equation = "$v"> (d) }', "ij->ij",
         {"dots": "....->...", "many-dots": "." * 999, "comma": "ij,jk->ik", "commas": ",,,,", "arrow": "->",
          "arrows": "ij->ji->ij", "twice": "ij->ii", "unknown": "ij->ijk", "rank": "ijk->ijk",
          "sign": "i+j->ij", "long": "ij" * 50000 + "->ij"}),
    _row("einsum-equation-image", '{ z = Einsum <equation = "$v"> (d) }', "nchw->nhwc",
         {"dots": "....->...", "ellipses": "......->......", "inner-dots": "n..c.w->nw"}, "image"),
    _recurrent("LSTM", 4),
    _recurrent("GRU", 3),
    _recurrent("RNN", 1),
    _row("grid-sample", "<float[1, 1, 1, 2] g = {0.0, 0.0}, int64[1] nought = {0}, int64[1] one = {1}> "
         '{ e = Slice (d, nought, one, nought) z = GridSample <mode = "$v"> (e, g) }', "linear",
         {"mode": "hostile"}, "image"),
    Row("attention-heads", "{ z = com.microsoft.MultiHeadAttention <num_heads = $v> (d, d, d) }", "4",
        {"zero": "0", "negative": "-4", "no-divisor": "5", "huge": HUGE},
        on="sequence", places=PLACES, domains={"com.microsoft": 1}),
)  # fmt: skip

"""The table of the lowering tests: every op that training handles, in every form that behaves differently."""

from __future__ import annotations

import numpy as np

from .harness import Row
from .rows_fused import FUSED
from .rows_recurrent import RECURRENT

X = {"a": (2, 3)}
IMAGE = {"a": (2, 4, 5, 5)}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def scalar(value: float) -> np.ndarray:
    return np.array(value, np.float32)


INSIDE = {"a": np.array([[0.5, -0.9, 0.99], [-3e-4, 0.0, 0.1]])}
HEADS = {"a": (2, 2, 3, 4), "k": (2, 2, 5, 4), "v": (2, 2, 5, 3)}
_ANGLES = np.linspace(0, 2, 10).reshape(5, 2)
ROTATION = {"c": np.cos(_ANGLES).astype(np.float32), "s": np.sin(_ANGLES).astype(np.float32)}
GLOBAL_LP = "m = Abs(a) s = Mul(m, m) p = Mul(s, m) t = ReduceSum<keepdims=1>(p, x) y = Pow(t, third)"
POSITIVE = {"a": np.array([[0.5, 1.5, 2.5], [0.7, 3.0, 0.2]])}

ACTIVATIONS = [
    Row("Elu", "y = Elu<alpha=0.7>(a)", X),
    Row("Selu", "y = Selu(a)", X),
    Row("Celu", "y = Celu<alpha=0.7>(a)", X),
    Row("HardSigmoid", "y = HardSigmoid<alpha=0.3, beta=0.4>(a)", X),
    Row("HardSwish", "y = HardSwish(a)", {"a": (3, 8)}),
    Row("Softplus", "y = Softplus(a)", X),
    Row("Mish", "y = Mish(a)", X, opset=18),
    Row("Softsign", "y = Softsign(a)", X),
    Row("ThresholdedRelu", "y = ThresholdedRelu<alpha=0.3>(a)", X),
    Row("Shrink", "y = Shrink<bias=0.2, lambd=0.4>(a)", {"a": (3, 4)}),
    Row("PRelu", "y = PRelu(a, s)", {"a": (2, 3, 2, 2), "s": (3, 1, 1)}),
    Row("PRelu", "y = PRelu(a, s)", {"a": (2, 3), "s": (1,)}, label="one slope"),
    Row(
        "Gelu",
        "y = Gelu(a)",
        X,
        {"h": scalar(0.5), "w": scalar(2.0), "u": scalar(1.0)},
        opset=20,
        twin="d = Sqrt(w) f = Div(a, d) r = Erf(f) g = Add(r, u) b = Mul(a, g) y = Mul(b, h)",
    ),
    Row("Gelu", 'y = Gelu<approximate="tanh">(a)', X, opset=20, label="tanh"),
    Row("Hardmax", "h = Hardmax<axis=1>(a) y = Mul(h, a)", {"a": (3, 4)}),
    Row("Relu", "y = Relu(a)", X),
    Row("LeakyRelu", "y = LeakyRelu<alpha=0.2>(a)", X),
    Row("Sigmoid", "y = Sigmoid(a)", X),
    Row("Tanh", "y = Tanh(a)", X),
    Row("Softmax", "y = Softmax<axis=1>(a)", {"a": (2, 3, 2)}),
    Row("LogSoftmax", "y = LogSoftmax<axis=1>(a)", {"a": (2, 3, 2)}),
]

ARITHMETIC = [
    Row("Add", "y = Add(a, b)", {"a": (2, 3), "b": (3,)}),
    Row("Sub", "y = Sub(a, b)", {"a": (2, 3), "b": (2, 1)}),
    Row("Mul", "y = Mul(a, b)", {"a": (2, 3, 4), "b": (3, 1)}),
    Row("Div", "y = Div(a, b)", {"a": (2, 3), "b": np.array([1.0, -2.0, 3.0])}),
    Row("Abs", "y = Abs(a)", X),
    Row("Neg", "y = Neg(a)", X),
    Row("Exp", "y = Exp(a)", X),
    Row("Log", "y = Log(a)", POSITIVE),
    Row("Sqrt", "y = Sqrt(a)", POSITIVE),
    Row("Reciprocal", "y = Reciprocal(a)", POSITIVE),
    Row("Erf", "y = Erf(a)", X),
    Row("Sin", "y = Sin(a)", X),
    Row("Cos", "y = Cos(a)", X),
    Row("Tan", "y = Tan(a)", POSITIVE, tolerance=1e-4),
    Row("Sinh", "y = Sinh(a)", X),
    Row("Asin", "y = Asin(a)", INSIDE),
    Row("Acos", "y = Acos(a)", INSIDE),
    Row("Atan", "y = Atan(a)", {"a": np.array([[0.5, -1.5, 250.0], [-3e-4, 0.0, 9e8]])}),
    Row("Asinh", "y = Asinh(a)", {"a": np.array([[0.5, -1.5, 250.0], [-3e-4, 0.0, 9e4]])}),
    Row("Acosh", "y = Acosh(a)", {"a": np.array([[1.5, 1.01, 250.0], [3.0, 2.0, 9e4]])}),
    Row("Atanh", "y = Atanh(a)", INSIDE),
    Row("Cosh", "y = Cosh(a)", X),
    Row("Identity", "y = Identity(a)", X),
    Row("Cast", "d = Cast<to=11>(a) e = Mul(d, d) y = Cast<to=1>(e)", X),
    Row("Floor", "f = Floor(a) y = Mul(f, a)", {"a": np.array([[-1.5, 0.3, 2.7], [1.2, -0.2, 7.9]])}),
    Row("Ceil", "f = Ceil(a) y = Mul(f, a)", {"a": np.array([[-1.5, 0.3, 2.7], [1.2, -0.2, 7.9]])}),
    Row("Round", "f = Round(a) y = Mul(f, a)", {"a": np.array([[-1.4, 0.3, 2.7], [3.7, -0.2, 7.9]])}),
    Row("Sign", "f = Sign(a) y = Mul(f, a)", X),
    Row("Mod", "y = Mod<fmod=1>(a, b)", X, {"b": scalar(0.7)}),
    Row("Sum", "y = Sum(a, b, c)", {"a": (2, 3), "b": (3,), "c": (2, 1)}),
    Row("Sum", "y = Sum(a)", X, label="one"),
    Row("Mean", "y = Mean(a, b, c)", {"a": (2, 3), "b": (3,), "c": (2, 1)}),
    Row("Max", "y = Max(a, b, c)", {"a": (2, 3), "b": (3,), "c": (2, 3)}),
    Row("Min", "y = Min(a, b)", {"a": (2, 3), "b": (3,)}),
    Row("Pow", "y = Pow(a, p)", POSITIVE, {"p": floats(2.0, 3.0, 0.5)}),
    Row("Pow", "y = Pow(a, p)", X, {"p": np.array(3)}, label="integer exponent"),
    Row("Pow", "y = Pow(a, p)", X, {"p": floats(2, 3, 1, 2, 0, 4).reshape(2, 1, 3)}, label="broadcast base"),
    Row("Pow", "y = Pow(a, p)", POSITIVE | {"p": np.array(2.5)}, label="trained exponent"),
    Row("Where", "k = Greater(a, z) y = Where(k, a, b)", {"a": (2, 3), "b": (3,)}, {"z": scalar(0.1)}),
    Row(
        "Where",
        "s = ReduceSum<keepdims=0>(a) k = Greater(s, z) y = Where(k, s, b)",
        {"a": (2, 3), "b": ()},
        {"z": scalar(0.1)},
        label="scalar",
    ),
    Row("Clip", "y = Clip(a, l, h)", {"a": (3, 5)}, {"l": scalar(-0.5), "h": scalar(0.7)}),
    Row("Clip", "y = Clip(a, , h)", {"a": (3, 5)}, {"h": scalar(0.3)}, label="above"),
    Row("Clip", "y = Clip(a, l, h)", {"a": (3, 5), "l": np.array(-0.5), "h": np.array(0.6)}, label="trained"),
    Row("MatMul", "y = MatMul(a, b)", {"a": (2, 1, 4, 5), "b": (3, 5, 3)}),
    Row("MatMul", "y = MatMul(a, b)", {"a": (2, 5), "b": (5,)}, label="vector right"),
    Row("MatMul", "y = MatMul(b, a)", {"a": (5, 3), "b": (5,)}, label="vector left"),
    Row("MatMul", "y = MatMul(b, a)", {"a": (5,), "b": (5,)}, label="vectors"),
    Row("MatMul", "y = MatMul(b, a)", {"a": (2, 5, 3), "b": (5,)}, label="vector left of a batch"),
    Row(
        "Gemm",
        "y = Gemm<alpha=0.5, beta=0.3, transA=1, transB=1>(a, b, c)",
        {"a": (5, 4), "b": (3, 5), "c": (4, 1)},
    ),
    Row(
        "Gemm",
        "y = Gemm<alpha=0.5, beta=0.3>(a, b, c)",
        {"a": (4, 5), "b": (5, 3), "c": ()},
        label="scalar bias",
    ),
    Row("Gemm", "y = Gemm<transB=1>(a, b)", {"a": (4, 5), "b": (3, 5)}, label="no bias"),
]

REDUCTIONS = [
    Row("ReduceSum", "y = ReduceSum<keepdims=0>(a, x)", {"a": (2, 3, 4)}, {"x": ints(0, -1)}),
    Row("ReduceSum", "y = ReduceSum<noop_with_empty_axes=1>(a)", {"a": (2, 3)}, label="nothing", runs=False),
    Row("ReduceMean", "y = ReduceMean<axes=[-1]>(a)", {"a": (2, 3, 4)}),
    Row(
        "ReduceMean",
        "y = ReduceMean<keepdims=0>(a, x)",
        {"a": (2, 3, 4)},
        {"x": ints(1)},
        opset=18,
        label="opset 18",
    ),
    Row(
        "ReduceMean",
        "y = ReduceMean<noop_with_empty_axes=1>(a)",
        {"a": (2, 3)},
        opset=18,
        label="nothing",
        runs=False,
    ),
    Row("ReduceLogSumExp", "y = ReduceLogSumExp<axes=[1, 2]>(a)", {"a": (2, 3, 4)}),
    Row(
        "ReduceLogSumExp",
        "y = ReduceLogSumExp<axes=[0, -1], keepdims=0>(a)",
        {"a": (2, 3, 4)},
        label="dropped",
    ),
    Row("ReduceLogSumExp", "y = ReduceLogSumExp<keepdims=0>(a)", {"a": (2, 3, 4)}, label="all axes"),
    Row(
        "ReduceLogSumExp",
        "y = ReduceLogSumExp<axes=[1]>(a)",
        {"a": np.array([[-300.0, 200.0, 200.5], [-200.0, -201.0, -200.5]])},
        label="large",
        twin="y = ReduceLogSumExp<axes=[1]>(a)",
    ),
    Row(
        "ReduceLogSumExp",
        "y = ReduceLogSumExp<noop_with_empty_axes=1>(a)",
        {"a": (2, 3)},
        opset=18,
        label="nothing",
        twin="y = Identity(a)",
        runs=False,
    ),
    Row(
        "ReduceLogSumExp",
        "y = ReduceLogSumExp(a, x)",
        {"a": (2, 3, 4)},
        {"x": ints(1)},
        opset=18,
        label="opset 18",
    ),
    Row("ReduceL2", "y = ReduceL2<axes=[1], keepdims=0>(a)", {"a": (2, 3, 4)}),
    Row("ReduceL2", "y = ReduceL2(a, x)", {"a": (2, 3, 4)}, {"x": ints(2)}, opset=18, label="opset 18"),
    Row("ReduceL1", "y = ReduceL1<axes=[1]>(a)", {"a": (2, 3, 4)}),
    Row("ReduceSumSquare", "y = ReduceSumSquare<axes=[1], keepdims=0>(a)", {"a": (2, 3, 4)}),
    Row("ReduceLogSum", "y = ReduceLogSum<axes=[1]>(a)", POSITIVE),
    Row("ReduceMax", "y = ReduceMax<axes=[1, 2], keepdims=0>(a)", {"a": (2, 3, 4)}),
    Row("ReduceMax", "y = ReduceMax<keepdims=0>(a)", {"a": (2, 3, 4)}, label="all axes"),
    Row("ReduceMin", "y = ReduceMin(a, x)", {"a": (2, 3, 4)}, {"x": ints(-1)}, opset=18),
    Row("ReduceProd", "y = ReduceProd<axes=[0, 2], keepdims=0>(a)", {"a": (2, 3, 2)}),
    Row("ReduceProd", "y = ReduceProd<axes=[1]>(a)", {"a": (2, 3, 2)}, label="kept"),
    Row("ReduceProd", "y = ReduceProd<keepdims=0>(a)", {"a": np.linspace(0.8, 1.3, 77)[None]}, label="many"),
    Row("ReduceProd", "y = ReduceProd<axes=[1]>(a)", {"a": np.array([[0.0, 2.0, 3.0]])}, label="a zero"),
    Row("CumSum", "y = CumSum(a, x)", {"a": (2, 4, 3)}, {"x": np.array(1)}),
    Row(
        "CumSum",
        "y = CumSum<reverse=1>(a, x)",
        {"a": (2, 4)},
        {"x": np.array(0)},
        label="reverse, first axis",
    ),
    Row("CumSum", "y = CumSum<exclusive=1>(a, x)", {"a": (2, 4)}, {"x": np.array(-1)}, label="exclusive"),
    Row(
        "CumSum",
        "y = CumSum<exclusive=1, reverse=1>(a, x)",
        {"a": (2, 4)},
        {"x": np.array(-1)},
        label="exclusive and reverse",
    ),
    Row("TopK", "y, i = TopK(a, k)", {"a": (2, 5)}, {"k": ints(2)}),
]

LRN_CONSTANTS = {"to": ints(2, 1, 5, 4), "back": ints(2, 5, 2, 2)}


def _lrn(size: int, alpha: float, beta: float, bias: float, before: int, after: int) -> str:
    """LRN of a [2, 5, 2, 2] tensor by an AveragePool over the channels, seen as an image of height 5."""
    return (
        f"""q = Mul(a, a) r = Reshape(q, to)
        p = AveragePool<kernel_shape=[{size}, 1], pads=[{before}, 0, {after}, 0], count_include_pad=1>(r)
        s = Reshape(p, back) k = Constant<value_float={alpha}>() c = Constant<value_float={bias}>()
        e = Constant<value_float={beta}>() """
        "ka = CastLike(k, a) ca = CastLike(c, a) ea = CastLike(e, a) "
        "m = Mul(s, ka) b = Add(m, ca) d = Pow(b, ea) y = Div(a, d)"
    )


NORMALIZATIONS = [
    Row(
        "InstanceNormalization",
        "y = InstanceNormalization(a, s, b)",
        {"a": (2, 3, 4, 2), "s": (3,), "b": (3,)},
    ),
    Row(
        "GroupNormalization",
        "y = GroupNormalization<num_groups=2>(a, s, b)",
        {"a": (2, 4, 3), "s": (2,), "b": (2,)},
        opset=18,
    ),
    Row(
        "GroupNormalization",
        "y = GroupNormalization<num_groups=2>(a, s, b)",
        {"a": (2, 4, 3), "s": (4,), "b": (4,)},
        {
            "one": floats(1, 1),
            "nil": floats(0, 0),
            "to": ints(2, 2, 6),
            "back": ints(2, 4, 3),
            "col": ints(4, 1),
        },
        opset=21,
        label="opset 21",
        twin="r = Reshape(a, to) n = InstanceNormalization(r, one, nil) m = Reshape(n, back) "
        "t = Reshape(s, col) v = Reshape(b, col) p = Mul(m, t) y = Add(p, v)",
    ),
    Row("LayerNormalization", "y = LayerNormalization(a, s, b)", {"a": (2, 3, 4), "s": (4,), "b": (4,)}),
    Row(
        "LayerNormalization",
        "y = LayerNormalization<axis=1>(a, s)",
        {"a": (2, 3, 4), "s": (3, 4)},
        label="no bias",
    ),
    Row(
        "LayerNormalization",
        "n, m, d = LayerNormalization<axis=1>(a, s, b) p = Mul(n, m) y = Div(p, d)",
        {"a": (2, 3, 4), "s": (3, 4), "b": (3, 4)},
        label="all outputs read",
    ),
    Row("LpNormalization", "y = LpNormalization<axis=1>(a)", {"a": (2, 3, 2)}),
    Row(
        "LpNormalization",
        "y = LpNormalization<axis=-1, p=1>(a)",
        {"a": (2, 3, 2)},
        label="p=1",
        twin="n = ReduceL1<axes=[-1]>(a) y = Div(a, n)",
    ),
    Row(
        "MeanVarianceNormalization",
        "y = MeanVarianceNormalization<axes=[0, 2, 3]>(a)",
        {"a": (2, 3, 2, 2)},
        twin="m = ReduceMean<axes=[0, 2, 3]>(a) c = Sub(a, m) q = Mul(c, c) "
        "v = ReduceMean<axes=[0, 2, 3]>(q) d = Sqrt(v) y = Div(c, d)",
    ),
    Row(
        "LRN",
        "y = LRN<size=3, alpha=0.5, beta=0.6, bias=1.5>(a)",
        {"a": (2, 5, 2, 2)},
        LRN_CONSTANTS,
        twin=_lrn(3, 0.5, 0.6, 1.5, 1, 1),
    ),
]

HALVES = {"two": ints(2, 2), "three": ints(3, 3)}


def _two_groups(attributes: str, bias: str) -> str:
    """ConvTranspose with group=2 as two of them, of channels 0-1 and 2-3."""
    halves = f"b0, b1 = Split<axis=0>({bias}, three)" if bias else ""
    first, second = (", b0", ", b1") if bias else ("", "")
    return (
        f"a0, a1 = Split<axis=1>(a, two) w0, w1 = Split<axis=0>(w, two) {halves} "
        f"y0 = ConvTranspose<{attributes}>(a0, w0{first}) y1 = ConvTranspose<{attributes}>(a1, w1{second}) "
        "y = Concat<axis=1>(y0, y1)"
    )


CONVOLUTIONS = [
    Row("Conv", "y = Conv<pads=[1, 1, 1, 1]>(a, w, b)", IMAGE | {"w": (3, 4, 3, 3), "b": (3,)}),
    Row(
        "Conv",
        "y = Conv<group=2, strides=[2, 2], dilations=[1, 2], pads=[0, 1, 1, 2]>(a, w)",
        IMAGE | {"w": (6, 2, 2, 2)},
        label="grouped",
    ),
    Row("Conv", "y = Conv<group=4>(a, w, b)", IMAGE | {"w": (8, 1, 3, 3), "b": (8,)}, label="depthwise"),
    Row(
        "Conv",
        'y = Conv<auto_pad="SAME_UPPER", strides=[2, 2]>(a, w)',
        {"a": (2, 2, 5, 6), "w": (3, 2, 3, 4)},
        label="SAME_UPPER",
    ),
    Row(
        "Conv",
        'y = Conv<auto_pad="SAME_LOWER", strides=[2, 1]>(a, w)',
        {"a": (2, 2, 5, 6), "w": (3, 2, 3, 4)},
        label="SAME_LOWER",
    ),
    Row(
        "Conv",
        'y = Conv<auto_pad="VALID", strides=[2, 2]>(a, w)',
        {"a": (2, 2, 5, 6), "w": (3, 2, 3, 4)},
        label="VALID",
    ),
    Row("Conv", "y = Conv<pads=[1, 0]>(a, w)", {"a": (2, 2, 5), "w": (3, 2, 2)}, label="1-D"),
    Row("Conv", "y = Conv(a, w)", {"a": (1, 2, 3, 3, 3), "w": (2, 2, 2, 2, 2)}, label="3-D"),
    Row(
        "ConvTranspose",
        "y = ConvTranspose<strides=[2, 2]>(a, w, b)",
        {"a": (2, 4, 3, 2), "w": (4, 3, 3, 3), "b": (3,)},
    ),
    Row(
        "ConvTranspose",
        "y = ConvTranspose<group=2, strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0], dilations=[2, 1]>(a, w)",
        {"a": (2, 4, 3, 2), "w": (4, 3, 3, 2)},
        HALVES,
        label="grouped",
        twin=_two_groups("strides=[2, 3], pads=[1, 0, 0, 1], output_padding=[1, 0], dilations=[2, 1]", ""),
    ),
    Row(
        "ConvTranspose",
        "y = ConvTranspose<strides=[2, 2], group=2>(a, w, b)",
        {"a": (2, 4, 3, 2), "w": (4, 3, 2, 2), "b": (6,)},
        HALVES,
        label="kernel equals stride",
        twin=_two_groups("strides=[2, 2]", "b"),
    ),
    Row(
        "ConvTranspose",
        "y = ConvTranspose<strides=[2, 2], pads=[1, 0, 0, 1]>(a, w)",
        {"a": (2, 2, 3, 2), "w": (2, 3, 2, 2)},
        label="kernel equals stride, cut",
    ),
    Row(
        "ConvTranspose",
        "y = ConvTranspose<strides=[3]>(a, w)",
        {"a": (2, 2, 3), "w": (2, 3, 2)},
        label="gaps",
    ),
    Row(
        "ConvTranspose",
        "y = ConvTranspose<pads=[1, 1]>(a, w)",
        {"a": (2, 2, 4), "w": (2, 3, 1)},
        label="cut input",
    ),
    Row(
        "ConvTranspose",
        'y = ConvTranspose<auto_pad="SAME_UPPER", strides=[2, 2]>(a, w)',
        {"a": (2, 2, 3, 3), "w": (2, 1, 3, 3)},
        label="SAME_UPPER",
    ),
    Row(
        "ConvTranspose",
        'y = ConvTranspose<auto_pad="SAME_LOWER", strides=[2, 2]>(a, w)',
        {"a": (2, 2, 3, 3), "w": (2, 1, 3, 3)},
        label="SAME_LOWER",
    ),
    Row(
        "ConvTranspose",
        "y = ConvTranspose<output_shape=[6, 6], strides=[2, 2]>(a, w)",
        {"a": (2, 2, 3, 3), "w": (2, 1, 3, 3)},
        label="output_shape",
        twin="y = ConvTranspose<strides=[2, 2], pads=[1, 1, 0, 0]>(a, w)",
    ),
    Row("MaxPool", "y = MaxPool<kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]>(a)", IMAGE),
    Row(
        "MaxPool",
        'y = MaxPool<kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER">(a)',
        IMAGE,
        label="SAME_LOWER",
        twin="y = MaxPool<kernel_shape=[3, 2], strides=[2, 2], pads=[1, 1, 1, 0]>(a)",
    ),
    Row("MaxPool", "y = MaxPool<kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1>(a)", IMAGE, label="ceil"),
    Row("MaxPool", "y = MaxPool<kernel_shape=[2, 2], dilations=[2, 2]>(a)", IMAGE, label="dilated"),
    Row("MaxPool", "y = MaxPool<kernel_shape=[2]>(a)", {"a": (2, 2, 5)}, label="1-D"),
    Row(
        "MaxPool",
        "y, i = MaxPool<kernel_shape=[2, 2], storage_order=1>(a)",
        IMAGE,
        label="storage_order",
    ),
    Row(
        "AveragePool",
        "y = AveragePool<kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, count_include_pad=1>(a)",
        IMAGE,
        label="ceil, count_include_pad",
        twin="c = Pad(a, p) s = AveragePool<kernel_shape=[2, 2], strides=[2, 2]>(c) y = Mul(s, f)",
        constants={"p": ints(0, 0, 0, 0, 0, 0, 1, 1), "f": np.outer([1, 1, 2], [1, 1, 2]).astype(np.float32)},
        runs=False,
    ),
    Row("MaxPool", "y = MaxPool<kernel_shape=[2, 2, 2]>(a)", {"a": (1, 2, 3, 3, 3)}, label="3-D"),
    Row("AveragePool", "y = AveragePool<kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]>(a)", IMAGE),
    Row(
        "AveragePool",
        "y = AveragePool<kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1>(a)",
        IMAGE,
        label="count_include_pad",
    ),
    Row(
        "AveragePool",
        "y = AveragePool<kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1>(a)",
        IMAGE,
        label="ceil",
    ),
    Row(
        "AveragePool",
        'y = AveragePool<kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER">(a)',
        {"a": (2, 2, 5, 4)},
        label="SAME_UPPER",
    ),
    Row(
        "AveragePool",
        "y = AveragePool<kernel_shape=[2, 2], dilations=[2, 2], strides=[1, 2], pads=[1, 0, 0, 1]>(a)",
        IMAGE,
        opset=19,
        label="dilated",
    ),
    Row(
        "AveragePool",
        "y = AveragePool<kernel_shape=[2, 2], dilations=[2, 2], pads=[1, 0, 0, 1], count_include_pad=1>(a)",
        IMAGE,
        opset=19,
        label="dilated, count_include_pad",
    ),
    Row(
        "AveragePool",
        "y = AveragePool<kernel_shape=[1, 2, 1], strides=[2, 1, 1], dilations=[1, 2, 1]>(a)",
        {"a": (2, 2, 2, 4, 2)},
        opset=19,
        label="3-D, dilated, with a rest",
    ),
    Row("GlobalAveragePool", "y = GlobalAveragePool(a)", IMAGE),
    Row("GlobalMaxPool", "y = GlobalMaxPool(a)", IMAGE),
]

CUT = {"s": ints(1), "e": ints(4), "x": ints(1), "q": ints(1, 0, 2, 0)}

MOVES = [
    Row("Concat", "y = Concat<axis=1>(a, b)", {"a": (2, 3), "b": (2, 2)}),
    Row("Expand", "y = Expand(a, h)", {"a": (3, 1)}, {"h": ints(2, 1, 4)}),
    Row("Flatten", "y = Flatten<axis=2>(a)", {"a": (2, 3, 4)}),
    Row("Reshape", "y = Reshape(a, h)", {"a": (2, 3, 4)}, {"h": ints(0, -1)}),
    Row("Transpose", "y = Transpose<perm=[2, 0, 1]>(a)", {"a": (2, 3, 4)}),
    Row("Squeeze", "y = Squeeze(a, x)", {"a": (2, 1, 4)}, {"x": ints(1)}),
    Row("Unsqueeze", "y = Unsqueeze(a, x)", {"a": (2, 4)}, {"x": ints(1, -1)}),
    Row("Tile", "y = Tile(a, h)", X, {"h": ints(2, 3)}),
    Row("Trilu", "y = Trilu<upper=0>(a)", {"a": (3, 3)}),
    Row("Gather", "y = Gather<axis=0>(a, i)", {"a": (4, 3)}, {"i": ints(-1, 0, 0)}),
    Row("Gather", "y = Gather<axis=1>(a, i)", {"a": (4, 3)}, {"i": np.array(1)}, label="scalar index"),
    Row(
        "GatherElements",
        "y = GatherElements<axis=0>(a, i)",
        {"a": (4, 3)},
        {"i": np.array([[0, 1, 2], [2, 2, 3]])},
    ),
    Row("GatherND", "y = GatherND(a, i)", {"a": (4, 3)}, {"i": np.array([[0, 1], [2, 2], [0, 1]])}),
    Row("ScatterND", "y = ScatterND(a, i, u)", {"a": (4, 3), "u": (2, 3)}, {"i": np.array([[0], [2]])}),
    Row(
        "ScatterElements",
        "y = ScatterElements(a, i, u)",
        {"a": (4, 3), "u": (2, 3)},
        {"i": np.array([[0, 1, 2], [2, 2, 3]])},
    ),
    Row(
        "ScatterElements",
        'y = ScatterElements<axis=1, reduction="mul">(a, i, u)',
        {"a": (2, 4), "u": (2, 3)},
        {"i": np.array([[3, 1, 0], [-1, 0, 1]])},
        opset=18,
        label="mul",
    ),
    Row(
        "ScatterND",
        'y = ScatterND<reduction="add">(a, i, u)',
        {"a": (4, 3), "u": (2, 3)},
        {"i": np.array([[0], [2]])},
        opset=18,
        label="add",
    ),
    Row("Transpose", "y = Transpose(a)", {"a": (2, 3, 4)}, label="reversed"),
    Row(
        "Slice",
        "y = Slice(a, s, e, x, t)",
        {"a": (4, 5)},
        {"s": ints(1), "e": ints(100), "x": ints(1), "t": ints(2)},
    ),
    Row(
        "Slice",
        "y = Slice(a, s, e, x, t)",
        {"a": (4, 5)},
        {"s": ints(-1, 3), "e": ints(-100, 0), "x": ints(1, 0), "t": ints(-1, -2)},
        label="backwards",
    ),
    Row("Split", "p, q = Split<axis=1>(a, s)", {"a": (2, 5)}, {"s": ints(2, 3)}, outputs=("p", "q")),
    Row(
        "Split", "y, q, r = Split<axis=1>(a, s)", {"a": (2, 5)}, {"s": ints(2, 1, 2)}, label="unused outputs"
    ),
    Row(
        "Split",
        "p, q, y = Split<axis=-1, num_outputs=3>(a)",
        {"a": (2, 8)},
        opset=18,
        label="unused, num_outputs",
    ),
    Row("Split", "p, y = Split<axis=1>(a)", {"a": (2, 4)}, label="unused, equal"),
    Row("Pad", "y = Pad(a, p)", X, {"p": ints(1, 0, 2, 1)}),
    Row(
        "Pad",
        "y = Pad(a, p)",
        {"a": (4, 5)},
        {"p": ints(1, -1, 2, -1)} | CUT,
        label="negative",
        twin="c = Slice(a, s, e, x) y = Pad(c, q)",
    ),
    Row("Pad", "y = Pad(a, p, , x)", {"a": (2, 5)}, {"p": ints(1, 2), "x": ints(-1)}, opset=18, label="axes"),
    Row("Pad", 'y = Pad<mode="reflect">(a, p)', {"a": (2, 4)}, {"p": ints(0, 2, 1, 3)}, label="reflect"),
    Row("Pad", 'y = Pad<mode="edge">(a, p)', {"a": (2, 4)}, {"p": ints(0, 2, 1, 3)}, label="edge"),
    Row(
        "Pad",
        'y = Pad<mode="wrap">(a, p, , x)',
        {"a": (2, 4)},
        {"p": ints(2, 3), "x": ints(1)},
        opset=19,
        label="wrap",
    ),
    Row("Compress", "y = Compress<axis=0>(a, k)", {"a": (4, 3)}, {"k": np.array([True, False, True, True])}),
    Row("Compress", "y = Compress(a, k)", X, {"k": np.array([True, False, True, True])}, label="flat"),
    Row("DepthToSpace", "y = DepthToSpace<blocksize=2>(a)", {"a": (2, 8, 2, 3)}),
    Row("DepthToSpace", 'y = DepthToSpace<blocksize=2, mode="CRD">(a)', {"a": (2, 8, 2, 3)}, label="CRD"),
    Row("SpaceToDepth", "y = SpaceToDepth<blocksize=2>(a)", {"a": (2, 2, 4, 6)}),
]

# What the standard defines by other operators; those of opset 23 and newer are unknown to the runtime.
DEFINITIONS = [
    Row("CastLike", "d = Cast<to=11>(a) e = Mul(d, d) y = CastLike(e, z)", X, {"z": scalar(0)}),
    Row(
        "CenterCropPad",
        "y = CenterCropPad<axes=[1, 2]>(a, s)",
        {"a": (2, 5, 3)},
        {"s": ints(2, 6)},
        opset=18,
    ),
    Row(
        "NegativeLogLikelihoodLoss",
        'y = NegativeLogLikelihoodLoss<reduction="mean", ignore_index=1>(a, t, w)',
        {"a": (4, 3)},
        {"t": ints(0, 2, 1, 2), "w": floats(0.5, 1.0, 2.0)},
    ),
    Row("RMSNormalization", "y = RMSNormalization(a, s)", {"a": (2, 3, 4), "s": (4,)}, opset=23),
    Row(
        "RMSNormalization",
        "y = RMSNormalization<axis=1, epsilon=0.1>(a, s)",
        {"a": (2, 3, 4), "s": (3, 4)},
        opset=23,
        label="two axes",
    ),
    Row("Swish", "y = Swish<alpha=1.5>(a)", X, opset=24),
    Row("SwiGLU", "y = SwiGLU(a, b)", {"a": (2, 3), "b": (2, 3)}, opset=28),
    Row(
        "RotaryEmbedding",
        "y = RotaryEmbedding(a, c, s, p)",
        {"a": (2, 2, 3, 4)},
        {**ROTATION, "p": np.array([[0, 1, 2], [2, 3, 4]])},
        opset=23,
    ),
    Row(
        "RotaryEmbedding",
        "y = RotaryEmbedding<num_heads=2, interleaved=1>(a, c, s, p)",
        {"a": (2, 3, 8)},
        {**ROTATION, "p": np.array([[0, 1, 2], [2, 3, 4]])},
        opset=23,
        label="interleaved, flat",
    ),
    Row("Attention", "y = Attention(a, k, v)", HEADS, opset=23),
    Row(
        "Attention",
        "y = Attention<is_causal=1, scale=0.3>(a, k, v)",
        HEADS,
        opset=23,
        label="causal",
    ),
    Row(
        "Attention",
        "y = Attention<q_num_heads=4, kv_num_heads=2, softcap=2.0>(a, k, v, m)",
        {"a": (2, 3, 8), "k": (2, 5, 4), "v": (2, 5, 6)},
        {"m": np.where(np.tri(3, 5), 0, -1e4).astype(np.float32)},
        opset=23,
        label="flat, grouped, masked",
    ),
]

WINDOWS = [
    Row("LpPool", "y = LpPool<kernel_shape=[2, 3], strides=[2, 1], pads=[0, 1, 1, 1]>(a)", IMAGE),
    Row("LpPool", "y = LpPool<kernel_shape=[2], p=1>(a)", {"a": (2, 3, 5)}, label="p=1"),
    Row(
        "LpPool",
        "y = LpPool<kernel_shape=[2, 2], dilations=[2, 1], p=3>(a)",
        {"a": (1, 2, 4, 4)},
        opset=18,
        label="p=3",
    ),
    Row(
        "LpPool",
        'y = LpPool<kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER">(a)',
        {"a": (1, 2, 5, 4)},
        label="SAME_UPPER",
    ),
    Row(
        "GlobalLpPool",
        "y = GlobalLpPool<p=3>(a)",
        {"a": (2, 3, 4, 2)},
        {"x": ints(2, 3), "third": scalar(1 / 3)},
        twin=GLOBAL_LP,
    ),
    Row(
        "GlobalLpPool",
        "y = GlobalLpPool(a)",
        {"a": (2, 3, 4)},
        label="p=2",
        twin="y = ReduceL2<axes=[2]>(a)",
    ),
    Row(
        "MaxUnpool",
        "p, i = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(a) q = Mul(p, p) "
        "y = MaxUnpool<kernel_shape=[2, 2], strides=[2, 2]>(q, i)",
        {"a": (2, 2, 4, 4)},
    ),
    Row(
        "Col2Im",
        "y = Col2Im<pads=[1, 0, 0, 1], strides=[2, 1], dilations=[1, 2]>(a, s, k)",
        {"a": (2, 12, 12)},
        {"s": ints(6, 5), "k": ints(3, 2)},
        opset=18,
    ),
    Row(
        "Col2Im", "y = Col2Im(a, s, k)", {"a": (1, 4, 3)}, {"s": ints(4), "k": ints(2)}, opset=18, label="1-D"
    ),
]


def _grid(mode: str, padding: str, aligned: int, *, volume: bool = False, opset: int = 16) -> Row:
    rng = np.random.default_rng(len(mode) + len(padding) + aligned)
    size, places = ((2, 2, 3, 2, 4), (2, 2, 1, 3, 3)) if volume else ((2, 2, 3, 4), (2, 3, 3, 2))
    return Row(
        "GridSample",
        f'y = GridSample<mode="{mode}", padding_mode="{padding}", align_corners={aligned}>(a, g)',
        {"a": size, "g": rng.uniform(-1.9, 1.9, places)},
        opset=opset,
        label=f"{'3-D ' if volume else ''}{mode}, {padding}, {aligned}",
    )


SAMPLING = [
    *(
        _grid(mode, padding, aligned)
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for aligned in (0, 1)
    ),
    *(
        _grid(mode, padding, aligned, volume=True, opset=20)
        for mode, padding, aligned in [
            ("linear", "zeros", 0),
            ("linear", "border", 1),
            ("linear", "reflection", 0),
            ("nearest", "zeros", 1),
        ]
    ),
    Row("AffineGrid", "y = AffineGrid(a, s)", {"a": (2, 2, 3)}, {"s": ints(2, 3, 4, 5)}, opset=20),
    Row(
        "AffineGrid",
        "y = AffineGrid<align_corners=1>(a, s)",
        {"a": (2, 3, 4)},
        {"s": ints(2, 3, 2, 3, 4)},
        opset=20,
        label="volume, aligned",
    ),
    Row(
        "ReverseSequence",
        "y = ReverseSequence<time_axis=1, batch_axis=0>(a, n)",
        {"a": (2, 4, 3)},
        {"n": ints(2, 4)},
    ),
    Row("ReverseSequence", "y = ReverseSequence(a, n)", {"a": (4, 2)}, {"n": ints(3, 1)}, label="time first"),
    Row("OneHot", "y = OneHot<axis=0>(i, d, a)", {"a": (2,)}, {"i": ints(0, 2, 1), "d": np.array(3)}),
    Row("EyeLike", "e = EyeLike(a) y = Mul(e, a)", {"a": (3, 4)}),
    Row(
        "RandomNormalLike",
        "e = RandomNormalLike<scale=1e-30, mean=2.0>(a) y = Mul(e, a)",
        X,
        {"t": scalar(2.0)},
        twin="y = Mul(a, t)",
    ),
    Row(
        "RandomUniformLike",
        "e = RandomUniformLike<low=2.0, high=2.0>(a) y = Mul(e, a)",
        X,
        {"t": scalar(2.0)},
        twin="y = Mul(a, t)",
    ),
]

EINSUMS = [
    Row("Einsum", f'y = Einsum<equation="{equation}">({", ".join(shapes)})', shapes, label=equation)
    for equation, shapes in [
        ("ij,jk->ik", {"a": (2, 3), "b": (3, 4)}),
        ("bhqd,bhkd->bhqk", {"a": (2, 2, 3, 2), "b": (2, 2, 4, 2)}),
        ("bij,bkj", {"a": (2, 2, 3), "b": (2, 4, 3)}),
        ("...ij,...jk->...ik", {"a": (2, 2, 3), "b": (2, 3, 4)}),
        ("nchw,c->nhw", {"a": (2, 3, 2, 2), "b": (3,)}),
        ("ij->ji", {"a": (2, 3)}),
        ("ii->i", {"a": (3, 3)}),
        ("ii", {"a": (3, 3)}),
        ("bii,bi->b", {"a": (2, 3, 3), "b": (2, 3)}),
        ("iji,k->jk", {"a": (2, 3, 2), "k": (2,)}),
        ("iii->i", {"a": (3, 3, 3)}),
        ("ijij->ji", {"a": (2, 3, 2, 3)}),
        ("ijk->j", {"a": (2, 3, 2)}),
        ("i,j->ij", {"a": (2,), "b": (3,)}),
        ("ij,jk,kl->il", {"a": (2, 3), "b": (3, 2), "c": (2, 2)}),
        ("bnd,bnd->b", {"a": (2, 3, 2), "b": (2, 3, 2)}),
    ]
]


def _resize(
    mode: str,
    coordinates: str,
    label: str,
    *,
    scales: tuple[float, ...] = (),
    sizes: tuple[int, ...] = (),
    **extra: object,
) -> Row:
    attributes = f'mode="{mode}", coordinate_transformation_mode="{coordinates}"'
    attributes += "".join(
        f", {k}={f'{chr(34)}{v}{chr(34)}' if isinstance(v, str) else v}" for k, v in extra.items()
    )
    if scales:
        return Row(
            "Resize",
            f"y = Resize<{attributes}>(a, , s)",
            {"a": (2, 2, 4, 3)},
            {"s": floats(*scales)},
            label=label,
        )
    return Row(
        "Resize", f"y = Resize<{attributes}>(a, , , s)", {"a": (2, 2, 4, 3)}, {"s": ints(*sizes)}, label=label
    )


RESIZES = [
    _resize("nearest", "asymmetric", "nearest x2", scales=(1, 1, 2, 2), nearest_mode="floor"),
    _resize("nearest", "half_pixel", "nearest half_pixel", scales=(1, 1, 2.5, 1.5)),
    _resize("nearest", "align_corners", "nearest ceil", sizes=(2, 2, 7, 5), nearest_mode="ceil"),
    _resize("nearest", "half_pixel", "nearest down", sizes=(2, 2, 2, 2), nearest_mode="round_prefer_ceil"),
    _resize("linear", "half_pixel", "linear half_pixel", scales=(1, 1, 2, 2)),
    _resize("linear", "pytorch_half_pixel", "linear pytorch_half_pixel", sizes=(2, 2, 1, 5)),
    _resize("linear", "align_corners", "linear align_corners", sizes=(2, 2, 7, 6)),
    _resize("linear", "asymmetric", "linear asymmetric down", scales=(1, 1, 0.5, 0.7)),
    _resize("cubic", "half_pixel", "cubic", scales=(1, 1, 2, 1.5)),
    _resize(
        "cubic",
        "align_corners",
        "cubic exclude_outside",
        sizes=(2, 2, 6, 7),
        exclude_outside=1,
        cubic_coeff_a=-0.5,
    ),
]

# What ONNX Runtime fuses into single kernels before it builds the gradient.
FUSIONS = [
    Row("Mul", "s = Sigmoid(a) y = Mul(a, s)", X, label="SiLU"),
    Row("Mul", "b = Mul(a, k) s = Sigmoid(b) y = Mul(a, s)", X, {"k": scalar(1.7)}, label="QuickGelu"),
    Row(
        "Erf",
        "d = Div(a, r) e = Erf(d) p = Add(e, one) m = Mul(a, p) y = Mul(m, h)",
        X,
        {"r": scalar(np.sqrt(2.0)), "one": scalar(1.0), "h": scalar(0.5)},
        label="Gelu by parts",
    ),
    Row(
        "Add",
        "b = Add(a, v) d = Div(b, r) e = Erf(d) p = Add(e, one) m = Mul(b, p) y = Mul(m, h)",
        X | {"v": (3,)},
        {"r": scalar(np.sqrt(2.0)), "one": scalar(1.0), "h": scalar(0.5)},
        label="bias and Gelu by parts",
    ),
    Row(
        "Tanh",
        """c = Pow(a, three) k = Mul(c, q) i = Add(a, k) j = Mul(i, r) t = Tanh(j) p = Add(t, one)
        m = Mul(a, p) y = Mul(m, h)""",
        X,
        {
            "three": scalar(3.0),
            "q": scalar(0.044715),
            "r": scalar(np.sqrt(2.0 / np.pi)),
            "one": scalar(1.0),
            "h": scalar(0.5),
        },
        label="Gelu by tanh",
    ),
    Row(
        "ReduceMean",
        """m = ReduceMean<axes=[-1]>(a) c = Sub(a, m) q = Pow(c, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, k)
        d = Sqrt(e) n = Div(c, d) t = Mul(n, s) y = Add(t, b)""",
        {"a": (2, 3, 4), "s": (4,), "b": (4,)},
        {"two": scalar(2.0), "k": scalar(1e-5)},
        label="LayerNormalization by parts",
        tolerance=1e-4,
    ),
    Row(
        "ReduceMean",
        "q = Pow(a, two) v = ReduceMean<axes=[-1]>(q) e = Add(v, k) d = Sqrt(e) n = Div(a, d) y = Mul(n, s)",
        {"a": (2, 3, 4), "s": (4,)},
        {"two": scalar(2.0), "k": scalar(1e-5)},
        label="RMS normalisation by parts",
        tolerance=1e-4,
    ),
    Row("MatMul", "m = MatMul(a, w) y = Add(m, b)", {"a": (2, 3), "w": (3, 4), "b": (4,)}, label="with bias"),
    Row(
        "MatMul",
        "t = Transpose<perm=[0, 2, 1]>(b) m = MatMul(a, t) y = Mul(m, k)",
        {"a": (2, 3, 4), "b": (2, 5, 4)},
        {"k": scalar(0.5)},
        label="scaled and transposed",
    ),
    Row(
        "Softmax",
        "m = Add(a, mask) y = Softmax(m)",
        {"a": (2, 3, 4)},
        {"mask": np.where(np.tri(3, 4), 0, -1e4).astype(np.float32)},
        label="masked",
    ),
    Row(
        "Conv",
        "c = Conv(a, w, b) d = Relu(c) y = Conv<group=3>(d, v)",
        {"a": (2, 2, 4, 4), "w": (3, 2, 2, 2), "b": (3,), "v": (3, 1, 2, 2)},
        label="with activation",
    ),
    Row(
        "Unsqueeze",
        "u = Unsqueeze(a, x) v = Squeeze(u, x) y = Mul(v, a)",
        X,
        {"x": ints(1)},
        label="and back",
    ),
    Row(
        "Cast", "b = Cast<to=1>(a) c = Cast<to=11>(b) d = Sqrt(c) y = Cast<to=1>(d)", POSITIVE, label="chain"
    ),
]

ROWS = [
    *ACTIVATIONS,
    *ARITHMETIC,
    *REDUCTIONS,
    *NORMALIZATIONS,
    *CONVOLUTIONS,
    *MOVES,
    *EINSUMS,
    *RESIZES,
    *FUSIONS,
    *WINDOWS,
    *SAMPLING,
    *DEFINITIONS,
    *RECURRENT,
    *FUSED,
]

"""Rows of operators that map every position on its own."""

from __future__ import annotations

from .rows import PRUNABLE, Row, image, vector, whole

NOT_ZERO = "not zero"
CONSTANT = "non-zero constant"

ZERO_STAYS = {
    "Abs": "Abs(h)",
    "Asin": "Asin(t)",
    "Asinh": "Asinh(h)",
    "Atan": "Atan(h)",
    "Atanh": "Atanh(t)",
    "Ceil": "Ceil(h)",
    "Celu": "Celu<alpha=0.7>(h)",
    "Elu": "Elu<alpha=0.7>(h)",
    "Erf": "Erf(h)",
    "Floor": "Floor(h)",
    "HardSwish": "HardSwish(h)",
    "LeakyRelu": "LeakyRelu<alpha=0.2>(h)",
    "Neg": "Neg(h)",
    "Relu": "Relu(h)",
    "Round": "Round(h)",
    "Selu": "Selu(h)",
    "Shrink": "Shrink<bias=0.1,lambd=0.3>(h)",
    "Sign": "Sign(h)",
    "Sin": "Sin(h)",
    "Sinh": "Sinh(h)",
    "Softsign": "Softsign(h)",
    "Sqrt": "Sqrt(a)",
    "Tan": "Tan(t)",
    "Tanh": "Tanh(h)",
    "ThresholdedRelu": "ThresholdedRelu<alpha=0.2>(h)",
}
CONSTANT_LEFT = {
    "Acos": "Acos(t)",
    "Cos": "Cos(h)",
    "Cosh": "Cosh(h)",
    "Exp": "Exp(h)",
    "HardSigmoid": "HardSigmoid(h)",
    "Sigmoid": "Sigmoid(h)",
    "Softplus": "Softplus(h)",
}
NOT_FINITE = {"Acosh": "Acosh(c)", "Log": "Log(a)", "Reciprocal": "Reciprocal(h)"}
BEFORE = "a = Abs(h) t0 = Tanh(h) half = Constant<value_float=0.5>() t = Mul(t0, half) c = Neg(a)"


def _unary(op: str, call: str, expect: str, *, opset: int = 17, title: str = "conv") -> Row:
    return image(op, title, expect, f"{BEFORE} z = {call}", opset=opset)


def _mask(op: str, made: str) -> Row:
    """A comparison as a gate: a removed channel is zero whatever the gate says."""
    body = f"c1 = Greater(h, s) c2 = Less(h, s) {made} f = Cast<to=1>(c) z = Mul(h, f)"
    return image(op, "gate", PRUNABLE, body, "float s = {0.2}")


ROWS: list[Row] = [
    *(_unary(op, call, PRUNABLE) for op, call in ZERO_STAYS.items()),
    *(_unary(op, call, PRUNABLE) for op, call in CONSTANT_LEFT.items()),
    *(_unary(op, call, NOT_ZERO) for op, call in NOT_FINITE.items()),
    _unary("Gelu", "Gelu(h)", PRUNABLE, opset=20),
    _unary("Gelu", 'Gelu<approximate="tanh">(h)', PRUNABLE, opset=20, title="tanh"),
    _unary("Mish", "Mish(h)", PRUNABLE, opset=18),
    _unary("Swish", "Swish(h)", PRUNABLE, opset=24),
    _unary("HardSigmoid", "HardSigmoid<alpha=0.3,beta=0.0>(h)", PRUNABLE, title="beta 0"),
    image("Acosh", "of cosh", PRUNABLE, "c = Cosh(h) z = Acosh(c)"),
    image("Sigmoid", "shifted back", PRUNABLE, "c = Sigmoid(h) z = Sub(c, s)", "float s = {0.5}"),
    image("Sigmoid", "gate", PRUNABLE, "c = Sigmoid(h) z = Mul(h, c)"),
    image(
        "Sigmoid",
        "zero-padded border",
        CONSTANT,
        "s = Sigmoid(h) z = Conv<pads=[1,1,1,1]>(s, wp)",
        "float[6,6,3,3] wp",
    ),
    image("Log", "gated", NOT_ZERO, "a = Abs(h) l = Log(a) z = Mul(h, l)"),
    image("Identity", "conv", PRUNABLE, "z = Identity(h)"),
    image("Dropout", "opset 7", PRUNABLE, "z = Dropout<ratio=0.3>(h)", opset=7),
    image("Dropout", "opset 13", PRUNABLE, "z = Dropout(h, r)", "float r = {0.3}", opset=13),
    image(
        "Dropout",
        "in training, of a constant",
        NOT_ZERO,
        "e = Sigmoid(h) z = Dropout(e, r, t)",
        "float r = {0.0}, bool t = {1}",
        opset=13,
    ),
    image(
        "Dropout",
        "not in training, of a constant",
        PRUNABLE,
        "e = Sigmoid(h) z = Dropout(e, r, t)",
        "float r = {0.4}, bool t = {0}",
        opset=13,
        size=6,
    ),
    image("Dropout", "mask read", NOT_ZERO, "d, m = Dropout(h) z = Cast<to=1>(m)", opset=13),
    image("Cast", "half and back", PRUNABLE, "c = Cast<to=10>(h) z = Cast<to=1>(c)"),
    image(
        "Cast", "a constant rounded to half", PRUNABLE, "e = Softplus(h) c = Cast<to=10>(e) z = Cast<to=1>(c)"
    ),
    image("Cast", "integers", NOT_ZERO, "c = Cast<to=7>(h) z = Cast<to=1>(c)"),
    image("Cast", "of a gate", NOT_ZERO, "c = Greater(h, s) z = Cast<to=1>(c)", "float s = {-0.1}"),
    image(
        "CastLike",
        "half and back",
        PRUNABLE,
        "l = Cast<to=10>(s) c = CastLike(h, l) z = CastLike(c, x)",
        "float s = {1.0}",
    ),
    # --- two operands -----------------------------------------------------------------------------------------
    image(
        "Add", "two branches", PRUNABLE, "g = Conv<pads=[1,1,1,1]>(x, w3) z = Add(h, g)", "float[6,3,3,3] w3"
    ),
    image("Add", "bias", PRUNABLE, "z = Add(h, p)", "float[6,1,1] p"),
    image("Add", "bias [1,C,1,1] first", PRUNABLE, "z = Add(p, h)", "float[1,6,1,1] p"),
    image("Add", "scalar", PRUNABLE, "z = Add(h, s)", "float s = {1.5}"),
    image("Add", "scalars that cancel", PRUNABLE, "t = Add(h, s) z = Sub(t, s)", "float s = {1.5}"),
    image("Add", "table over space", PRUNABLE, "z = Add(h, p)", "float[1,6,6,6] p", probe="p", axis=1),
    image("Add", "map of one channel", NOT_ZERO, "g = Conv(x, w3) z = Add(h, g)", "float[1,3,1,1] w3"),
    whole(
        "Add",
        "input added",
        "whole",
        """g (float[N,3,6,6] x, float[N,6,6,6] r) => (float[N,5,6,6] y) <float[6,3,1,1] w1, float[5,6,1,1] w2>
        { h = Conv(x, w1) z = Add(h, r) y = Conv(z, w2) }""",
    ),
    vector(
        "Add", "bias after MatMul", PRUNABLE, "t = MatMul(h, w3) z = Add(t, p)", "float[8,8] w3, float[8] p"
    ),
    image(
        "Sub", "two branches", PRUNABLE, "g = Conv<pads=[1,1,1,1]>(x, w3) z = Sub(h, g)", "float[6,3,3,3] w3"
    ),
    image("Sub", "parameter minus", PRUNABLE, "z = Sub(p, h)", "float[6,1,1] p"),
    image("Mul", "layer scale", PRUNABLE, "z = Mul(h, p)", "float[6,1,1] p"),
    image("Mul", "scalar", PRUNABLE, "z = Mul(h, s)", "float s = {1.5}"),
    image("Mul", "one-channel gate", PRUNABLE, "g = Conv(x, w3) z = Mul(h, g)", "float[1,3,1,1] w3"),
    image("Mul", "poisoned", NOT_ZERO, "r = Reciprocal(h) z = Mul(h, r)"),
    image("Div", "scalar", PRUNABLE, "z = Div(h, s)", "float s = {1.5}"),
    image("Div", "by a parameter", PRUNABLE, "z = Div(h, var_p)", "float[6,1,1] var_p"),
    image("Div", "by itself", NOT_ZERO, "z = Div(h, h)"),
    image("Div", "one over", NOT_ZERO, "z = Div(s, h)", "float s = {1.5}"),
    image("Div", "by softplus", PRUNABLE, "d = Softplus(h) z = Div(h, d)"),
    image("Pow", "square", PRUNABLE, "z = Pow(h, s)", "float s = {2.0}"),
    image("Pow", "two to the", PRUNABLE, "z = Pow(s, h)", "float s = {2.0}"),
    image("Pow", "to minus one", NOT_ZERO, "z = Pow(h, s)", "float s = {-1.0}"),
    image("Pow", "parameter", NOT_ZERO, "a = Abs(h) z = Pow(a, var_p)", "float[6,1,1] var_p"),
    image("Mod", "scalar", PRUNABLE, "z = Mod<fmod=1>(h, s)", "float s = {0.7}"),
    image("Mod", "parameter", NOT_ZERO, "z = Mod<fmod=1>(h, p)", "float[6,1,1] p"),
    # --- many operands ----------------------------------------------------------------------------------------
    image(
        "Sum",
        "three",
        PRUNABLE,
        "f = Conv(x, w3) g = Conv(x, w4) z = Sum(h, f, g)",
        "float[6,3,1,1] w3, float[6,3,1,1] w4",
    ),
    image("Sum", "with a parameter", PRUNABLE, "z = Sum(h, p, h)", "float[1,6,1,1] p"),
    image("Mean", "two", PRUNABLE, "f = Conv(x, w3) z = Mean(h, f)", "float[6,3,1,1] w3"),
    image("Max", "two", PRUNABLE, "f = Conv(x, w3) z = Max(h, f)", "float[6,3,1,1] w3"),
    image("Max", "scalar zero", PRUNABLE, "z = Max(h, s)", "float s = {0.0}"),
    image("Max", "scalar one", PRUNABLE, "z = Max(h, s)", "float s = {1.0}"),
    image("Max", "parameter", PRUNABLE, "z = Max(h, p)", "float[6,1,1] p", size=6),
    image(
        "Max", "parameter in front", PRUNABLE, "z = Max(p, h, f)", "float[6,1,1] p, float f = {-0.1}", size=6
    ),
    image("Max", "parameter, a constant", PRUNABLE, "k = Exp(h) z = Max(k, p)", "float[6,1,1] p", size=6),
    image(
        "Max",
        "parameter, a constant at a padded border",
        CONSTANT,
        "k = Exp(h) m = Max(k, p) z = Conv<pads=[1,1,1,1]>(m, w3)",
        "float[6,1,1] p, float[6,6,3,3] w3",
    ),
    image(
        "Max", "parameter, nothing known", NOT_ZERO, "k = Softmax<axis=3>(h) z = Max(k, p)", "float[6,1,1] p"
    ),
    image("Min", "two", PRUNABLE, "f = Conv(x, w3) z = Min(h, f)", "float[6,3,1,1] w3"),
    image("Min", "parameter", PRUNABLE, "z = Min(h, p)", "float[6,1,1] p", size=6),
    image("Min", "parameter, a constant", PRUNABLE, "k = Exp(h) z = Min(k, p)", "float[6,1,1] p", size=6),
    image("Min", "scalar", PRUNABLE, "z = Min(h, s)", "float s = {0.4}"),
    # --- truth values -----------------------------------------------------------------------------------------
    _mask("Equal", "i1 = Cast<to=7>(h) i2 = Cast<to=7>(s) c = Equal(i1, i2)"),
    _mask("Greater", "c = Greater(h, s)"),
    _mask("GreaterOrEqual", "c = GreaterOrEqual(h, s)"),
    _mask("Less", "c = Less(h, s)"),
    _mask("LessOrEqual", "c = LessOrEqual(h, s)"),
    _mask("And", "c3 = Not(c2) c = And(c1, c3)"),
    _mask("Or", "c = Or(c1, c2)"),
    _mask("Xor", "c = Xor(c1, c2)"),
    _mask("Not", "c = Not(c1)"),
    whole(
        "Mul",
        "by a model input",
        "stays whole",
        """g (float[N,5] x, float[N,8] v) => (float[N,4] y) <float[5,8] w1, float[8,4] w2>
        { h = MatMul(x, w1) z = Mul(h, v) y = MatMul(z, w2) }""",
        axis=1,
    ),
    image("IsNaN", "replaced", PRUNABLE, "c = IsNaN(h) z = Where(c, s, h)", "float s = {0.0}"),
    image("IsInf", "replaced", PRUNABLE, "c = IsInf(h) z = Where(c, s, h)", "float s = {0.0}"),
    image("IsNaN", "replaced by one", NOT_ZERO, "c = IsNaN(h) z = Where(c, s, h)", "float s = {1.0}"),
    image(
        "Where",
        "two branches",
        PRUNABLE,
        "c = Greater(h, s) f = Conv(x, w3) z = Where(c, h, f)",
        "float[6,3,1,1] w3, float s = {0.1}",
    ),
    image(
        "Where",
        "parameter",
        PRUNABLE,
        "c = Greater(h, s) z = Where(c, h, p)",
        "float[6,1,1] p, float s = {0.1}",
    ),
    whole(
        "Where",
        "mask of one channel",
        PRUNABLE,
        """g (float[N,3,6,6] x, bool[N,1,6,6] m) => (float[N,5,6,6] y)
        <float[6,3,1,1] w1, float[5,6,1,1] w2, float s = {0.0}>
        { h = Conv(x, w1) z = Where(m, h, s) y = Conv(z, w2) }""",
    ),
    # --- bounds and slopes ------------------------------------------------------------------------------------
    image("Clip", "opset 6", PRUNABLE, "z = Clip<min=0.0,max=0.5>(h)", opset=7),
    image("Clip", "relu6", PRUNABLE, "z = Clip(h, lo, hi)", "float lo = {0.0}, float hi = {6.0}"),
    image("Clip", "only max", PRUNABLE, "z = Clip(h, , hi)", "float hi = {0.3}"),
    image("Clip", "zero is outside", PRUNABLE, "z = Clip(h, lo)", "float lo = {0.1}"),
    image("Clip", "no bounds", PRUNABLE, "z = Clip(h)"),
    whole(
        "Clip",
        "computed bound",
        NOT_ZERO,
        """g (float[N,3,6,6] x, float lo) => (float[N,5,6,6] y) <float[6,3,1,1] w1, float[5,6,1,1] w2>
        { h = Conv(x, w1) z = Clip(h, lo) y = Conv(z, w2) }""",
    ),
    image("PRelu", "per channel", PRUNABLE, "z = PRelu(h, p)", "float[6,1,1] p"),
    image("PRelu", "shared slope", PRUNABLE, "z = PRelu(h, p)", "float[1] p"),
    image(
        "PRelu",
        "after a negative",
        PRUNABLE,
        "t = Sub(h, s) z = PRelu(t, p)",
        "float s = {1.0}, float[6,1,1] p",
        size=6,
    ),
    image(
        "PRelu",
        "shared slope after a negative",
        PRUNABLE,
        "t = Sub(h, s) z = PRelu(t, p)",
        "float s = {1.0}, float[1] p",
    ),
    image("PRelu", "a constant", PRUNABLE, "k = Exp(h) z = PRelu(k, p)", "float[6,1,1] p", size=6),
    image("PRelu", "nothing known", NOT_ZERO, "k = Softmax<axis=3>(h) z = PRelu(k, p)", "float[6,1,1] p"),
]

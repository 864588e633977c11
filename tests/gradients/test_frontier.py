"""The frontier: what lies in front of operators that choose, by a rule for each operator."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper, parser

from onnx_oto.gradients.graph.frontier import Way, frontier, parts, ways

HEAD = '<ir_version: 9, opset_import: ["": 18]> g '
CONSTANTS = (
    "float[4,8] w, float[8,3] v, int64[1] k = {2}, int64[1] at = {1}, int64[2] shape = {-1,24}, float half = {0.5}, "
    "int64[1] axes = {1}"
)


def model(body: str, outputs: str = "float[N,3] y") -> onnx.ModelProto:
    return parser.parse_model(f"{HEAD}(float[N,4] x) => ({outputs}) <{CONSTANTS}> {{ {body} }}")


BODY = "a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) "
LEAKY = "m = Greater(c, half) l = Mul(c, half) y = Where(m, c, l)"
FEWER = "r = ReduceMax<keepdims=0>(c, axes) m = Greater(r, half) y = Compress<axis=0>(c, m)"
ROWS = [
    ("a plain model", BODY + "y = Softmax(c)", "float[N,3] y", ("y",)),
    ("two heads", BODY + "y = Tanh(c) z = Sigmoid(a)", "float[N,3] y, float[N,8] z", ("y", "z")),
    ("scores and their maximum", BODY + "y = Identity(c) i = ArgMax(c)", "float[N,3] y, int64[N,1] i", ("c",)),
    ("an output of an output", BODY + "y = Softmax(c) z = Mul(y, half)", "float[N,3] y, float[N,3] z", ("y",)),
    ("top k", BODY + "y, i = TopK(c, k)", "float[N,2] y, int64[N,2] i", ("c",)),
    ("choose by top k", BODY + "t, i = TopK(c, k) y = GatherElements<axis=1>(b, i)", "float[N,2] y", ("b", "c")),
    ("only places", BODY + "i = NonZero(c)", "int64[2,M] i", ("c",)),
    ("threshold then places", BODY + "s = Sigmoid(c) m = Greater(s, half) i = NonZero(m)", "int64[2,M] i", ("s",)),
    ("a mask is the output", BODY + "m = Greater(c, half)", "bool[N,3] m", ("c",)),
    ("a leaky slope by comparison", BODY + LEAKY, "float[N,3] y", ("y",)),
    ("multiplied by a mask", BODY + "m = Greater(c, half) f = Cast<to=1>(m) y = Mul(c, f)", "float[N,3] y", ("y",)),
    ("rounded at the end", BODY + "r = Round(c) y = Mul(r, half)", "float[N,3] y", ("c",)),
    ("rounded in the middle", "a = MatMul(x, w) r = Floor(a) y = MatMul(r, v)", "float[N,3] y", ("y",)),
    ("cast for indices", BODY + "i = Cast<to=7>(c) f = Reshape(i, shape) y = Gather(x, f)", "float[N,3] y", ("c",)),
    ("constant indices", BODY + "y = Gather<axis=1>(c, at)", "float[N,1] y", ("y",)),
    ("a signed root", BODY + "s = Sign(c) p = Abs(c) q = Sqrt(p) y = Mul(s, q)", "float[N,3] y", ("y",)),
    ("compress by a mask", BODY + FEWER, "float[M,3] y", ("c",)),
    ("chosen among constants", BODY + "m = Greater(c, half) y = Where(m, half, half)", "float[N,3] y", ("c",)),
    ("nothing trained", "y = MatMul(x, fixed)", "float[N,3] y", ()),
    ("no floats at all", "i = Cast<to=7>(x) y = Add(i, k)", "int64[N,4] y", ()),
]  # fmt: skip


@pytest.mark.parametrize(("body", "outputs", "expected"), [row[1:] for row in ROWS], ids=[r[0] for r in ROWS])
def test_the_frontier(body: str, outputs: str, expected: tuple[str, ...]) -> None:
    built = model(body, outputs)
    if "fixed" in body:
        built.graph.initializer.append(helper.make_tensor("fixed", TensorProto.FLOAT, [4, 3], [0.5] * 12))
    assert frontier(built, ("w", "v")) == expected


def test_a_detector_is_cut_in_front_of_its_tail() -> None:
    """Boxes and scores of every place; the best are chosen, those that overlap left out, and gathered."""
    body = """
        t = MatMul(x, w) f = Relu(t) raw = MatMul(f, v) cls = MatMul(f, u)
        boxes = Mul(raw, half) scores = Sigmoid(cls)
        b = Unsqueeze(boxes, first) s = Transpose<perm=[1,0]>(scores) s3 = Unsqueeze(s, first)
        chosen = NonMaxSuppression(b, s3, many, half1, half1)
        place = Slice(chosen, two, three, axes) flat = Squeeze(place, axes)
        y = Gather(boxes, flat) label = ArgMax(scores)
    """
    text = (
        "(float[N,6] x) => (float[M,4] y, int64[N,1] label) <float[6,8] w, float[8,4] v, float[8,5] u, "
        "float half = {0.5}, float[1] half1 = {0.5}, int64[1] first = {0}, int64[1] many = {5}, int64[1] two = {2}, "
        "int64[1] three = {3}, int64[1] axes = {1}>"
    )
    built = parser.parse_model(f"{HEAD}{text} {{ {body} }}")
    assert frontier(built, ("w", "v", "u")) == ("boxes", "scores")
    assert frontier(built, ("u",)) == ("scores",), "what does not train is nothing that could be taught"


def test_bodies_and_operators_without_a_gradient_end_it() -> None:
    body = (
        BODY
        + "y = If(yes) <then_branch = t () => (float[N,3] p) { p = Relu(c) },"
        + " else_branch = e () => (float[N,3] q) { q = Neg(c) }>"
    )
    text = "(float[N,4] x, bool yes) => (float[N,3] y) <float[4,8] w, float[8,3] v>"
    assert frontier(parser.parse_model(f"{HEAD}{text} {{ {body} }}"), ("w", "v")) == ("c",)
    assert frontier(model(BODY + "d = Det(c) y = Add(d, c)"), ("w", "v")) == ("c",)


def test_every_tensor_has_a_way() -> None:
    found = ways(
        model(BODY + "m = Greater(c, half) i = NonZero(m) s = Shape(c) y = Mul(c, half)"), ("w", "v")
    )
    assert {name: found[name] for name in ("c", "m", "i", "s", "y")} == {
        "c": Way.SMOOTH, "m": Way.STEP, "i": Way.JUMPED, "s": Way.STILL, "y": Way.SMOOTH,
    }  # fmt: skip


PARTS = [
    ("d = Sigmoid(c) y = Concat<axis=1>(a, d)", ["y"], ("a", "d")),
    ("d = Sigmoid(c) e = Concat<axis=1>(c, d) y = Concat<axis=1>(a, e)", ["y"], ("a", "c", "d")),
    ("y = Concat<axis=0>(c, c)", ["y"], ("y",)),
    ("y = Concat<axis=1>(x, c)", ["y"], ("y",)),
    ("y = Relu(c)", ["y"], ("y",)),
    ("p = Unsqueeze(c, axes) y = Transpose<perm = [0,2,1]>(p)", ["y"], ("y",)),
    ("p = Unsqueeze(c, axes) y = Transpose<perm = [0,2,1]>(p)", ["y", "p"], ("p",)),
    ("y = Gather<axis = 1>(c, at)", ["y"], ("y",)),
    ("y = Gather<axis = 1>(c, at) z = Slice(c, at, k, at)", ["y", "z"], ("c",)),
    ("y = Gather<axis = 0>(c, at) z = Slice(c, at, k, at)", ["y", "z"], ("y", "z")),
    ("e = Concat<axis=1>(a, c) y = Gather<axis = 1>(e, at)", ["y"], ("y",)),
    ("e = Concat<axis=1>(a, c) y = Gather<axis = 1>(e, at) z = Identity(e)", ["y", "z"], ("a", "c")),
]


@pytest.mark.parametrize(("body", "names", "expected"), PARTS)
def test_every_number_once_and_units_apart(body: str, names: list[str], expected: tuple[str, ...]) -> None:
    assert parts(model(BODY + body), names) == expected

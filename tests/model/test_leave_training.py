"""Models exported in training mode come out in inference form, unless something reads what only training gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_oto.model import normal_form, normalise
from onnx_oto.model.normal.training_mode import RANDOM_FACTOR, leave_training, told_training

X = {"x": np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)}
STATISTICS = dict.fromkeys("sbmv", (3,))


def header(opset: int) -> str:
    return f'<ir_version: 8, opset_import: ["":{opset}]>\n'


def switched(model: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    found: Counter[str] = Counter()
    return normal_form(model, switched=found).model, dict(found)


def test_batch_norm_reads_its_running_statistics(parse, same_function):
    text = (
        "g (float[N,3,4] x) => (float[N,3,4] y) {{ {} = BatchNormalization<{}momentum=0.8>(x, s, b, m, w) }}"
    )
    weights = dict.fromkeys("sbm", (3,))
    model = parse(text.format("y, rm, rv", "training_mode=1, "), **weights)
    plain = parse(text.format("y", ""), **weights)
    for each in (model, plain):
        each.graph.initializer.append(numpy_helper.from_array(np.float32([0.5, 1, 2]), "w"))
    result, found = switched(model)
    assert found == {"BatchNormalization": 1}
    same_function(plain, result, X)
    assert [list(node.output) for node in result.graph.node] == [["y"]]
    assert {a.name for a in result.graph.node[0].attribute} == {"momentum"}


def test_five_outputs_are_training_before_opset_14(parse):
    text = "g (float[N,3,4] x) => (float[N,3,4] y) { y, rm, rv, sm, sv = BatchNormalization(x, s, b, m, v) }"
    result, found = switched(parse(text, header=header(9), **STATISTICS))
    assert found == {"BatchNormalization": 1}
    assert list(result.graph.node[0].output) == ["y"]


@pytest.mark.parametrize(
    ("outputs", "rest"),
    [("float[N,3,4] y, float[3] rm", ""), ("float[N,3,4] y, float[3] z", "z = Add(rm, rm)")],
    ids=["an output", "read"],
)
def test_batch_norm_whose_statistics_are_used_stays(outputs, rest, parse):
    text = f"""g (float[N,3,4] x) => ({outputs})
        {{ y, rm, rv = BatchNormalization<training_mode=1>(x, s, b, m, v) {rest} }}"""
    result, found = switched(parse(text, **STATISTICS))
    assert not found
    assert len(result.graph.node[0].output) == 3


def test_batch_norm_without_running_statistics_stays(parse):
    """An exporter writes zeros and ones where a layer keeps none: it uses those of the batch wherever it runs."""
    text = """g (float[N,3,4] x) => (float[N,3,4] y) {
        m = Constant<value = float[3] {0.0, 0.0, 0.0}>() v = Constant<value = float[3] {1.0, 1.0, 1.0}>()
        y, rm, rv = BatchNormalization<training_mode=1>(x, s, b, m, v) }"""
    assert switched(parse(text, s=(3,), b=(3,)))[1] == {}


@pytest.mark.parametrize(
    "mode", ["t = Constant<value = bool {1}>()", "c = Constant<value = bool {1}>() t = Identity(c)"]
)
def test_dropout_keeps_everything(mode, parse):
    text = f"""g (float[N,3,4] x) => (float[N,3,4] y)
        {{ r = Constant<value = float {{0.4}}>() {mode} y, k = Dropout(x, r, t) }}"""
    result, found = switched(parse(text))
    assert found == {"Dropout": 1}
    (node,) = result.graph.node
    assert (node.op_type, list(node.input), list(node.output)) == ("Dropout", ["x", "r"], ["y"])
    np.testing.assert_array_equal(ReferenceEvaluator(result).run(None, X)[0], X["x"])


def test_dropout_of_old_opsets(parse):
    """Up to opset 6 an attribute says so, and training is the default; opsets 7 to 11 only have inference."""
    text = "g (float[N,3,4] x) => (float[N,3,4] y) {{ y, k = Dropout{}(x) }}"
    for opset, attribute, count in ((6, "", 1), (6, "<is_test=1>", 0), (7, "", 0), (11, "<ratio=0.3>", 0)):
        model = parse(text.format(attribute), header=header(opset))
        assert sum(leave_training(model).values()) == count, (opset, attribute)
        if opset == 6:
            assert [a.i for a in model.graph.node[0].attribute] == [1]


@pytest.mark.parametrize(
    ("inputs", "outputs", "body"),
    [
        ("float[N,3,4] x, bool t", "float[N,3,4] y", "y = Dropout(x, r, t)"),
        ("float[N,3,4] x", "float[N,3,4] y", "y = Dropout(x, r, f)"),
        ("float[N,3,4] x", "float[N,3,4] y, bool[N,3,4] k", "y, k = Dropout(x, r, t)"),
    ],
    ids=["the user chooses", "inference", "the mask is an output"],
)
def test_dropout_stays(inputs, outputs, body, parse):
    text = f"g ({inputs}) => ({outputs}) <float r = {{0.5}}, bool f = {{0}}> {{ {body} }}"
    model = parse(text)
    if " t" not in inputs:
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "t"))
    before = model.SerializeToString()
    assert not leave_training(model)
    assert model.SerializeToString() == before


DEPTH = """g (float[N,3,4] x) => (float[N,3,4] y) <int64[3] s = {{2,1,1}}, float p = {{0.75}}, float q = {{{scale}}}>
    {{ z = ConstantOfShape(s) u = RandomUniformLike<low=0.0, high=1.0>(z) l = {draw} c = Cast<to=1>(l) {rest}
       y = Relu(w) }}"""
FACTORS = {
    "stochastic depth": ("Less(u, p)", "0.75", "f = Div(c, q) w = Mul(x, f)"),
    "the other way round": ("Greater(p, u)", "0.75", "f = Div(c, q) w = Mul(f, x)"),
    "times": ("Less(u, p)", "1.3333334", "f = Mul(q, c) w = Mul(x, f)"),
    "what is above": ("GreaterOrEqual(u, p)", "0.25", "f = Div(c, q) w = Mul(x, f)"),
    "divided first": ("Less(u, p)", "0.75", "d = Div(x, q) w = Mul(d, c)"),
}


@pytest.mark.parametrize("case", FACTORS)
def test_a_random_factor_of_mean_one_is_left_out(case, parse, same_function):
    draw, scale, rest = FACTORS[case]
    result, found = switched(parse(DEPTH.format(draw=draw, scale=scale, rest=rest)))
    assert found == {RANDOM_FACTOR: 1}
    same_function(parse("g (float[N,3,4] x) => (float[N,3,4] y) { y = Relu(x) }"), result, X)
    assert [node.op_type for node in result.graph.node] == ["Relu"]


def test_rounding_down_draws_too(parse, same_function):
    text = """g (float[N,3,4] x) => (float[N,3,4] y) <int64[3] s = {2,1,1}, float p = {0.9}> {
        z = ConstantOfShape(s) u = RandomUniformLike(z) a = Add(p, u) c = Floor(a) d = Div(x, p) y = Mul(d, c) }"""
    result, found = switched(parse(text))
    assert found == {RANDOM_FACTOR: 1}
    same_function(parse("g (float[N,3,4] x) => (float[N,3,4] y) { y = Identity(x) }"), result, X)


@pytest.mark.parametrize(
    "rest",
    [
        "f = Div(c, q) w = Add(x, f)",
        "w = Mul(x, c)",
        "f = Div(u, q) w = Mul(x, f)",
        "f = Div(c, q) g = Div(c, q) h = Mul(f, g) w = Add(x, h)",
    ],
    ids=["added", "of another mean", "not 0 or 1", "both random"],
)
def test_other_noise_stays(rest, parse):
    text = DEPTH.format(draw="Less(u, p)", scale="0.75", rest=rest)
    assert switched(parse(text))[1] == {}


def test_a_body_is_brought_to_inference_form_too(parse):
    text = """g (float[N,3,4] x, bool c) => (float[N,3,4] y) { y = If (c) <
        then_branch = a () => (float[N,3,4] p) { p, rm, rv = BatchNormalization<training_mode=1>(x, s, b, m, v) },
        else_branch = e () => (float[N,3,4] q) { q = Relu(x) }> }"""
    assert switched(parse(text, **STATISTICS))[1] == {"BatchNormalization": 1}


def test_nothing_is_done_unless_asked(parse):
    text = "g (float[N,3,4] x) => (float[N,3,4] y) { y, rm, rv = BatchNormalization<training_mode=1>(x, s, b, m, v) }"
    assert len(normalise(parse(text, **STATISTICS)).graph.node[0].output) == 3


def test_it_is_told():
    assert told_training({}) == ()
    (told,) = told_training({"BatchNormalization": 2, "Dropout": 1, RANDOM_FACTOR: 3})
    assert told == (
        "layers in training mode: 2 BatchNormalization, 1 Dropout and 3 random factors, brought to inference form "
        "(`train` uses statistics of the batch, Dropout, no random factors)"
    )

"""Settings that no operator can have are refused before onnx's inference, which crashes or hangs on some, sees them."""

from __future__ import annotations

import pytest
from onnx import helper

from onnx_oto.errors import ModelError
from onnx_oto.model import load
from onnx_oto.model.files.equation import equation_fault

CONV = "g (float[N,4,8,8] x) => (float[?,?,?,?] y) {{ y = Conv<{}>(x, w) }}"
POOL = "g (float[N,4,8,8] x) => (float[?,?,?,?] y) {{ y = MaxPool<{}>(x) }}"
ONE = "g (float[N,4] x) => (float[?,?] y) {{ y = {}(x) }}"
BAD = {
    "no group": (CONV.format("group=0"), "its 'group' is 0, where 1 to"),
    "minus one group": (CONV.format("group=-1"), "'group' is -1"),
    "a stride of 0": (CONV.format("strides=[1,0]"), "'strides' is 0"),
    "an empty window": (POOL.format("kernel_shape=[0,0]"), "'kernel_shape' is 0"),
    "dilations that overflow": (
        POOL.format("kernel_shape=[3,3], dilations=[4611686018427387904,1]"),
        "'dilations'",
    ),
    "pads that overflow": (
        POOL.format("kernel_shape=[1,1], pads=[1099511627776,0,0,0]"),
        "'pads' is 1099511627776",
    ),
    "an axis that no tensor has": (
        ONE.format("Softmax<axis=-9223372036854775808>"),
        "'axis' is -9223372036854775808",
    ),
    "an axis twice": (ONE.format("Transpose<perm=[0,0]>"), r"'perm' \[0, 0\] names an axis twice"),
    "an axis before the first": (ONE.format("Transpose<perm=[0,-1]>"), "'perm' is -1"),
    "no block": (
        "g (float[N,4,8,8] x) => (float[?,?,?,?] y) { y = DepthToSpace<blocksize=0>(x) }",
        "'blocksize' is 0",
    ),
    "no heads": (
        "g (float[N,4,8] x) => (float[?,?,?] y) { y = com.microsoft.MultiHeadAttention<num_heads=0>(x, x, x) }",
        "'num_heads' is 0",
    ),
    "dots that never end": (
        ONE.format('Einsum<equation="....->...">'),
        "its equation is '....->...', and term '....'",
    ),
    "one term too few": (
        'g (float[N,4] x) => (float[?,?] y) { y = Einsum<equation="ij->ij">(x, x) }',
        "1 terms for 2 inputs",
    ),
}
HEADER = '<ir_version: 8, opset_import: ["":17, "com.microsoft":1, "l":1]>'


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_with_the_name_of_the_node(name, parse, write):
    text, message = BAD[name]
    model = parse(text, header=HEADER, w=(4, 4, 3, 3))
    model.graph.node[0].name = "culprit"
    with pytest.raises(ModelError, match=f"node 'culprit .*{message}"):
        load(write(model))


def test_bodies_are_looked_at(parse, write):
    text = """g (bool c, float[N,4] x) => (float[?,?] y) {
        y = If(c) <then_branch = t () => (float[?,?] a) { a = Einsum<equation="....->...">(x) },
                   else_branch = e () => (float[?,?] b) { b = Neg(x) }> }"""
    with pytest.raises(ModelError, match="its equation is"):
        load(write(parse(text)))


FUNCTIONS = """g (float[N,4] x) => (float[?,?] y) {{ y = l.outer<rule="{}">(x) }}
<domain: "l", opset_import: ["":17, "l":1]> outer <rule> (a) => (b) {{ b = l.inner<how: string = @rule>(a) }}
<domain: "l", opset_import: ["":17]> inner <how> (a) => (b) {{ b = Einsum<equation: string = @how>(a) }}"""


def test_what_calls_hand_to_functions_is_looked_at(parse, write):
    assert load(write(parse(FUNCTIONS.format("ij->ji"), header=HEADER)))
    with pytest.raises(ModelError, match=r"its equation is '\.\.\.\.->\.\.\.'"):
        load(write(parse(FUNCTIONS.format("....->..."), header=HEADER)))


def test_other_domains_may_mean_what_they_like(parse, write):
    model = parse("g (float[N,4] x) => (float[N,4] y) { z = l.Thing<group=0>(x) y = Relu(z) }", header=HEADER)
    assert load(write(model))


GOOD = [
    "ij,jk->ik",
    "ij , jk",
    "...ij,...jk->...ik",
    "ii->i",
    "i...->...",
    ",ij->ij",
    "->",
    "bhwc,hkc->bhwk",
    "Aa->aA",
]


@pytest.mark.parametrize("equation", GOOD)
def test_equations_that_are_right(equation):
    assert equation_fault(equation, equation.split("->")[0].count(",") + 1) is None


@pytest.mark.parametrize(
    ("equation", "message"),
    [
        ("....", "term '....'"),
        ("i..j->ij", "term 'i..j'"),
        ("...i...->i", "term '...i...'"),
        ("i->j->k", "term 'j->k'"),
        ("i-j", "term 'i-j'"),
        ("i>j", "term 'i>j'"),
        ("i1->i", "term 'i1'"),
        ("\u00e9->", "term"),
        ("i->j", "letter 'j'"),
        ("i->ii", "a letter twice"),
        ("i->i...", "no input has"),
        ("i,j->ij", "2 terms for 1 inputs"),
        ("i\x1b[31m->i", "term"),
    ],
)
def test_equations_that_are_wrong(equation, message):
    assert message in (equation_fault(equation, 1) or "")


def test_an_equation_of_a_megabyte_is_no_trouble(parse, write):
    model = parse(ONE.format('Einsum<equation="i">'))
    model.graph.node[0].attribute[0].CopyFrom(helper.make_attribute("equation", "i" * 10**6 + "."))
    with pytest.raises(ModelError) as error:
        load(write(model))
    assert len(str(error.value)) < 500

"""Every repair in every opset that writes it otherwise, for every element type: the contract, and what goes.

The rows have axes, pads and the like as attributes; `in_form` makes inputs of them where the opset wants that.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import onnx
import pytest
from onnx import ModelProto, TensorProto

from onnx_oto.model.graph.node import Node
from onnx_oto.ops import RULES
from onnx_oto.ops.rules import NEWEST, OLDEST, Entry, rule_of

from .builder import build, in_form, in_precision
from .exactness import assert_prunable, check

OPSETS = (7, 8, 9, 10, 11, 12, 13, 17, 18, 21, 24)
TYPES = {"half": TensorProto.FLOAT16, "single": TensorProto.FLOAT, "double": TensorProto.DOUBLE}


@dataclass(frozen=True)
class Repair:
    """A model x -> w1 -> h -> `body` -> z -> w2 -> y: a map [N,6,6,6], or if `flat` a vector [N,8].

    opsets: the first and the last that has all operators. size: how many lanes of w1 can go. loose: parameters that
    stay float32. types: those that a runtime has the operators for.
    """

    title: str
    body: str
    params: str = ""
    opsets: tuple[int, int] = (7, 99)
    flat: bool = False
    channels: int = 6
    size: int = 6
    domain: str = ""
    open_sizes: bool = False
    loose: tuple[str, ...] = ()
    types: tuple[str, ...] = ("half", "single", "double")

    def model(self, opset: int, dtype: int) -> ModelProto:
        """Return the model in one opset and element type."""
        more = f", {self.params}" if self.params else ""
        if self.flat:
            text = f"""g (float[N,5] x) => (float[N,4] y) <float[5,8] w1, float[{self.channels},4] w2{more}>
                {{ h = MatMul(x, w1) {self.body} y = MatMul(z, w2) }}"""
        else:
            space = "H,W" if self.open_sizes else "6,6"
            text = f"""g (float[N,3,{space}] x) => (float[N,5,P,Q] y)
                <float[6,3,3,3] w1, float[6] b1, float[5,{self.channels},1,1] w2, float[5] b2{more}>
                {{ h = Conv<pads=[1,1,1,1]>(x, w1, b1) {self.body} y = Conv(z, w2, b2) }}"""
        return in_precision(in_form(build(text, opset=opset, domain=self.domain)), dtype, but=self.loose)


SIZES = "int64[1] six = {6}"
REPAIRS = [
    Repair(
        "norm over lanes written out",
        """r = Reshape(h, flat) t = Transpose<perm=[0,2,1]>(r) n = InstanceNormalization(t, s, p)
        b = Transpose<perm=[0,2,1]>(n) m = Reshape(b, back) z = Mul(m, w3)""",
        "int64[3] flat = {0,6,36}, int64[4] back = {0,6,6,6}, float[36] s, float[36] p, float[6,1,1] w3",
    ),
    Repair(
        "norm over one group written out",
        "r = Reshape(h, flat) g = InstanceNormalization(r, one, nil) b = Reshape(g, back) z = Mul(b, w3)",
        "int64[3] flat = {0,1,-1}, int64[4] back = {-1,6,6,6}, float[1] one = {1.0}, float[1] nil = {0.0},"
        " float[6,1,1] w3",
    ),
    Repair(
        "group norm over one group",
        "z = GroupNormalization<num_groups=1>(h, s, p)",
        "float[6] s, float[6] p",
        opsets=(21, 99),
        types=("half", "single"),  # computed in float32, whatever the type
    ),
    Repair("norm padded", "z = LayerNormalization(h, s, p)", "float[8] s, float[8] p", (17, 99), True, 8, 8),
    Repair(
        "fused norm padded",
        "z, , , q = com.microsoft.SkipLayerNormalization(h, h, s, p) a = MatMul(q, w3)",
        "float[8] s, float[8] p, float[8,4] w3",
        flat=True,
        channels=8,
        size=8,
        domain="com.microsoft",
        types=("half", "single"),
    ),
    Repair("norm rescaled", "z = RMSNormalization(h, s)", "float[8] s", (23, 99), True, 8, 8),
    Repair("mean rescaled", "m = ReduceMean<axes=[1],keepdims=1>(h) z = Mul(h, m)"),
    Repair(
        "mean of a shadow",
        "m = ReduceMean<axes=[1],keepdims=1>(h) c = Sub(h, m) q = Mul(c, c) v = ReduceMean<axes=[1],keepdims=1>(q)"
        " e = Add(v, s) r = Sqrt(e) d = Div(h, r) z = Mul(d, w3)",
        "float s = {0.01}, float[6,1,1] w3",
    ),
    Repair(
        "sum of a shadow",
        "m = ReduceMean<axes=[1],keepdims=1>(h) c = Sub(h, m) q = Mul(c, c) v = ReduceSum<axes=[1],keepdims=1>(q)"
        " e = Add(v, s) r = Sqrt(e) d = Div(h, r) z = Mul(d, w3)",
        "float s = {0.01}, float[6,1,1] w3",
    ),
    Repair("maximum compared", "m = ReduceMax<axes=[1],keepdims=1>(h) z = Mul(h, m)", opsets=(8, 99)),
    Repair(
        "minimum compared", "m = ReduceMin<axes=[-1],keepdims=1>(h) z = Mul(h, m)", "", (8, 99), True, 8, 8
    ),
    Repair("channels padded", "z = Pad<pads=[0,1,0,0,0,2,0,0]>(h)", channels=9),
    Repair("channels and space padded", "z = Pad<pads=[0,1,1,0,0,2,0,1]>(h)", channels=9),
    Repair("channels sliced", "z = Slice<axes=[1],starts=[1],ends=[5]>(h)", channels=4, size=6),
    Repair(
        "channels and space sliced",
        "z = Slice<axes=[2,1],starts=[1,-5],ends=[4,1000]>(h)",
        channels=5,
    ),
    Repair("slice without axes", "z = Slice<starts=[0,2,1],ends=[9,6,6]>(h)", channels=4),
    Repair(
        "slice with steps",
        "z = Slice(h, a, b, c, d)",
        "int64[1] a = {0}, int64[1] b = {6}, int64[1] c = {1}, int64[1] d = {2}",
        (10, 99),
        channels=3,
    ),
    Repair(
        "slice backwards, other integers",
        "z = Slice(h, a, b, c, d)",
        "int32[2] a = {1,5}, int32[2] b = {5,-9}, int32[2] c = {2,1}, int32[2] d = {1,-1}",
        (10, 99),
    ),
    Repair(
        "slice up to a computed size",
        """n = Shape(h) u = Gather(n, two) l = Unsqueeze<axes=[0]>(u) e = Concat<axis=0>(six, l)
        c = Cast<to=6>(e) z = Slice(h, a, c, i)""",
        "int64 two = {2}, int64[1] six = {5}, int32[2] a = {1,0}, int32[2] i = {1,2}",
        (10, 99),
        channels=4,
        open_sizes=True,
    ),
    Repair(
        "channels split",
        "a, b = Split<axis=1,split=[2,4]>(h) c = Conv(a, w3) z = Add(b, c)",
        "float[4,2,1,1] w3",
        channels=4,
    ),
    Repair(
        "equal parts",
        "a, b, c = Split<axis=1>(h) d = Add(a, b) z = Add(c, d)",
        channels=2,
        size=2,
        opsets=(7, 17),
    ),
    Repair(
        "equal parts, counted",
        "a, b, c = Split<axis=1,num_outputs=3>(h) d = Add(a, b) z = Add(c, d)",
        channels=2,
        size=2,
        opsets=(18, 99),
    ),
    Repair("channels gathered", "z = Gather<axis=1>(h, k)", "int64[4] k = {5,0,3,2}", channels=4),
    Repair(
        "channels shuffled",
        "r = Reshape(h, apart) t = Transpose<perm=[0,2,1,3,4]>(r) z = Reshape(t, together)",
        "int64[5] apart = {0,2,3,6,6}, int64[4] together = {0,6,6,6}",
    ),
    Repair(
        "sizes of which two are open",
        """n = Shape(h) r = Reshape(h, flat) s = Softsign(r) z = Reshape(s, n)""",
        "int64[3] flat = {0,0,-1}",
        open_sizes=True,
    ),
    Repair(
        "sizes written and computed",
        """n = Shape(h) u = Gather(n, two) v = Gather(n, three) h1 = Unsqueeze<axes=[0]>(u)
        h2 = Unsqueeze<axes=[0]>(v) b = Concat<axis=0>(zero, six, h1, h2) s = Relu(h) z = Reshape(s, b)""",
        "int64 two = {2}, int64 three = {3}, int64[1] zero = {0}, " + SIZES,
        open_sizes=True,
    ),
    Repair(
        "expanded to a computed size",
        "p = GlobalAveragePool(h) n = Shape(h) e = Expand(p, n) z = Mul(h, e)",
        opsets=(8, 99),
        open_sizes=True,
    ),
    Repair(
        "resized to computed sizes",
        """n = Shape(h) f = Slice<axes=[0],starts=[0],ends=[2]>(n) c = Concat<axis=0>(f, k)
        z = Resize<mode="nearest">(h, roi, scales, c)""",
        "int64[2] k = {12,12}, float[0] roi, float[0] scales",
        (11, 99),
        loose=("roi", "scales"),
    ),
    Repair(
        "upsampled",
        'z = Upsample<mode="nearest",scales=[1.0,1.0,2.0,2.0]>(h)',
        opsets=(7, 8),
        types=("half", "single"),
    ),
    Repair(
        "a constant folded into a bias",
        "e = Sigmoid(h) z = Conv(e, w3)",
        "float[6,6,1,1] w3",
    ),
    Repair(
        "a constant added behind",
        "e = Cos(h) z = MatMul(e, w3)",
        "float[8,8] w3",
        flat=True,
        channels=8,
        size=8,
    ),
    Repair("groups", "z = Conv<group=6,pads=[1,1,1,1]>(h, w3)", "float[6,1,3,3] w3"),
    Repair("clipped", "c = Clip<min=-0.5,max=0.5>(h) z = Conv(c, w3)", "float[6,6,1,1] w3", opsets=(7, 10)),
    Repair(
        "squeezed and back",
        "p = GlobalAveragePool(h) s = Squeeze<axes=[2,3]>(p) m = MatMul(s, w3) u = Unsqueeze<axes=[2,3]>(m)"
        " z = Mul(u, h)",
        "float[6,6] w3",
    ),
]


def cases() -> list[object]:
    """Return every repair in every opset that has it, in every element type."""
    return [
        pytest.param(repair, opset, dtype, id=f"{repair.title}-{opset}-{name}")
        for repair, opset, (name, dtype) in product(REPAIRS, OPSETS, TYPES.items())
        if repair.opsets[0] <= opset <= repair.opsets[1] and name in repair.types
    ]


@pytest.mark.parametrize(("repair", "opset", "dtype"), cases())
def test_repair_is_exact_in_every_opset(repair: Repair, opset: int, dtype: int) -> None:
    analysis = check(repair.model(opset, dtype))
    assert_prunable(analysis, "w1", 1 if repair.flat else 0, size=repair.size)


def _node(op: str, opset: int) -> Node:
    return Node("n", op, "", ("x",), ("y",), {}, 0, (), opset)


@pytest.mark.parametrize("op", sorted(op for op in RULES if "::" not in op))
def test_rule_is_there_in_every_opset_that_defines_the_operator(op: str) -> None:
    defined = [v for v in range(OLDEST, NEWEST + 1) if onnx.defs.has(op, v)]
    assert [v for v in defined if rule_of(_node(op, v)) is None] == []
    assert rule_of(_node(op, OLDEST - 1)) is None


def test_rules_of_an_operator_whose_meaning_changed() -> None:
    assert rule_of(_node("Softmax", 12)) is not rule_of(_node("Softmax", 13))
    assert rule_of(_node("Softmax", 13)) is rule_of(_node("Softmax", NEWEST))


def test_a_definition_that_is_newer_than_the_rules_is_not_covered() -> None:
    entry = Entry(lambda node, trace: None, OLDEST, NEWEST)
    assert entry.covers(NEWEST + 2, NEWEST)
    assert not entry.covers(NEWEST + 2, NEWEST + 1)


def test_newest_opset_of_the_installed_onnx_was_read() -> None:
    """A newer onnx may define operators anew: read what changed, then raise NEWEST."""
    assert onnx.defs.onnx_opset_version() <= NEWEST

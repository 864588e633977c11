"""Widths that operators see are multiples in the compact model, or as they were."""

from __future__ import annotations

import math

import numpy as np
import pytest

from onnx_oto.surgery import compact
from onnx_oto.zigs import Analysis, choose, score
from onnx_oto.zigs.choose import Scope
from onnx_oto.zigs.units import families
from onnx_oto.zigs.widths import BLOCKS, Rounding, automatic, fixed, rounded, told_apart

from .models import analysis_of, chained

CONCAT = """g (float[N,3,8,8] x) => (float[N,2,8,8] y)
<float[39,3,1,1] wa, float[32,3,1,1] wb, float[24,71,3,3] wc, float[2,24,1,1] wd>
{ a = Conv(x, wa) b = Conv(x, wb) c = Concat<axis=1>(a, b) d = Conv<pads=[1,1,1,1]>(c, wc) e = Relu(d)
  y = Conv(e, wd) }"""
SPLIT = """g (float[N,3,8,8] x) => (float[N,2,8,8] y)
<float[64,3,1,1] wa, float[32,32,3,3] wb, float[2,64,1,1] wd>
{ a = Conv(x, wa) b, c = Split<axis=1>(a) d = Conv<pads=[1,1,1,1]>(c, wb) e = Relu(d) f = Concat<axis=1>(b, e)
  y = Conv(f, wd) }"""
HEADS = """g (float[2,6,48] x) => (float[2,6,3] y)
<float[48,256] wq, float[48,256] wk, float[48,256] wv, float[256,40] wo, float[40,3] w, int64[4] form = {2,6,4,64},
 int64[3] flat = {2,6,256}>
{ q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) qr = Reshape(q, form)
  kr = Reshape(k, form) vr = Reshape(v, form)
  qh = Transpose<perm=[0,2,1,3]>(qr) kh = Transpose<perm=[0,2,3,1]>(kr) vh = Transpose<perm=[0,2,1,3]>(vr)
  s = MatMul(qh, kh) p = Softmax<axis=-1>(s) o = MatMul(p, vh) ot = Transpose<perm=[0,2,1,3]>(o) of = Reshape(ot, flat)
  z = MatMul(of, wo) r = Relu(z) y = MatMul(r, w) }"""
RESIDUAL = """g (float[N,3,8,8] x) => (float[N,2,8,8] y)
<float[44,3,1,1] wa, float[20,44,3,3] wb, float[44,20,1,1] wc, float[2,44,1,1] wd>
{ a = Conv(x, wa) b = Conv<pads=[1,1,1,1]>(a, wb) r = Relu(b) c = Conv(r, wc) e = Add(a, c) f = Relu(e)
  y = Conv(f, wd) }"""
GROUPS = """g (float[N,3,8,8] x) => (float[N,2,8,8] y) <float[64,3,1,1] wa, float[48,16,3,3] wb, float[2,48,1,1] wd>
{ a = Conv(x, wa) b = Relu(a) c = Conv<group=4,pads=[1,1,1,1]>(b, wb) y = Conv(c, wd) }"""
DEPTHWISE = """g (float[N,3,8,8] x) => (float[N,2,8,8] y)
<float[36,3,1,1] wa, float[36,1,3,3] wb, float[28,36,1,1] wc, float[2,28,1,1] wd>
{ a = Conv(x, wa) b = Relu(a) c = Conv<group=36,pads=[1,1,1,1]>(b, wb) d = Conv(c, wc) e = Relu(d) y = Conv(e, wd) }"""
FLATTENED = """g (float[N,3,4,4] x) => (float[N,2] y)
<float[24,3,1,1] wa, float[384,40] wb, float[40,2] wd, int64[2] flat = {0,-1}>
{ a = Conv(x, wa) b = Relu(a) c = Reshape(b, flat) d = MatMul(c, wb) e = Relu(d) y = MatMul(e, wd) }"""
FROZEN = """g (float[N,11,8,8] x) => (float[N,2,8,8] y)
<float[37,11,1,1] wa, float[24,48,3,3] wb, float[2,24,1,1] wd>
{ a = Conv(x, wa) b = Relu(a) c = Concat<axis=1>(x, b) d = Conv<pads=[1,1,1,1]>(c, wb) e = Relu(d) y = Conv(e, wd) }"""
"""The 11 channels of the input stay: 37 + 11 are a multiple only while 37 keeps what 5 does."""

MODELS = {
    "concat": CONCAT,
    "split": SPLIT,
    "heads": HEADS,
    "residual": RESIDUAL,
    "groups": GROUPS,
    "depthwise": DEPTHWISE,
    "flattened": FLATTENED,
    "frozen": FROZEN,
}
LEFT_OUT = {("concat", "wc", 1), ("groups", "wb", 1), ("frozen", "wa", 0)}
"""Axes with rules of their own, see the tests below."""


def shapes(
    analysis: Analysis, sparsity: float, rounding: int | Rounding, scope: Scope
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of the compact model."""
    scores = score(analysis, "random", int(100 * sparsity))
    drop = choose(analysis, scores, sparsity, scope=scope, round_to=rounding).drop
    return {t.name: tuple(t.dims) for t in compact(analysis, drop).graph.initializer}


SETTINGS = [
    (sparsity, rounding, scope)
    for sparsity in (0.1, 0.2, 0.35, 0.5, 0.6, 0.75, 0.9)
    for rounding in (8, 16, Rounding(16, 4), Rounding(8, 4))
    for scope in ("dimension", "global")
]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_what_is_cut_is_a_multiple(name: str) -> None:
    analysis = analysis_of(MODELS[name])
    cut = set()
    for sparsity, rounding, scope in SETTINGS:
        small = shapes(analysis, sparsity, rounding, scope)  # type: ignore[arg-type]
        for weight, shape in small.items():
            before = (
                analysis.graph.initializers[weight].dims if weight in analysis.graph.initializers else shape
            )
            for axis, (full, left) in enumerate(zip(before, shape, strict=True)):
                if full == left or not weight.startswith("w") or (name, weight, axis) in LEFT_OUT:
                    continue
                multiple = rounding if isinstance(rounding, int) else rounding.of(full)
                assert left % multiple == 0, (weight, axis, full, left, sparsity, rounding)
                cut.add((weight, axis))
    assert len(cut) >= 2


def test_an_axis_of_branches_is_a_multiple_where_all_of_them_are_cut() -> None:
    analysis = analysis_of(CONCAT)
    both = 0
    for sparsity, rounding, scope in SETTINGS:
        small = shapes(analysis, sparsity, rounding, scope)  # type: ignore[arg-type]
        a, b, c = small["wa"][0], small["wb"][0], small["wc"][1]
        assert c == a + b
        if a < 39:
            assert c % (rounding if isinstance(rounding, int) else rounding.block) == 0
            both += 1
    assert both > 10


def test_beside_channels_that_stay_the_whole_axis_is_a_multiple() -> None:
    """It does most of the work: the layer that makes 5 of the 8 channels gives way."""
    analysis = analysis_of(FROZEN)
    for multiple in (8, 16):
        small = shapes(analysis, 0.5, multiple, "dimension")
        assert small["wa"][0] < 37
        assert (small["wb"][1], small["wb"][1] % multiple) == (small["wa"][0] + 11, 0)


def test_groups_lose_equally_many_and_all_of_them_are_a_multiple() -> None:
    small = shapes(analysis_of(GROUPS), 0.4, 8, "dimension")
    assert small["wa"][0] == 4 * small["wb"][1] < 64
    assert small["wa"][0] % 8 == small["wb"][0] % 8 == 0


def test_heads_are_not_rounded_where_their_size_is_a_multiple() -> None:
    analysis = analysis_of(HEADS)
    kept = {shapes(analysis, sparsity, 8, "global")["wq"][1] for sparsity in (0.01, 0.3, 0.6, 0.9)}
    scores = np.zeros(analysis.lanes.count)
    heads, rest = (next(d for d in analysis.prunable if d.size == size) for size in (4, 40))
    (family, _) = rounded(analysis, families(analysis, scores), fixed(8))
    assert (heads.size, rest.size, family.steps.tolist()) == (4, 40, [0, 1, 2, 3])
    assert all(each % 64 == 0 for each in kept)


def test_a_lane_that_takes_several_positions_of_an_axis_counts_them() -> None:
    """24 channels of 16 pixels: for 8 of the axis that is read any number does, for the axis that is made one in 8."""
    analysis = analysis_of(FLATTENED)
    made = rounded(analysis, families(analysis, np.zeros(analysis.lanes.count)), fixed(8))
    assert [family.steps.tolist() for family in made] == [[0, 8, 16], [0, 8, 16, 24, 32]]


def test_parts_of_a_split_are_told_apart_and_branches_are_not() -> None:
    analysis = analysis_of(SPLIT)
    apart = told_apart(analysis)
    lanes = next(d.lanes for d in analysis.prunable if d.size == 64)
    assert len(set(apart[lanes[:32]])) == len(set(apart[lanes[32:]])) == 1
    assert apart[lanes[0]] != apart[lanes[32]]
    assert (
        len({int(each) for d in chained(6, 4).prunable for each in told_apart(chained(6, 4))[d.lanes]}) == 2
    )


@pytest.mark.parametrize("width", range(2, 40))
@pytest.mark.parametrize("multiple", [2, 3, 8, 16])
def test_of_a_chain_all_multiples_below_the_width_are_offered(width: int, multiple: int) -> None:
    analysis = chained(width)
    (family,) = rounded(analysis, families(analysis, np.zeros(analysis.lanes.count)), fixed(multiple))
    kept = [width - count for count in family.steps.tolist()]
    if multiple < width:
        assert kept == [width, *(n for n in range(width - 1, 0, -1) if n % multiple == 0)]
    else:
        assert kept[0] == width


def test_a_width_that_what_is_gone_left_behind_is_none() -> None:
    analysis = chained(12)
    gone = np.zeros(analysis.lanes.count, bool)
    gone[analysis.prunable[0].lanes[:3]] = True
    made = families(analysis, np.zeros(analysis.lanes.count), gone)
    (family,) = rounded(analysis, made, fixed(4))
    assert family.steps.tolist() == [4, 8]


def test_roundings() -> None:
    assert fixed(4).of(3) == fixed(4).of(400) == 4
    assert [each.block for each in automatic()] == list(BLOCKS)
    assert [each.block for each in automatic(12)] == [12, 8, 4, 2, 1]
    assert all(
        each.least <= each.block and math.gcd(each.least, each.block) == each.least for each in automatic()
    )

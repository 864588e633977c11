"""Channel permutations: folded where the layers around them allow it, kept with a reason where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from contract.builder import build, copied
from contract.exactness import assert_equal, check, outputs
from contract.graphs_vision import GRAPHS as VISION
from contract.graphs_vision import SHUFFLE_PARAMS, bn, bn_params, shuffle
from contract.test_graphs import GRAPHS
from contract.test_ops import ROWS
from onnx import ModelProto, numpy_helper

from onnx_oto.model import normalise
from onnx_oto.model.view import graph
from onnx_oto.ops.rules import ORDERLESS
from onnx_oto.runtime.comparing import random_inputs
from onnx_oto.surgery import compact, cut, kept_positions, standing
from onnx_oto.surgery.order import fold, permutations
from onnx_oto.zigs import Analysis, analyse, choose, score

from .permuted import permuted


def half(analysis: Analysis, seed: int = 0) -> np.ndarray:
    """Return lanes to drop: a random half."""
    return choose(analysis, score(analysis, "random", seed), 0.5).drop


def left(model: ModelProto) -> int:
    """Return how many permutations a model in normal form has."""
    return len(permutations(graph(model)))


# --- where a shuffle is folded ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Case:
    """What follows a shuffle of 8 channels, `r` -> `q`, and makes `z`; stays: part of the reason, "" if it goes."""

    title: str
    body: str
    params: str
    stays: str = ""
    front: str = "r = Relu(a)"
    out: str = "float[N,4,H,W] z"


CASES = [
    Case("1x1 convolution", "z = Conv(q, w)", "float[4,8,1,1] w"),
    Case(
        "depthwise, batch norm, convolution",
        f"d = Conv<group=8,pads=[1,1,1,1]>(q, v) {bn('d', 'e', 'n')} z = Conv(e, w)",
        f"float[8,1,3,3] v, {bn_params('n', 8)}, float[4,8,1,1] w",
    ),
    Case(
        "pool, flatten, dense",
        "p = GlobalAveragePool(q) f = Flatten(p) z = Gemm<transB=1>(f, w, b)",
        "float[4,8] w, float[4] b",
        out="float[N,4] z",
    ),
    Case(
        "elementwise and a residual from behind",
        "s = Sigmoid(q) m = Mul(q, s) c = Conv(m, v) d = Add(m, c) z = Conv(d, w)",
        "float[8,8,1,1] v, float[4,8,1,1] w",
    ),
    Case(
        "a residual from in front",
        "c = Conv(q, v) d = Add(r, c) z = Conv(d, w)",
        "float[8,8,1,1] v, float[4,8,1,1] w",
    ),
    Case(
        "joined with others",
        "c = Conv(x, v) j = Concat<axis=1>(c, q) z = Conv(j, w)",
        "float[3,3,1,1] v, float[4,11,1,1] w",
    ),
    Case(
        "a norm over the channels",
        "t = Transpose<perm=[0,2,3,1]>(q) n = LayerNormalization<axis=-1>(t, s, b)"
        " u = Transpose<perm=[0,3,1,2]>(n) z = Conv(u, w)",
        "float[8] s, float[8] b, float[4,8,1,1] w",
    ),
    Case(
        "the layer in front alone",
        "z = Conv<group=2>(q, w)",
        "float[4,4,1,1] w",
    ),
    Case(
        "groups behind, groups in front",
        "z = Conv<group=2>(q, w)",
        "float[8,4,1,1] v, float[4,4,1,1] w",
        stays="has them in groups",
        front="g = Conv<group=2>(a, v) r = Relu(g)",
    ),
    Case(
        "both sides are one",
        "d = Add(r, q) z = Conv(d, w)",
        "float[4,8,1,1] w",
        stays="tied to each other",
    ),
    Case(
        "one weight reads both orders",
        "c = Conv(q, w) d = Conv(r, w) z = Add(c, d)",
        "float[4,8,1,1] w",
        stays="tied to each other",
    ),
    Case(
        "split behind, joined in front",
        "l, k = Split<axis=1>(q) c = Conv(l, w) d = Conv(k, u) z = Add(c, d)",
        "float[4,3,1,1] v, float[4,3,1,1] t, float[4,4,1,1] w, float[4,4,1,1] u",
        stays="has only some of the channels",
        front="g = Conv(x, v) h = Conv(x, t) j = Concat<axis=1>(g, h) r = Add(a, j)"
        " ga, gb = Split<axis=1>(r) rg = Relu(ga)",
    ),
]


def shuffled(case: Case) -> ModelProto:
    """Return the model of a case."""
    return build(
        f"""g (float[N,3,H,W] x) => ({case.out}) <float[8,3,3,3] w0, {case.params}, {SHUFFLE_PARAMS}>
        {{ a = Conv<pads=[1,1,1,1]>(x, w0) {case.front} {shuffle("r", "q")} {case.body} }}"""
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_shuffle_is_folded_or_stays_with_a_reason(case: Case) -> None:
    analysis = check(shuffled(case), must_matter=False)
    stays = standing(analysis)
    assert len(stays) == bool(case.stays)
    assert all(case.stays in each.reason and (each.axis, each.size) == (1, 8) for each in stays)
    found = [left(compact(analysis, half(analysis, seed))) for seed in range(4)]
    assert max(found) <= len(stays)
    assert not case.stays or max(found) == 1
    assert all(each.reason.count(case.stays) == 1 for each in stays if case.stays == "tied to each other")


def test_what_stays_is_a_gather_in_the_model_too() -> None:
    """The compact model is inspected like any other: what a cut has left in it stays."""
    (case,) = [case for case in CASES if case.title == "groups behind, groups in front"]
    full = analyse(normalise(shuffled(case)))
    small = analyse(compact(full, half(full)))
    (each,) = standing(small)
    assert "has them in groups" in each.reason
    assert {node.name: node.op for node in small.graph.nodes}[each.node] == "Gather"


def test_permutations_of_a_model_from_which_nothing_is_cut_are_left_alone() -> None:
    text = """g (float[N,3,4,4] x) => (float[N,2,4,4] y)
    <float[4,3,1,1] v, float[2,4,1,1] w, int64[4] order = {3,-4,2,1}>
    { a = Conv(x, v) b = Gather<axis=1>(a, order) y = Conv(b, w) }"""
    analysis = analyse(normalise(build(text)))
    assert left(compact(analysis, np.zeros(analysis.lanes.count, bool))) == 1
    assert left(compact(analysis, half(analysis))) == 0
    assert standing(analysis) == []


def test_the_order_of_an_output_is_the_model_s() -> None:
    """A layer in front of a permuted output can be put into its order; one that is an output itself cannot."""
    text = """g (float[N,3,4,4] x) => (float[N,4,4,4] y{more})
    <float[6,3,1,1] v, float[4,6,1,1] w, int64[4] order = {{3,0,2,1}}>
    {{ a = Conv(x, v) h = Conv(a, w) y = Gather<axis=1>(h, order) }}"""
    free = analyse(normalise(build(text.format(more=""))))
    assert (standing(free), left(compact(free, half(free)))) == ([], 0)
    read = analyse(normalise(build(text.format(more=", float[N,4,4,4] h"))))
    (each,) = standing(read)
    assert "part of the model's output 'y'" in each.reason
    assert "part of the model's output 'h'" in each.reason
    check(build(text.format(more=", float[N,4,4,4] h")))


def test_what_one_permutation_cannot_do_its_neighbour_takes_over() -> None:
    """Two permutations with a free layer between: one goes, the other gathers what both did."""
    text = """g (float[N,4,4,4] x) => (float[N,4,4,4] y)
    <float[4] s, int64[4] one = {3,0,2,1}, int64[4] two = {1,2,3,0}, float[4,1,1,1] w>
    { a = Gather<axis=1>(x, one) b = Conv<group=4>(a, w) y = Gather<axis=1>(b, two) }"""
    model = normalise(build(text))
    folded = copied(model)
    fold(folded)
    assert left(folded) == 1
    feed = random_inputs(model, np.random.default_rng(0), batch=2)
    assert_equal(outputs(model, feed), outputs(folded, feed), "folded")


@dataclass(frozen=True)
class Order:
    """A model with a permutation that must stay because the order of `p` is given away, and what the runtime gets."""

    title: str
    text: str
    reason: str
    feed: dict[str, Any] | None = None


GIVEN_AWAY = [
    Order(
        "one of several outputs of a channel",
        """g (float[N,2,4,4] x) => (float[N,3,4,4] y)
        <float[4,1,1,1] v, float[3,2,1,1] w, int64[2] order = {1,0}, int64[2] picked = {0,3}>
        { p = Gather<axis=1>(x, order) d = Conv<group=2>(p, v) s = Gather<axis=1>(d, picked) y = Conv(s, w) }""",
        "behind it",
    ),
    Order(
        "a shape",
        """g (float[4] x, float[2,6,4,4] z) => (float[A,B,C,D] y) <int64[4] order = {3,1,2,0}>
        { p = Gather(x, order) s = Cast<to=7>(p) y = Reshape(z, s) }""",
        "may tell them apart",
        {"x": np.array([4, 12, 2, 2], np.float32), "z": np.ones((2, 6, 4, 4), np.float32)},
    ),
    Order(
        "factors of a resize",
        """g (float[4] x, float[1,2,3,3] z) => (float[A,B,C,D] y) <int64[4] order = {3,1,2,0}>
        { p = Gather(x, order) y = Resize<mode="nearest">(z, , p) }""",
        "reads factors",
        {"x": np.array([3, 1, 2, 1], np.float32), "z": np.ones((1, 2, 3, 3), np.float32)},
    ),
    Order(
        "statistics of a batch norm",
        f"""g (float[N,4,4,4] x) => (float[N,2,4,4] y, float[4] m)
        <{bn_params("n", 4)}, float[2,4,1,1] w, int64[4] order = {{3,1,2,0}}>
        {{ p = Gather<axis=1>(x, order)
           z, m, v = BatchNormalization<training_mode=1>(p, ns, np, nm, varn) y = Conv(z, w) }}""",
        "behind it",
        {},
    ),
]


@pytest.mark.parametrize("case", GIVEN_AWAY, ids=lambda case: case.title)
def test_an_order_that_is_given_away_stays(case: Order) -> None:
    plain = build(case.text)
    model = normalise(plain)
    folded = copied(model)
    fold(folded)
    (each,) = standing(analyse(model))
    assert (left(folded), case.reason in each.reason) == (1, True), each.reason
    feed = random_inputs(plain, np.random.default_rng(0), batch=2) if case.feed is None else case.feed
    if feed:
        assert_equal(outputs(model, feed), outputs(folded, feed), case.title)


# --- any operator: permutations anywhere -----------------------------------------------------------------------
def anything() -> Iterator[tuple[str, Callable[[], ModelProto]]]:
    """Yield a name and a model for every row and every graph of the contract."""
    for row in ROWS:
        yield row.id, row.model
    for each in GRAPHS:
        yield each.name, each.model


def with_batch(model: ModelProto) -> ModelProto:
    """Return the model with 2 for every unknown size in front: an axis like any other then."""
    result = copied(model)
    for value in (*result.graph.input, *result.graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            dims[0].dim_value = 2
    return result


def test_any_operator_between_permutations_computes_the_same_without_them() -> None:
    """A rule that is `orderless` by mistake, or says nothing of a position it tells apart, fails here."""
    known, gone = 0, 0
    for name, make in anything():
        number = crc32(name.encode())  # by name: another row changes nothing for the others
        rng = np.random.default_rng(number)
        plain = with_batch(make()) if number % 3 else make()
        model = permuted(normalise(plain), rng, (0.3, 0.6, 1.0)[number % 3])
        feed = random_inputs(plain, np.random.default_rng(7), batch=2, size=8)
        try:
            expected = outputs(model, feed)
        except Exception:  # a permutation where the runtime has no kernel, or of what must not be permuted
            continue
        folded = copied(model)
        known += left(folded)
        fold(folded)
        gone += left(model) - left(folded)
        assert_equal(expected, outputs(folded, feed), name)
    assert gone > 0.4 * known > 400  # 661 of 1,347 when this was written


def test_operators_that_mix_or_count_positions_are_not_orderless() -> None:
    assert {"Conv", "Relu", "Split", "LayerNormalization"} <= ORDERLESS
    assert not ORDERLESS & {"DepthToSpace", "SpaceToDepth", "Tile", "GroupNormalization", "LSTM", "Attention"}


# --- where the parameters come from ----------------------------------------------------------------------------
def value_of(model: ModelProto, name: str) -> np.ndarray:
    """Return an initializer."""
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


@pytest.mark.parametrize("case", [c for c in CASES if not c.stays], ids=lambda case: case.title)
def test_kept_positions_make_the_compact_parameters_of_the_full_ones(case: Case) -> None:
    analysis = analyse(normalise(shuffled(case)))
    drop = half(analysis)
    result = cut(analysis, drop)
    kept = kept_positions(analysis, drop, result)
    names = {tensor.name for tensor in result.model.graph.initializer}
    seen, reordered = 0, False
    for param, axes in kept.items():
        if param not in names or any(positions.ndim > 1 for positions in axes.values()):
            continue
        full: Any = value_of(analysis.model, param)
        for axis, positions in axes.items():
            full = full.take(positions, axis=axis)
            reordered = reordered or bool((np.diff(positions) < 0).any())
        np.testing.assert_array_equal(value_of(result.model, param), full)
        seen += 1
    assert seen
    assert reordered == bool(result.orders)


def test_a_parameter_that_surgery_replaced_has_the_order_of_its_successor() -> None:
    """The bias gets what removed channels of a constant value contributed, and is another tensor then."""
    text = """g (float[N,3,4,4] x) => (float[N,4,4,4] y)
    <float[6,3,1,1] w0, float[8,6,1,1] w1, float[8] b1, float[4,4,1,1] w2, int64[8] order = {4,0,5,1,6,2,7,3}>
    { a = Conv(x, w0) s = Sigmoid(a) c = Conv(s, w1, b1) p = Gather<axis=1>(c, order) y = Conv<group=2>(p, w2) }"""
    analysis = analyse(normalise(build(text)))
    drop = half(analysis, 3)
    result = cut(analysis, drop)
    kept = kept_positions(analysis, drop, result)
    assert left(result.model) == 0
    assert "b1" not in {tensor.name for tensor in result.model.graph.initializer}
    assert (np.diff(kept["w1"][0]) < 0).any()
    np.testing.assert_array_equal(kept["b1"][0], kept["w1"][0])


def test_shuffle_nets_keep_what_groups_and_splits_need() -> None:
    """A unit whose shuffle is read by whole layers loses it; between units that split, and between groups, it stays."""
    found = {}
    for each in VISION:
        if "ShuffleNet" in each.name:
            analysis = analyse(normalise(each.model()))
            chains = sum(chain.axis >= 0 for chain in analysis.trace.reorderings.values())
            found[each.name] = chains, len(standing(analysis))
    assert sorted(found.values()) == [(1, 1), (3, 2)]

"""Loops written out: the same function, without bodies."""

from __future__ import annotations

import numpy as np
import pytest
from contract.exactness import outputs
from onnx import parser

from onnx_oto.model import normalise
from onnx_oto.model.normal.unrolled import MOST_TRIPS, unrolled

LOOP = (
    "g (float[2,3] x, bool c, int64 m) => (float[2,3] y, float[T,2,3] z) <int64 three = {{3}}, int64 many = {{{many}}},"
    " int64 none = {{0}}, bool yes = {{1}}, float[3,3] w = {{1,0,2,0,1,0,1,1,0}}> {{ y, z = Loop ({trips}, {go}, x)"
    " <body = b (int64 i, bool go, float[2,3] s) => (bool on, float[2,3] r, float[2,3] e)"
    " {{ t = MatMul(s, w) f = Cast<to = 1>(i) u = Add(t, f) r = Tanh(u) e = Neg(s) {end} }}> }}"
)
SCAN = (
    "g (float[2,3] s0, float[2,5,3] x) => (float[2,3] y, float[2,3,5] z) { y, z = Scan (s0, x) <num_scan_inputs = 1,"
    " scan_input_axes = [1], scan_output_axes = [-1], scan_input_directions = [1], scan_output_directions = [1],"
    " body = b (float[2,3] s, float[2,3] part) => (float[2,3] r, float[2,3] e) { r = Sub(part, s) e = Exp(r) }> }"
)
NESTED = (
    "g (float[2,3] x, bool c) => (float[2,3] y) <int64 two = {2}, bool yes = {1}> { y = Loop (two, yes, x)"
    " <body = b (int64 i, bool go, float[2,3] s) => (bool on, float[2,3] r) { on = Identity(go)"
    " k = If (c) <then_branch = t () => (float[2,3] p) { p = Neg(s) }, else_branch = e () => (float[2,3] q)"
    " { h = Abs(s) q = Exp(h) }> r = Loop (two, yes, k) <body = d (int64 j, bool on2, float[2,3] v)"
    " => (bool on3, float[2,3] o) { on3 = Identity(on2) o = Add(v, s) }> }> }"
)


def read(text: str):
    return normalise(parser.parse_model('<ir_version: 8, opset_import: ["":17]>\n' + text))


def loop(trips: str = "three", go: str = "yes", end: str = "on = Identity(go)") -> str:
    return LOOP.format(trips=trips, go=go, end=end, many=MOST_TRIPS + 1)


def feed(model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    given = {"c": np.array(True), "m": np.array(2)}
    for value in model.graph.input:
        if value.name not in given:
            shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            given[value.name] = rng.standard_normal(shape).astype(np.float32)
    return {value.name: given[value.name] for value in model.graph.input}


BARE = (
    "g (float[2,3] x) => (float[2,3] y) <int64 trips = {TRIPS}, bool go = {GO}> { y = Loop (trips, go, x)"
    " <body = b (int64 i, bool on, float[2,3] s) => (bool on, float[2,3] OUT) { NODES }> }"
)


def bare(trips: int, nodes: str = "", *, go: int = 1) -> str:
    """Return a loop with one output, whose body may be empty."""
    text = BARE.replace("TRIPS", str(trips)).replace("GO", str(go)).replace("NODES", nodes)
    return text.replace("OUT", "r" if nodes else "s")


@pytest.mark.parametrize(
    "text",
    [
        loop(),
        loop(go=""),
        loop(end="on = Identity(yes)"),
        loop(trips="none"),
        SCAN,
        NESTED,
        bare(0, "r = Exp(s)"),
        bare(1, "r = Exp(s)"),
        bare(3, "r = Exp(s)", go=0),
        bare(3),
        bare(0),
    ],
)
def test_what_is_written_out_computes_the_same(text: str) -> None:
    model = read(text)
    written = unrolled(model)
    assert {"Loop", "Scan"}.isdisjoint(node.op_type for node in written.graph.node)
    for a, b in zip(outputs(model, feed(model)), outputs(written, feed(model)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "text",
    [
        loop(trips="m"),
        loop(trips="many"),
        loop(go="c"),
        loop(end="n = ReduceSum<keepdims = 0>(r) k = Cast<to = 9>(n) on = Not(k)"),
        SCAN.replace("2,5,3", "2,L,3").replace("2,3,5", "2,3,L"),
    ],
)
def test_what_has_no_known_number_of_trips_stays(text: str) -> None:
    model = read(text)
    assert unrolled(model) is model

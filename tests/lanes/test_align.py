"""Which positions an elementwise operator ties, and which it freezes."""

from __future__ import annotations

import numpy as np
import pytest
from contract.builder import build

from onnx_oto.model import normalise
from onnx_oto.zigs import Analysis, analyse


def lanes(analysis: Analysis, param: str, axis: int) -> list[int]:
    """Return the lanes of a parameter's axis."""
    return analysis.lanes.of_label[analysis.trace.parameters[param][axis]].tolist()


def analysis_of(body: str, params: str) -> Analysis:
    """Return the analysis of x [2,4,5] -> `body` -> z [2,4,6] -> MatMul last -> y."""
    text = f"""g (float[2,4,5] x) => (float[2,4,3] y) <{params}, float[6,3] last>
    {{ {body} y = MatMul(z, last) }}"""
    return analyse(normalise(build(text)))


def test_equal_axes_tie_position_by_position() -> None:
    analysis = analysis_of("a = MatMul(x, w) b = MatMul(x, v) z = Add(a, b)", "float[5,6] w, float[5,6] v")
    assert lanes(analysis, "w", 1) == lanes(analysis, "v", 1)
    assert len(set(lanes(analysis, "w", 1))) == 6


def test_axes_match_from_the_right() -> None:
    analysis = analysis_of("a = MatMul(x, w) z = Add(p, a)", "float[5,6] w, float[6] p")
    assert lanes(analysis, "w", 1) == lanes(analysis, "p", 0)


def test_an_axis_of_size_one_ties_nothing() -> None:
    analysis = analysis_of("a = MatMul(x, w) b = MatMul(x, v) z = Mul(a, b)", "float[5,6] w, float[5,1] v")
    assert len(set(lanes(analysis, "w", 1))) == 6
    assert 1 not in analysis.trace.parameters["v"]


def test_labels_that_meet_a_whole_axis_are_frozen() -> None:
    analysis = analysis_of("a = MatMul(x, w) z = Mul(p, a)", "float[5,6] w, float[2,4,1] p")
    assert not analysis.lanes.frozen[lanes(analysis, "w", 1)].any()
    text = """g (float[2,5] x, float[2,6] r) => (float[2,3] y) <float[5,6] w, float[6,3] v>
    { a = MatMul(x, w) b = Add(a, r) y = MatMul(b, v) }"""
    whole = analyse(normalise(build(text)))
    assert whole.lanes.frozen[lanes(whole, "w", 1)].all()


@pytest.mark.parametrize(("shape", "kept"), [("2,4,2,3", 6), ("2,4,3,2", 6)])
def test_axes_divided_alike_tie_factor_by_factor(shape: str, kept: int) -> None:
    analysis = analysis_of(
        "a = MatMul(x, w) b = MatMul(x, v) c = Reshape(a, s) d = Reshape(b, s) e = Add(c, d) z = Reshape(e, back)",
        f"float[5,6] w, float[5,6] v, int64[4] s = {{{shape}}}, int64[3] back = {{2,4,6}}",
    )
    assert lanes(analysis, "w", 1) == lanes(analysis, "v", 1)
    assert len(set(lanes(analysis, "w", 1))) == max(int(n) for n in shape.split(",")[2:])
    assert len(lanes(analysis, "w", 1)) == kept


def test_a_vector_over_heads_makes_every_head_one_lane() -> None:
    analysis = analysis_of(
        "a = MatMul(x, w) c = Reshape(a, s) e = Mul(c, p) z = Reshape(e, back)",
        "float[5,6] w, float[3,1] p, int64[4] s = {2,4,3,2}, int64[3] back = {2,4,6}",
    )
    got = lanes(analysis, "w", 1)
    assert got == [got[0], got[0], got[2], got[2], got[4], got[4]]
    assert lanes(analysis, "p", 0) == got[::2]


def test_a_table_within_heads_stays_whole_and_leaves_the_heads() -> None:
    """A rotary table is the same for every head: heads can go, positions within heads cannot."""
    analysis = analysis_of(
        "a = MatMul(x, w) c = Reshape(a, s) e = Mul(c, p) z = Reshape(e, back)",
        "float[5,6] w, float[3] p, int64[4] s = {2,4,2,3}, int64[3] back = {2,4,6}",
    )
    got = lanes(analysis, "w", 1)
    assert got == [got[0]] * 3 + [got[3]] * 3
    assert not analysis.lanes.frozen[got].any()
    assert analysis.lanes.frozen[lanes(analysis, "p", 0)].all()


def test_an_axis_split_in_two_ways_is_cut_at_common_borders() -> None:
    """[12] seen as [2,6] on one side and [4,3] -> [12] on the other: labels still meet element by element."""
    text = """g (float[2,5] x) => (float[2,3] y)
    <float[5,12] w, float[5,12] v, int64[3] s = {2,4,3}, int64[2] back = {2,12}, float[12,3] last>
    { a = MatMul(x, w) b = MatMul(x, v) c = Reshape(b, s) d = Reshape(c, back) e = Add(a, d) y = MatMul(e, last) }"""
    analysis = analyse(normalise(build(text)))
    assert lanes(analysis, "w", 1) == lanes(analysis, "v", 1)
    assert len(set(lanes(analysis, "w", 1))) == 12


def test_states_meet_too() -> None:
    """sigmoid(a) - sigmoid(b) is zero where both are removed, sigmoid(a) + sigmoid(b) is one."""
    params = "float[5,6] w, float[5,6] v"
    body = "a = MatMul(x, w) b = MatMul(x, v) c = Sigmoid(a) d = Sigmoid(b) "
    for op, value in (("Sub", 0.0), ("Add", 1.0)):
        analysis = analysis_of(f"{body} z = {op}(c, d)", params)
        layout = analysis.trace.layout("z")
        assert layout is not None
        np.testing.assert_array_equal(layout.blocks[0].state, np.full(6, value))

"""Sizes of open axes that a graph says."""

from __future__ import annotations

import pytest

from onnx_oto.model import graph, normalise
from onnx_oto.model.implied import implied_sizes
from onnx_oto.runtime.comparing import compare
from tests.contract.builder import build


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("g (float[N,D] x) => (float[N,4] y) <float[9,4] w> { y = MatMul(x, w) }", {"D": 9}),
        ("g (float[N,D] x) => (float[N,4] y) <float[4,9] w> { y = Gemm<transB=1>(x, w) }", {"D": 9}),
        ("g (float[D,N] x) => (float[N,4] y) <float[9,4] w> { y = Gemm<transA=1>(x, w) }", {"D": 9}),
        ("g (float[T,A,B] x) => (float[T,8,3] y) <float[8,3] w> { y = Mul(x, w) }", {"A": 8, "B": 3}),
        ("g (float[T,A] x) => (float[T,A] y) <float[1] w> { y = Mul(x, w) }", {}),
        (
            "g (float[N,C,H,W] x) => (float[N,4,P,Q] y) <float[4,3,3,3] w> { y = Conv<group=2>(x, w) }",
            {"C": 6},
        ),
        (
            """g (float[T,N,D] x) => (float[T,1,N,6] y) <float[1,6,5] w, float[1,6,6] r>
            { y = RNN<hidden_size=6>(x, w, r) }""",
            {"D": 5},
        ),
        (
            """g (float[N,1,L] x) => (float[N,4] y) <float[2,1,5] v, float[18,4] w, int64[2] flat = {0,-1}>
            { c = Conv(x, v) f = Reshape(c, flat) y = MatMul(f, w) }""",
            {"L": 13},
        ),
        (
            """g (float[T,L] x) => (float[M,4] y) <float[3,1,1,5] v, float[24,4] w, int64[2] front = {0,1},
             int64[1] first = {0}, int64[2] rows = {-1,24}>
            { u = Unsqueeze(x, front) c = Conv(u, v) s = Squeeze(c, first) t = Transpose<perm=[1,0,2]>(s)
              f = Reshape(t, rows) y = MatMul(f, w) }""",
            {"L": 12},
        ),
        (
            """g (float[N,D] x, bool c) => (float[N,P] y) <float[9,4] w>
            { y = If (c) <then_branch = t () => (float[N,P] a) { a = MatMul(x, w) },
                          else_branch = e () => (float[N,P] b) { b = Relu(x) }> }""",
            {},
        ),
    ],
)
def test_what_is_computed_with_constants_must_fit_them(text: str, expected: dict[str, int]) -> None:
    assert implied_sizes(graph(normalise(build(text)))) == expected


def test_models_run_at_sizes_that_only_the_graph_says() -> None:
    """Neither of both axes has the size of the other, and no size of the search is one of them."""
    model = build(
        """g (float[T,A,B] x) => (float[T,4] y) <float[81,3] scale, float[243,4] w, int64[2] flat = {0,-1}>
        { s = Mul(x, scale) f = Reshape(s, flat) y = MatMul(f, w) }"""
    )
    verdict = compare(model, model)
    assert verdict.passed
    assert {tuple(sorted(sizes.items())) for sizes in verdict.sizes} >= {(("A", 81), ("B", 3), ("T", 3))}


def test_models_run_whose_first_axis_is_long() -> None:
    """Frames of sound stand first, and a window slides over more of them than samples are fed at once."""
    model = build(
        """g (float[T,F] x) => (float[1,4,P,Q] y) <float[4,1,50,3] w, int64[2] front = {0,1}>
        { u = Unsqueeze(x, front) y = Conv(u, w) }"""
    )
    verdict = compare(model, model)
    assert verdict.passed
    assert all(sizes["T"] >= 50 for sizes in verdict.sizes)

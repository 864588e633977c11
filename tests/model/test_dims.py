"""Arithmetic on open sizes is arithmetic on numbers, whatever numbers stand for the symbols."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.model.shapes.dims import (
    Dim,
    add,
    divide,
    largest,
    least,
    multiply,
    product,
    quotient,
    smallest,
    subtract,
    symbol_for,
    symbols,
    truncated,
    value_at,
)

POINTS = [{"N": n, "H": h, "T": t} for n, h, t in ((1, 1, 1), (2, 7, 5), (5, 4, 9), (3, 12, 2))]
BINARY = {
    add: lambda a, b: a + b,
    subtract: lambda a, b: a - b,
    multiply: lambda a, b: a * b,
    largest: max,
    smallest: min,
}


@st.composite
def sizes(draw: st.DrawFn, depth: int = 3) -> Dim:
    """Draw a size built by the operations, so written as they write it."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.one_of(st.integers(0, 6), st.sampled_from(["N", "H", "T"])))
    a, b = draw(sizes(depth - 1)), draw(sizes(depth - 1))
    function = draw(st.sampled_from([*BINARY, quotient]))
    if function is quotient:
        b = draw(st.integers(1, 4))
        return quotient(a, b) if least(a) >= 0 else a
    return function(a, b)


@settings(max_examples=100, deadline=None)
@given(sizes(), sizes())
def test_operations_are_those_of_numbers(a: Dim, b: Dim) -> None:
    for function, true in BINARY.items():
        result = function(a, b)
        if a is None or b is None:
            assert result is None
        elif result is not None:
            for point in POINTS:
                assert value_at(result, point) == true(value_at(a, point), value_at(b, point)), function


@settings(max_examples=100, deadline=None)
@given(sizes(), sizes())
def test_quotients_are_those_of_numbers(a: Dim, b: Dim) -> None:
    if a is None or b is None:
        return
    for point in POINTS:
        x, y = value_at(a, point), value_at(b, point)
        exact, towards_zero = divide(a, b), truncated(a, b)
        if exact is not None and y:
            assert value_at(exact, point) * y == x
        if towards_zero is not None and x >= 0 < y:
            assert value_at(towards_zero, point) == x // y


@settings(max_examples=100, deadline=None)
@given(sizes(), sizes(), sizes())
def test_one_size_has_one_text(a: Dim, b: Dim, c: Dim) -> None:
    assert add(a, b) == add(b, a)
    assert multiply(a, b) == multiply(b, a)
    total = add(add(a, b), c)
    if total is not None and add(b, c) is not None:
        assert total == add(a, add(b, c))
    if add(a, b) is not None:
        assert subtract(add(a, b), b) == a


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 12), st.sampled_from(["N", "H", "2*N", "T+1", "H*(T-1)"])), max_size=3),
    sizes(),
)
def test_products_divide_back(factors: list[Dim], other: Dim) -> None:
    a, b = product(factors), other
    if b not in (0, None) and multiply(a, b) is not None:
        assert divide(multiply(a, b), b) == a


@settings(max_examples=100, deadline=None)
@given(sizes())
def test_bounds_hold(a: Dim) -> None:
    if a is not None:
        for point in POINTS:
            assert least(a) <= least(a, symbol=1) <= value_at(a, point)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (add("T", 1), "T+1"),
        (add("T+1", -1), "T"),
        (add("T+1", "T+1"), "2*(T+1)"),
        (multiply("T+1", "N"), "(T+1)*N"),
        (add("N", multiply("T", "N")), "(T+1)*N"),
        (subtract("N", "T"), "N-T"),
        (subtract("T", "N"), "-(N-T)"),
        (add(quotient(subtract("H", 1), 2), 1), "floor((H+1)/2)"),
        (quotient("6*N", 2), "3*N"),
        (quotient("N", "T"), "floor(N/T)"),
        (subtract("H", multiply(7, quotient("H", 7))), "H-7*floor(H/7)"),
        (divide("N", 2), None),
        (divide(12, 5), None),
        (divide("N", 0), None),
        (add("T", None), None),
    ],
)
def test_how_sizes_are_written(size: Dim, text: Dim) -> None:
    assert size == text


def test_least_sizes() -> None:
    assert [least(s) for s in ("T+1", "T", 7, "T-1", None)] == [1, 0, 7, -1, -math.inf]
    assert [least(s, symbol=1) for s in ("T-1", "2*N*T", "N-T")] == [0, 2, -math.inf]


def test_names_that_are_no_symbols_get_one() -> None:
    assert symbol_for("batch_size") == "batch_size"
    assert symbol_for("past + 1") == "size_past_1"
    assert symbol_for("past + 1", ["size_past_1"]) == "size_past_1_2"
    assert symbols("2*N*floor((H-1)/2)+max(1,T)") == {"N", "H", "T"}

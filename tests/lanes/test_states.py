"""States that are one value everywhere: what becomes of them is what becomes of every position."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from onnx_oto.lanes.contract import times, zero_or_unknown
from onnx_oto.lanes.layout import thin, thin_values
from onnx_oto.lanes.states import finite_or_poison, is_unknown, result_of
from onnx_oto.ops.elementwise import BINARY, UNARY, _plain, defined

VALUES = (0.0, -0.0, 1.0, -1.5, 3.0, np.nan, np.inf)


def whole(value: float) -> np.ndarray:
    """Return states that lie in memory one by one."""
    return np.full((2, 3), value)


@pytest.mark.parametrize("op", sorted(UNARY))
@pytest.mark.parametrize("value", VALUES)
def test_one_operand(op: str, value: float) -> None:
    function = defined(lambda x: UNARY[op](x, {}))
    found = result_of(function, [thin(value, (2, 3))], [thin(value, (2, 3))])
    wanted = result_of(function, [whole(value)], [whole(value)])
    np.testing.assert_array_equal(found, wanted)
    assert thin_values([found]) is not None
    assert thin_values([wanted]) is None


@pytest.mark.parametrize("op", sorted(BINARY))
def test_two_operands(op: str) -> None:
    function = BINARY[op][0]
    for pair in itertools.product(VALUES, repeat=2):
        few, many = [thin(each, (2, 3)) for each in pair], [whole(each) for each in pair]
        np.testing.assert_array_equal(
            result_of(function, few, few), result_of(function, many, many), str(pair)
        )
        mixed = [few[0], many[1]]
        np.testing.assert_array_equal(result_of(function, mixed, mixed), result_of(function, many, many))


@pytest.mark.parametrize("op", sorted(UNARY))
def test_what_is_remembered_is_what_is_computed(op: str) -> None:
    for value in (*VALUES, *VALUES):
        few, many = [thin(value, 3)], [np.full(3, value)]
        found, wanted = (result_of(_plain(op), states, states) for states in (few, many))
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(wanted), str(value))


@pytest.mark.parametrize("value", VALUES)
def test_what_is_read_of_a_state(value: float) -> None:
    few, many = thin(value, (2, 3)), whole(value)
    np.testing.assert_array_equal(few, many)
    np.testing.assert_array_equal(zero_or_unknown(few), zero_or_unknown(many))
    assert is_unknown(few) == is_unknown(many) == math.isnan(value)
    with pytest.raises(ValueError, match="read-only"):
        few[0, 0] = 1.0


def test_a_result_that_differs_between_positions_is_computed_for_all_of_them() -> None:
    ramp = np.arange(6.0).reshape(2, 3)
    states = [thin(2.0, (2, 3))]
    np.testing.assert_array_equal(result_of(lambda x: x * ramp, states, states), 2 * ramp)


def test_nothing_is_thin_without_positions() -> None:
    assert thin_values([np.zeros(0)]) is None
    assert not is_unknown(np.zeros(0))
    assert thin_values([thin(np.nan, ())]) is not None
    np.testing.assert_array_equal(
        finite_or_poison([np.array([np.inf, 0.0])], np.zeros(2)), np.array([np.inf, 0.0])
    )
    np.testing.assert_array_equal(times(thin(0.0, 3), thin(np.nan, 3)), np.zeros(3))

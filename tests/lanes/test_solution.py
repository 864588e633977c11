"""Solving a trace that is written by hand: rectangles, frozen lanes, balanced rows."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from onnx_oto.lanes.constraints import Balanced, Rectangle
from onnx_oto.lanes.solution import Lanes, solve
from onnx_oto.lanes.trace import Role, Trace


def empty() -> Trace:
    """Return a trace of no graph; solving reads labels only."""
    return Trace(cast(Any, None))


def rows(lanes: Lanes, labels: np.ndarray) -> list[list[int]]:
    """Return the lanes of a label array of rank 2."""
    return cast("list[list[int]]", lanes.of_label[labels].tolist())


def test_labels_that_nothing_ties_are_lanes_of_their_own() -> None:
    trace = empty()
    labels = trace.fresh(4)
    lanes = solve(trace)
    assert lanes.of_label[labels].tolist() == [0, 1, 2, 3]
    assert not lanes.frozen.any()


@pytest.mark.parametrize("shape", [(4, 2), (2, 4)])
def test_a_product_axis_that_is_computed_varies_along_its_longer_factor(shape: tuple[int, int]) -> None:
    trace = empty()
    labels = trace.fresh(shape)
    trace.rectangles.append(Rectangle(labels, "node"))
    lanes = solve(trace)
    assert lanes.count == 4
    longer = int(np.argmax(shape))
    moved = np.moveaxis(lanes.of_label[labels], longer, 0)
    assert (moved == moved[:, :1]).all()


def test_a_rectangle_prefers_the_factor_that_ties_leave_more_lanes_along() -> None:
    trace = empty()
    labels = trace.fresh((2, 4))
    trace.tie(labels[:, :1], labels[:, 1:3])  # along the longer factor only two lanes would be left
    trace.tie(labels[:1, 3:], labels[:1, :1])
    trace.rectangles.append(Rectangle(labels, "node"))
    lanes = solve(trace)
    assert lanes.count == 2
    assert rows(lanes, labels) == [[0, 0, 0, 0], [1, 1, 1, 1]]


def test_rectangles_of_three_factors_end_with_one_that_varies() -> None:
    trace = empty()
    labels = trace.fresh((2, 3, 4))
    trace.rectangles.append(Rectangle(labels, "node"))
    lanes = solve(trace)
    assert lanes.count == 4
    assert (lanes.of_label[labels] == lanes.of_label[labels][:1, :1]).all()


def test_a_view_that_is_never_computed_stays_free() -> None:
    trace = empty()
    trace.fresh((3, 4))
    assert solve(trace).count == 12


def test_the_first_reason_stays_and_reaches_tied_labels() -> None:
    trace = empty()
    first, second = trace.fresh(3), trace.fresh(3)
    trace.tie(first, second)
    trace.freeze(second[:1], "because of this")
    trace.freeze(first[:2], "because of that")
    lanes = solve(trace)
    reasons = [lanes.reasons[i] if i >= 0 else "" for i in lanes.reason[lanes.of_label[first]]]
    assert reasons == ["because of this", "because of that", ""]


def test_balanced_rows_are_cells() -> None:
    trace = empty()
    labels = trace.fresh((2, 3))
    trace.balanced.append(Balanced(labels, "conv"))
    lanes = solve(trace)
    assert [len(set(lanes.cells[row].tolist())) for row in lanes.of_label[labels]] == [1, 1]
    assert len(set(lanes.cells.tolist())) == 2
    assert not lanes.frozen.any()
    assert [node for _, node in lanes.balanced] == ["conv"]


def test_crossing_constraints_make_smaller_cells() -> None:
    trace = empty()
    labels = trace.fresh((2, 2, 3))
    trace.balanced.append(Balanced(labels.reshape(2, 6), "a"))
    trace.balanced.append(Balanced(labels.transpose(1, 0, 2).reshape(2, 6), "b"))
    lanes = solve(trace)
    assert len(set(lanes.cells.tolist())) == 4
    assert not lanes.frozen.any()


@pytest.mark.parametrize("case", ["a frozen lane", "a lane in one row twice", "unequal cells"])
def test_rows_that_cannot_be_kept_equal_are_frozen(case: str) -> None:
    trace = empty()
    if case == "unequal cells":
        labels = trace.fresh(12)
        trace.balanced.append(Balanced(labels.reshape(2, 6), "conv"))
        trace.balanced.append(Balanced(labels.reshape(3, 4), "conv"))
    else:
        labels = trace.fresh((2, 3))
        trace.balanced.append(Balanced(labels, "conv"))
        if case == "a frozen lane":
            trace.freeze(labels[0, :1], "elsewhere")
        else:
            trace.tie(labels[0, :1], labels[0, 1:2])
    lanes = solve(trace)
    assert lanes.frozen.all()
    assert "the groups of 'conv' cannot all keep the same number of channels" in lanes.reasons
    assert lanes.balanced == ()


def test_rows_that_share_every_lane_need_no_constraint() -> None:
    trace = empty()
    labels = trace.fresh((2, 3))
    trace.tie(labels[:1], labels[1:])
    trace.balanced.append(Balanced(labels, "depthwise"))
    lanes = solve(trace)
    assert lanes.balanced == ()
    assert not lanes.frozen.any()


def test_rows_in_which_every_lane_stands_twice_are_balanced() -> None:
    trace = empty()
    labels = trace.fresh((2, 3, 2))
    trace.tie(labels[..., :1], labels)
    trace.balanced.append(Balanced(labels.reshape(2, 6), "conv"))
    lanes = solve(trace)
    assert not lanes.frozen.any()
    assert [rows.shape for rows, _ in lanes.balanced] == [(2, 3)]


def matrix(trace: Trace, *, one_lane: bool) -> np.ndarray:
    """Put a parameter w [2, 3] whose two axes both produce; return the labels of axis 0."""
    first, second = trace.fresh(2), trace.fresh(3)
    if one_lane:
        trace.tie(first[:1], first)
        trace.tie(first[:1], second)
    trace.parameters["w"] = {0: first, 1: second}
    trace.roles["w", 0] = trace.roles["w", 1] = Role.PRODUCER
    return first


def test_a_second_producing_axis_is_frozen_the_longer_one_stays() -> None:
    trace = empty()
    first = matrix(trace, one_lane=False)
    lanes = solve(trace)
    assert lanes.frozen[lanes.of_label[first]].all()
    assert not lanes.frozen[lanes.of_label[trace.parameters["w"][1]]].any()
    assert lanes.reasons == ("'w' would belong to the groups of two of its axes",)


def test_a_matrix_that_is_one_lane_as_a_whole_is_one_group() -> None:
    trace = empty()
    matrix(trace, one_lane=True)
    lanes = solve(trace)
    assert lanes.count == 1
    assert not lanes.frozen.any()

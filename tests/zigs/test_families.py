"""Runs of lanes on axes, and families of lanes, against sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.zigs.families import families, meetings, members, runs_of

AXES = st.lists(st.lists(st.integers(0, 11), max_size=9), max_size=5)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(AXES, st.permutations(list(range(12))))
def test_runs_hold_every_lane_of_an_axis_once(axes: list[list[int]], lanes: list[int]) -> None:
    of_label = np.array(lanes)
    runs = runs_of([np.array(axis, np.int64) for axis in axes], of_label)
    found: list[list[int]] = [[] for _ in axes]
    for axis, first, end in zip(*(each.tolist() for each in runs), strict=True):
        found[axis].extend(range(first, end))
    assert found == [sorted({lanes[label] for label in axis}) for axis in axes]
    assert runs.axis.tolist() == sorted(runs.axis.tolist())


def test_labels_of_several_dimensions_are_one_axis() -> None:
    runs = runs_of([np.array([[0, 1], [2, 3]])], np.array([4, 4, 5, 0]))
    assert [each.tolist() for each in runs] == [[0, 0], [0, 4], [1, 6]]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(AXES, st.data())
def test_families_are_what_the_same_axes_make_for_the_same_reason(
    axes: list[list[int]], data: st.DataObject
) -> None:
    count = 12
    producing = data.draw(st.lists(st.booleans(), min_size=len(axes), max_size=len(axes)))
    reason = data.draw(st.lists(st.integers(-1, 1), min_size=count, max_size=count))
    runs = runs_of([np.array(axis, np.int64) for axis in axes], np.arange(count))
    of_lane = families(runs, np.array(producing, bool), np.array(reason), 2)
    kinds: dict[object, int] = {}
    wanted = []
    for lane in range(count):
        makers = frozenset(i for i, axis in enumerate(axes) if lane in axis and producing[i])
        wanted.append(kinds.setdefault((makers, reason[lane]), len(kinds)) if makers else -1)
    assert of_lane.tolist() == wanted
    groups = members(of_lane)
    assert [group.tolist() for group in groups] == [
        [lane for lane in range(count) if wanted[lane] == family] for family in range(len(kinds))
    ]
    assert meetings(runs, of_lane, len(groups)) == sorted(
        {(i, wanted[lane]) for i, axis in enumerate(axes) for lane in axis if wanted[lane] >= 0}
    )

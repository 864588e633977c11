"""The chain of nodes from a dimension to what froze it."""

from __future__ import annotations

import numpy as np

from onnx_oto.zigs.analysis import Analysis, Dimension


def why(analysis: Analysis, dimension: Dimension) -> list[str]:
    """Return the names of the nodes through which a frozen dimension is tied to the place that froze it.

    The shortest chain, from the dimension's largest parameter on; empty when the place is its own.
    """
    if dimension.prunable:
        return []
    trace, of_label = analysis.trace, analysis.lanes.of_label
    lane = int(dimension.lanes[0])
    name = dimension.name.split("#")[0]
    starts = [
        int(label)
        for axis in analysis.produced.get(name, ())
        if (labels := trace.labels_of(name, axis)) is not None
        for label in labels.reshape(-1)[of_label[labels.reshape(-1)] == lane]
    ]
    return analysis.ties.chain(lane, starts, _frozen_labels(analysis, lane))


def reason(analysis: Analysis, dimension: Dimension) -> str:
    """Return why a dimension is frozen, with the operators that tie it to the place where the reason holds."""
    chain = why(analysis, dimension)
    if not chain:
        return dimension.reason
    return f"{dimension.reason} (tied to it by {analysis.ties.told(chain)})"


def _frozen_labels(analysis: Analysis, lane: int) -> set[int]:
    """Return the labels of a lane that were frozen for the reason that the lane has."""
    index = int(analysis.lanes.reason[lane])
    told = analysis.lanes.reasons[index] if index >= 0 else ""
    lanes, labels, entries = analysis.frozen_by_lane
    begin, end = np.searchsorted(lanes, [lane, lane + 1])
    frozen = analysis.trace.frozen
    return {int(labels[i]) for i in range(begin, end) if frozen[entries[i]].reason == told}

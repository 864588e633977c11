"""The chain of nodes from a dimension to what froze it."""

from __future__ import annotations

from collections import deque

import numpy as np

from onnx_oto.zigs.analysis import Analysis, Dimension, uses


def why(analysis: Analysis, dimension: Dimension) -> list[str]:
    """Return the names of the nodes through which a frozen dimension is tied to the place that froze it.

    The shortest chain, from the dimension's largest parameter on; empty when the place is its own.
    """
    if dimension.prunable:
        return []
    trace, of_label = analysis.trace, analysis.lanes.of_label
    lane = int(dimension.lanes[0])
    frozen = {int(label) for entry in trace.frozen for label in entry.labels[of_label[entry.labels] == lane]}
    links = _links(analysis, lane)
    starts = [
        int(label)
        for use, labels in uses(trace)
        if use.param == dimension.name.split("#")[0] and use.role == "producer"
        for label in labels.reshape(-1)[of_label[labels.reshape(-1)] == lane]
    ]
    before: dict[int, tuple[int, str] | None] = dict.fromkeys(starts)
    queue = deque(starts)
    while queue:
        label = queue.popleft()
        if label in frozen:
            return _walk_back(before, label)
        for neighbour, node in links.get(label, ()):
            if neighbour not in before:
                before[neighbour] = (label, node)
                queue.append(neighbour)
    return []


def _links(analysis: Analysis, lane: int) -> dict[int, list[tuple[int, str]]]:
    """Return, for every label of the lane, the labels it is tied to and by which node."""
    of_label = analysis.lanes.of_label
    links: dict[int, list[tuple[int, str]]] = {}
    for (left, right), node in zip(analysis.trace.ties, analysis.trace.tied_by, strict=True):
        for i in np.flatnonzero(of_label[left] == lane):
            a, b = int(left[i]), int(right[i])
            links.setdefault(a, []).append((b, node))
            links.setdefault(b, []).append((a, node))
    return links


def _walk_back(before: dict[int, tuple[int, str] | None], label: int) -> list[str]:
    chain: list[str] = []
    step = before[label]
    while step is not None:
        label, node = step
        if node and (not chain or chain[-1] != node):
            chain.append(node)
        step = before[label]
    return chain[::-1]

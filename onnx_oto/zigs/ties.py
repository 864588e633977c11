"""Which operators tie labels into one lane: the shortest way between two places of a lane."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import cached_property

import numpy as np

from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.trace import Trace, describe
from onnx_oto.model.graph.node import Node


class Ties:
    """All ties of a trace, found by lane. of_label: int64 [labels], the lane of every label."""

    def __init__(self, trace: Trace, of_label: IntArray) -> None:
        self._trace = trace
        self._of_label = of_label

    @cached_property
    def _by_lane(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Return lane, left and right label, and number of every pair, in the order of lanes: int64 [pairs] each."""
        ties = self._trace.ties
        empty = np.zeros(0, np.int64)
        left = np.concatenate([empty, *(left for left, _ in ties)])
        right = np.concatenate([empty, *(right for _, right in ties)])
        number = np.repeat(np.arange(len(ties)), [left.size for left, _ in ties])
        lanes = self._of_label[left]
        order = np.argsort(lanes, kind="stable")
        return lanes[order], left[order], right[order], number[order]

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return {node.name: node for node in self._trace.graph.nodes}

    def chain(self, lane: int, starts: Iterable[int], goals: Iterable[int]) -> list[str]:
        """Return the names of the nodes that tie one of the labels `starts` of a lane to one of `goals`, in order.

        The shortest chain; empty when a label is in both, or no node did it.
        """
        wanted = set(goals)
        links = self._links(lane)
        before: dict[int, tuple[int, str] | None] = dict.fromkeys(starts)
        queue = deque(before)
        while queue:
            label = queue.popleft()
            if label in wanted:
                return _walk_back(before, label)
            for neighbour, node in links.get(label, ()):
                if neighbour not in before:
                    before[neighbour] = (label, node)
                    queue.append(neighbour)
        return []

    def told(self, chain: Iterable[str], most: int = 3) -> str:
        """Return nodes as they are named to a person, the first and the last of many."""
        names = [describe(self._nodes[n]) if n in self._nodes else f"'{n}'" for n in dict.fromkeys(chain)]
        if len(names) > most:
            return f"{', '.join(names[: most - 1])}, ... and {names[-1]}"
        return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))

    def _links(self, lane: int) -> dict[int, list[tuple[int, str]]]:
        """Return, for every label of the lane, the labels it is tied to and by which node."""
        lanes, left, right, number = self._by_lane
        begin, end = np.searchsorted(lanes, [lane, lane + 1])
        links: dict[int, list[tuple[int, str]]] = {}
        for i in range(begin, end):
            a, b, node = int(left[i]), int(right[i]), self._trace.tied_by[number[i]]
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

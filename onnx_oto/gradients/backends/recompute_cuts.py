"""The way forth of a gradient graph, and where it is cut so that least is kept for the way back (see `recompute`)."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_oto.model.graph.order import BODIES
from onnx_oto.model.shapes.reference import NOT_REPEATABLE
from onnx_oto.runtime.joining import CONVOLVE, NORMALISE, OPERATOR, POOL

Shapes = Mapping[str, tuple[int, ...]]

_WORTH = 0.8
"""Share of the bytes that are kept without it, above which it is not worth it."""
_BOUNDS = 24
"""Sizes of parts that are tried."""


class Way:
    """The nodes of both ways, forth and back, in order, and how long what is made on the way forth is read."""

    def __init__(self, graph: onnx.GraphProto, shapes: Shapes, forth: Collection[str]) -> None:
        self.shapes = shapes
        self.nodes, self.count = _ordered(graph, forth)
        self.made_at = {name: at for at, node in enumerate(self.nodes) for name in node.output if name}
        self.readers: dict[str, list[int]] = {}
        for at, node in enumerate(self.nodes):
            for name in node.input:
                self.readers.setdefault(name, []).append(at)
        self.last: dict[str, int] = {}
        self.saved: list[str] = []
        for name, at in self.made_at.items():
            if at < self.count:
                reads = self.readers.get(name, ())
                self.last[name] = max((read for read in reads if read < self.count), default=at)
                if any(read >= self.count for read in reads):
                    self.saved.append(name)

    def bytes_of(self, name: str) -> int:
        """Return the bytes of a tensor; 0 where that is unknown."""
        return 4 * math.prod(self.shapes.get(name, (0,)))

    def can_repeat(self, name: str) -> bool:
        """Return whether what a tensor is made by can be run once more and makes the same."""
        node = self.nodes[self.made_at[name]]
        if node.op_type in (OPERATOR, "BatchNormInternal"):
            pure = function_of(node) in (CONVOLVE, POOL)
            return pure or (is_norm(node) and name == node.output[0] and all(node.output))
        settings = {each.name: each for each in node.attribute}
        trains = "training_mode" in settings and settings["training_mode"].i
        return not (
            trains or node.op_type in NOT_REPEATABLE or any(each.type in BODIES for each in node.attribute)
        )

    def alive(self, cut: int) -> set[str]:
        """Return what is made up to a cut, the place of the node in front of it, and read behind it."""
        return {name for name, last in self.last.items() if self.made_at[name] <= cut < last}

    def cuts(self) -> tuple[int, ...]:
        """Return the cuts that leave least to keep at once, none where that is not worth it."""
        saved, alive = np.zeros(self.count, np.int64), np.zeros(self.count + 1, np.int64)
        for name in self.saved:
            if self.can_repeat(name):
                saved[self.made_at[name]] += self.bytes_of(name)
        for name, last in self.last.items():
            alive[self.made_at[name]] += self.bytes_of(name)
            alive[last] -= self.bytes_of(name)
        sums, alive = np.concatenate([[0], saved.cumsum()]), alive.cumsum()
        total = int(sums[-1])
        tried = [_parts(sums, alive, total / 2 ** (1 + bound / 4)) for bound in range(_BOUNDS)]
        kept = [self._kept(cuts, sums) for cuts in tried]
        best = int(np.argmin(kept))
        return tried[best] if kept[best] < _WORTH * total else ()

    def _kept(self, cuts: Sequence[int], sums: NDArray[np.int64]) -> int:
        """Return the bytes of what cuts keep, with the largest part."""
        names = {name for cut in cuts for name in self.alive(cut)}
        parts = pairwise([0, *(cut + 1 for cut in cuts), len(sums) - 1])
        return sum(map(self.bytes_of, names)) + max(int(sums[stop] - sums[start]) for start, stop in parts)


def _ordered(graph: onnx.GraphProto, forth: Collection[str]) -> tuple[list[onnx.NodeProto], int]:
    """Return the nodes of a graph, first those that lead to some tensors, and how many these are.

    The others are in an order that goes back: of those that are ready, first who reads what was made last.
    """
    nodes = list(graph.node)
    made_by = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    ahead, found = [made_by[name] for name in forth if name in made_by], set()
    while ahead:
        at = ahead.pop()
        if at not in found:
            found.add(at)
            ahead += [made_by[name] for name in nodes[at].input if name in made_by]
    place = {at: number for number, at in enumerate(sorted(found))}
    waits: dict[int, set[int]] = {}
    wakes: dict[int, list[int]] = {}
    ready: list[tuple[int, int]] = []

    def latest(at: int) -> tuple[int, int]:
        read = [place[made_by[name]] for name in nodes[at].input if made_by.get(name) in place]
        return -max(read, default=len(nodes)), at

    for at, node in enumerate(nodes):
        if at not in place:
            waits[at] = {made_by[n] for n in node.input if n in made_by and made_by[n] not in place}
            for other in waits[at]:
                wakes.setdefault(other, []).append(at)
            if not waits[at]:
                heapq.heappush(ready, latest(at))
    order = list(place)
    while ready:
        _, at = heapq.heappop(ready)
        order.append(at)
        for other in wakes.get(at, ()):
            waits[other].discard(at)
            if not waits[other]:
                heapq.heappush(ready, latest(other))
    return [nodes[at] for at in order], len(place)


def _parts(sums: NDArray[np.int64], alive: NDArray[np.int64], bound: float) -> tuple[int, ...]:
    """Return cuts that leave parts of half of so many bytes up to all of it, each where least is alive.

    sums: bytes in front of each node. alive: bytes behind each.
    """
    cuts: list[int] = []
    begin = 0
    while sums[-1] - sums[begin] > bound:
        first = max(int(np.searchsorted(sums, sums[begin] + bound / 2)), begin + 1)
        stop = max(int(np.searchsorted(sums, sums[begin] + bound, side="right")), first + 1)
        begin = first + int(np.argmin(alive[first - 1 : stop - 1]))
        cuts.append(begin - 1)
    return tuple(cuts)


def function_of(node: onnx.NodeProto) -> str:
    """Return the function that a node calls, by its `overload_name`."""
    if node.op_type != OPERATOR:
        return ""
    return next((each.s.decode() for each in node.attribute if each.name == "overload_name"), "")


def is_norm(node: onnx.NodeProto) -> bool:
    return node.op_type == "BatchNormInternal" or function_of(node) == NORMALISE

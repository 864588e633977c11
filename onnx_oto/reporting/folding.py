"""A graph in at most so many boxes.

What has no parameters and makes no products joins the box that alone feeds it. Where that leaves too many, blocks that
stand one behind another and are alike (same operators, same sizes; then same operators) are told once, with how often
they stand there. Where even that leaves too many, neighbours in the order of the graph are told together. Each of these
leaves a graph without cycles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from onnx_oto.model import Graph, Node

MOST_BOXES = 200
MOST_PERIOD = 512
"""Boxes that a block has at most which is looked for."""
Edge = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """Nodes drawn as one. times: how often it stands in the graph; copies: the nodes of the further ones."""

    nodes: tuple[Node, ...]
    times: int = 1
    copies: tuple[Node, ...] = ()

    @property
    def every(self) -> tuple[Node, ...]:
        """Its own nodes and those of its copies."""
        return (*self.nodes, *self.copies)


@dataclass(frozen=True)
class Block:
    """Boxes from `begin` to before `end` that stand for as many, `times` one behind another."""

    begin: int
    end: int
    times: int


@dataclass(frozen=True)
class Folded:
    """Boxes in the order of the graph. edges: from a box to a later one, each once. blocks: see `Block`."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    blocks: tuple[Block, ...] = ()


def fold(graph: Graph, is_layer: Callable[[Node], bool], most: int = MOST_BOXES) -> Folded:
    """Return the boxes of a graph, at most `most` of them. is_layer: whether a node has a box of its own."""
    boxes, edges = _joined(graph, is_layer)
    chain = _Chain([Box(tuple(each)) for each in boxes], edges)
    for alike in (_by_sizes, _by_operators):
        if len(chain.boxes) > most:
            chain.fold(partial(alike, graph), most)
    if len(chain.boxes) > most:
        chain = chain.told_together(most)
    return Folded(tuple(chain.boxes), tuple(sorted(chain.edges)), tuple(chain.blocks))


def _joined(graph: Graph, is_layer: Callable[[Node], bool]) -> tuple[list[list[Node]], set[Edge]]:
    """Return groups of nodes, each led by a layer or by what several groups feed, and the edges between them."""
    boxes: list[list[Node]] = []
    of_node: dict[Node, int] = {}
    edges: set[Edge] = set()
    for node in graph.nodes:
        before = {
            of_node[made]
            for name in (*node.inputs, *node.captured)
            if (made := graph.producer.get(name)) is not None and made in of_node
        }
        if len(before) == 1 and not is_layer(node):
            (number,) = before
        else:
            number = len(boxes)
            boxes.append([])
            edges.update((other, number) for other in before)
        boxes[number].append(node)
        of_node[node] = number
    return boxes, edges


def _by_sizes(graph: Graph, box: Box) -> Hashable:
    """Return what boxes that compute the same on the same sizes have in common."""
    return tuple(
        (node.op, tuple(tuple(graph.initializers[n].dims) for n in node.inputs if n in graph.initializers))
        for node in box.nodes
    )


def _by_operators(graph: Graph, box: Box) -> Hashable:
    return tuple(node.op for node in box.nodes)


@dataclass
class _Chain:
    """Boxes in order, whose alike blocks become one."""

    boxes: list[Box]
    edges: set[Edge]
    blocks: list[Block] = field(default_factory=list)

    def fold(self, alike: Callable[[Box], Hashable], most: int) -> None:
        """Make one of blocks that are alike, those first that save most, until few are left or none is alike."""
        while len(self.boxes) > most:
            numbers: dict[Hashable, int] = {}
            signs = np.array(
                [numbers.setdefault((alike(box), box.times), len(numbers)) for box in self.boxes], np.int64
            )
            found = _most_saving(signs)
            if found is None or not self._make_one(*found):
                return

    def _make_one(self, begin: int, period: int, times: int) -> bool:
        """Let the boxes from `begin` on stand for `times` blocks of `period` of them each."""
        end = begin + period * times

        def place(number: int) -> int:
            if number < begin:
                return number
            return begin + (number - begin) % period if number < end else number - period * (times - 1)

        def turn(number: int) -> int:
            return (number - begin) // period if begin <= number < end else -1

        for block in self.blocks:
            is_around = block.begin <= begin and end <= block.end
            is_inside = begin <= block.begin < end and turn(block.begin) == turn(block.end - 1)
            if block.begin < end and begin < block.end and not (is_around or is_inside):
                return False  # half of a block that was told already
        self.edges = {
            (place(a), place(b))
            for a, b in self.edges
            if turn(a) == turn(b)
            or -1 in (turn(a), turn(b))  # what leads to the next block goes without saying
        }
        kept = []
        for offset in range(period):
            first, *others = (self.boxes[begin + offset + period * k] for k in range(times))
            copies = (*first.copies, *(node for other in others for node in other.every))
            kept.append(replace(first, times=first.times * times, copies=copies))
        self.boxes[begin:end] = kept
        found: dict[Edge, int] = {}
        for each in self.blocks:
            found[place(each.begin), place(each.end - 1) + 1] = each.times
        own = (begin, begin + period)
        found[own] = found.get(own, 1) * times
        self.blocks = sorted(
            (Block(*span, often) for span, often in found.items()), key=lambda each: (each.begin, -each.end)
        )
        return True

    def told_together(self, most: int) -> _Chain:
        """Return the same with neighbours as one box, evenly, so that `most` are left."""
        of = [number * most // len(self.boxes) for number in range(len(self.boxes))]
        groups: list[list[Box]] = [[] for _ in range(most)]
        for number, box in zip(of, self.boxes, strict=True):
            groups[number].append(box)
        boxes = [
            Box(
                tuple(node for box in group for node in box.nodes),
                1,
                tuple(node for box in group for node in box.copies),
            )
            for group in groups
        ]
        return _Chain(boxes, {(of[a], of[b]) for a, b in self.edges if of[a] != of[b]})


def _most_saving(signs: npt.NDArray[np.int64]) -> tuple[int, int, int] | None:
    """Return (begin, period, times) of the row of like blocks that saves most boxes, None where there is none."""
    best: tuple[int, int, int] | None = None
    saved = 0
    for period in range(1, min(len(signs) // 2, MOST_PERIOD) + 1):
        for begin, length in _runs(signs[:-period] == signs[period:]):
            times = length // period + 1
            if times > 1 and (times - 1) * period > saved:
                saved, best = (times - 1) * period, (begin, period, times)
    return best


def _runs(same: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield where rows of True begin, and how long they are."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(np.int8), [0]])))
    yield from ((int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True))


def operators(nodes: Sequence[Node]) -> dict[str, int]:
    """Return how often every operator is among nodes, the first one that comes first."""
    return dict(Counter(node.op for node in nodes))

"""What every layer and every dimension had before, and has after: read from the two models, not computed anew."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from onnx_oto.lanes.trace import Role
from onnx_oto.model import Node
from onnx_oto.zigs import Analysis, Dimension, reason
from onnx_oto.zigs.cost import symbol_sizes

ADDED = "added by the cut"
"""What stands in the place of an operator where nodes of the compact model are none of the full one."""
SINGLE = "single numbers"
"""The same for nodes that read nothing but single numbers (bounds of a Clip), which are told together."""


@dataclass(frozen=True)
class Figure:
    """Something counted in the full model and in the compact one; None where that is not known."""

    before: int | None
    after: int | None

    @property
    def kept(self) -> float | None:
        """The share that is left, None where it is not known, or there was nothing."""
        return None if not self.before or self.after is None else self.after / self.before


@dataclass(frozen=True)
class Layer:
    """A node that has parameters or multiplies. channels: that it makes. ms: that it took in the full model.

    frozen: why channels of it stay, a sentence for each dimension. dimension: the name of that of its channels.
    """

    name: str
    op: str
    channels: Figure
    params: Figure
    macs: Figure
    ms: float | None = None
    dimension: str | None = None
    frozen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bar:
    """A dimension: how many lanes it had and has, why it is frozen where it is, and the layers that make its lanes."""

    name: str
    lanes: Figure
    frozen: str | None
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Looked:
    """Two models, analysed. sizes: the open ones that MACs are counted at. compact: None where there is none yet."""

    full: Analysis
    compact: Analysis | None
    sizes: Mapping[str, int]

    def macs(self, analysis: Analysis) -> dict[str, int]:
        """Return multiply-accumulates by the name of the node."""
        return analysis.macs_of_nodes(symbol_sizes(analysis, self.sizes))


def layers(looked: Looked, times: Mapping[str, float]) -> tuple[Layer, ...]:
    """Return the layers of the full model in the order of the graph; what the cut added to the compact one is the last.

    A parameter that several nodes read counts for the first. times: milliseconds by the name of the node.
    """
    full, small = looked.full, looked.compact
    params = {"full": _parameters(full), "small": {} if small is None else _parameters(small)}
    macs = {"full": looked.macs(full), "small": {} if small is None else looked.macs(small)}
    made = _dimensions_made(full)

    def figure(of: Mapping[str, Mapping[str, int]], name: str) -> Figure:
        return Figure(of["full"].get(name, 0), None if small is None else of["small"].get(name, 0))

    found, small_ones = [], []
    for node in full.graph.nodes:
        if not params["full"].get(node.name) and not macs["full"].get(node.name):
            continue
        if node.name not in macs["full"] and _reads_single_numbers(full, node):
            small_ones.append(node.name)
            continue
        dimensions = made.get(node.name, [])
        largest = max(dimensions, key=lambda d: d.size, default=None)
        found.append(
            Layer(
                node.name,
                node.op,
                _channels(looked, node),
                figure(params, node.name),
                figure(macs, node.name),
                times.get(node.name),
                None if largest is None else largest.name,
                tuple(dict.fromkeys(reason(full, d) for d in dimensions if not d.prunable)),
            )
        )
    if small_ones:
        every = [figure(params, name) for name in small_ones]
        counted = Figure(
            sum(each.before or 0 for each in every),
            None if small is None else sum(each.after or 0 for each in every),
        )
        nothing = Figure(0, None if small is None else 0)
        found.append(Layer(f"{len(small_ones)} nodes", SINGLE, Figure(None, None), counted, nothing))
    return (*found, *_added(full, small, params["small"], macs["small"]))


def _reads_single_numbers(analysis: Analysis, node: Node) -> bool:
    known = analysis.graph.initializers
    return all(math.prod(known[name].dims) == 1 for name in (*node.inputs, *node.captured) if name in known)


def _added(
    full: Analysis, small: Analysis | None, params: Mapping[str, int], macs: Mapping[str, int]
) -> Iterable[Layer]:
    """Yield what nodes of the compact model have that the full one has not."""
    known = {node.name for node in full.graph.nodes}
    extra = [node.name for node in (small.graph.nodes if small is not None else ()) if node.name not in known]
    counted = [sum(of.get(name, 0) for name in extra) for of in (params, macs)]
    if any(counted):
        yield Layer(
            f"{len(extra)} nodes", ADDED, Figure(None, None), Figure(0, counted[0]), Figure(0, counted[1])
        )


def _parameters(analysis: Analysis) -> dict[str, int]:
    """Return how many elements of parameters every node reads that no node before it has read."""
    graph = analysis.graph
    left = set(analysis.counted_parameters)
    found: dict[str, int] = {}
    for node in graph.nodes:
        for name in (*node.inputs, *node.captured):
            if name in left:
                left.discard(name)
                found[node.name] = found.get(node.name, 0) + math.prod(graph.initializers[name].dims)
    return found


def _dimensions_made(analysis: Analysis) -> dict[str, list[Dimension]]:
    """Return the dimensions whose lanes a node's own parameters make, by the name of the node."""
    found: dict[str, dict[Dimension, None]] = {}
    for dimension in analysis.dimensions:
        for use in dimension.uses:
            if use.role != Role.PRODUCER.value:
                continue
            for node, _ in analysis.graph.consumers.get(use.param, ()):
                found.setdefault(node.name, {})[dimension] = None
    return {name: list(own) for name, own in found.items()}


def _channels(looked: Looked, node: Node) -> Figure:
    """Return the length of the axis of a node's weight that makes channels, where there is one."""
    full, small = looked.full, looked.compact
    for name in node.inputs:
        axes = full.produced.get(name)
        if not axes or name not in full.graph.initializers:
            continue
        before = _length(full, name, axes)
        return Figure(before, None if small is None else _length(small, name, axes))
    return Figure(None, None)


def _length(analysis: Analysis, name: str, axes: Sequence[int]) -> int | None:
    tensor = analysis.graph.initializers.get(name)
    if tensor is None or any(axis >= len(tensor.dims) for axis in axes):
        return None
    return int(math.prod(tensor.dims[axis] for axis in axes))


def bars(looked: Looked, stored: Sequence[Mapping[str, object]] = ()) -> tuple[Bar, ...]:
    """Return the dimensions of the full model, those with most lanes first.

    stored: what the cut wrote of them, by name. Without, an axis tells that belongs to one dimension alone; what no
    axis tells stays unknown.
    """
    known = {each.get("name"): each.get("after") for each in stored}
    sharing = Counter((use.param, use.axis) for dimension in looked.full.dimensions for use in dimension.uses)
    found = []
    for dimension in looked.full.dimensions:
        after = known.get(dimension.name)
        if not isinstance(after, int):
            after = _left(looked, dimension, sharing)
        nodes = dict.fromkeys(
            node.name
            for use in dimension.uses
            if use.role == Role.PRODUCER.value
            for node, _ in looked.full.graph.consumers.get(use.param, ())
        )
        found.append(
            Bar(
                dimension.name,
                Figure(dimension.size, after),
                None if dimension.prunable else reason(looked.full, dimension),
                tuple(nodes),
            )
        )
    return tuple(sorted(found, key=lambda bar: (bar.frozen is not None, -(bar.lanes.before or 0))))


def _left(looked: Looked, dimension: Dimension, sharing: Mapping[tuple[str, int], int]) -> int | None:
    """Return how many lanes of a dimension the compact model has, by the lengths of its axes."""
    if looked.compact is None:
        return None
    if not dimension.prunable:
        return dimension.size
    small = looked.compact.graph.initializers
    for use in dimension.uses:
        one, other = looked.full.graph.initializers[use.param], small.get(use.param)
        if sharing[use.param, use.axis] > 1 or other is None or use.axis >= len(other.dims):
            continue
        if use.param in looked.full.trace.grouped and use.axis == 1:
            continue  # as many of every group stay, whatever of them
        length = one.dims[use.axis]
        if length and length % dimension.size == 0:
            return int(other.dims[use.axis] * dimension.size // length)
    return None


def times_of(table: Mapping[str, object], macs: Mapping[str, int]) -> dict[str, float]:
    """Return milliseconds by the name of the node, of a latency table as `bench` writes it.

    An event that ran several nodes counts for that with most multiply-accumulates, the first of equals.
    """
    found: dict[str, float] = {}
    operators = table.get("operators")
    for row in operators if isinstance(operators, list) else ():
        nodes, ms = row.get("nodes"), row.get("ms")
        if nodes and ms:
            best = max(nodes, key=lambda name: macs.get(name, 0))
            found[best] = found.get(best, 0.0) + float(ms[0])
    return found

"""The order of channels: a permutation between two layers becomes an order of their parameters.

A Gather that only puts the positions of an axis into another order (a channel shuffle after the cut) is needless where
the layers around it do not care for an order. Lanes say where a channel is: the graph is labelled once more, with
labels of their own behind every permutation. Then the channels on one side may change places if every axis that one of
them lies on has all of them (so that each axis is only put into another order), and no operator tells them apart.
What changes is the order of parameter axes; the permutation becomes an Identity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from onnx import ModelProto

from onnx_oto.lanes.components import components
from onnx_oto.lanes.constraints import Frozen, Reordering
from onnx_oto.lanes.layout import IntArray, explicit, free, relabel_axis
from onnx_oto.lanes.trace import Trace, describe, unknown
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.order import drop_dead, nodes_inside
from onnx_oto.model.graph.tensors import FLOATS, from_array, to_array
from onnx_oto.model.view import Graph, graph
from onnx_oto.ops.index import single
from onnx_oto.ops.rules import ORDERLESS, apply, key
from onnx_oto.zigs.analysis import Analysis

MOST = 200
"""How many permutations are folded: each is compared with every other one. ShuffleNet has 16."""
BOOL = 9
"""The TensorProto data type of truth values."""


@dataclass(frozen=True, eq=False)
class Permutation:
    """A node whose result is tensor `source` with result[i] = source[index[i]] along `axis`, index int64 [n]."""

    node: Node
    source: str
    axis: int
    index: IntArray


@dataclass(frozen=True)
class Folding:
    """What is to be done about the permutations of a graph.

    orders: by parameter and axis, the position that comes to every place, int64 [n]. folded: the nodes that are
    needless then. index: what others gather now. stays: by node, why it cannot be folded.
    """

    orders: dict[str, dict[int, IntArray]] = field(default_factory=dict)
    folded: list[str] = field(default_factory=list)
    index: dict[str, IntArray] = field(default_factory=dict)
    stays: dict[str, str] = field(default_factory=dict)


def fold(model: ModelProto) -> Mapping[str, Mapping[int, IntArray]]:
    """Fold the permutations of a model in normal form into its parameters, in place; return their new orders.

    The function stays the same but for the order of sums. orders: by parameter and axis, the position (before) that
    comes to every place, int64 [n].
    """
    if not _may_permute(model):
        return {}
    view = graph(model, laid_out=True)
    found = permutations(view)
    result = plan(view, view.nodes, found)
    for tensor in model.graph.initializer:
        if tensor.name in result.orders:
            value = to_array(tensor)
            for axis, order in result.orders[tensor.name].items():
                value = value.take(order, axis=axis)
            tensor.CopyFrom(from_array(value, tensor.name))
    names = {*view.shapes, *view.initializers}
    for node in nodes_inside(model.graph.node):
        if node.name in result.folded:
            node.op_type = "Identity"
            del node.input[1:]
            del node.attribute[:]
        elif node.name in result.index:
            name = f"{node.name}/compact_order"
            while name in names:
                name += "_"
            names.add(name)
            value = result.index[node.name]
            model.graph.initializer.append(from_array(value, name))
            node.input[1] = name
    drop_dead(model.graph)
    return result.orders


def _may_permute(model: ModelProto) -> bool:
    """Return whether some Gather has a permutation for indices: the analysis is only worth its time then."""
    tensors = {t.name: t for t in model.graph.initializer}
    for node in nodes_inside(model.graph.node):
        indices = tensors.get(node.input[1]) if node.op_type == "Gather" and len(node.input) == 2 else None
        if indices is not None and _permutes(to_array(indices)):
            return True
    return False


def _permutes(index: np.ndarray) -> bool:
    """Return whether an array of indices holds each of 0 .. n - 1 once, n > 1, in another order."""
    return index.ndim == 1 and index.size > 1 and _is_permutation(index)


def _is_permutation(index: np.ndarray) -> bool:
    places = np.arange(index.size)
    wrapped = np.where(index < 0, index + index.size, index)
    return np.array_equal(np.sort(wrapped), places) and not np.array_equal(wrapped, places)


def permutations(view: Graph) -> dict[str, Permutation]:
    """Return the Gathers that put a whole axis into another order, by node."""
    found = {}
    for node in view.nodes:
        shape = view.shapes.get(node.input(0))
        indices = view.constant(node.input(1)) if key(node) == "Gather" else None
        if not shape or indices is None or not _permutes(indices):
            continue
        axis = int(node.attrs.get("axis", 0)) % len(shape)
        if shape[axis] == indices.size:
            index = indices.astype(np.int64) % indices.size
            found[node.name] = Permutation(node, node.inputs[0], axis, index)
    return found


def plan(view: Graph, nodes: Sequence[Node], found: Mapping[str, Permutation]) -> Folding:
    """Return which permutations can be folded, and how. nodes: those of the graph, in topological order."""
    result = Folding()
    if not found:
        return result
    order = _Order(view, nodes, found)
    for number, name in enumerate(found):
        reason = (
            order.remove(name)
            if number < MOST
            else f"only the first {MOST} permutations of a model are folded"
        )
        if reason:
            result.stays[name] = reason
    for name in [name for name in result.stays if _is_identity(order.index[name])]:
        del result.stays[name]
    result.orders.update(order.orders)
    result.folded.extend(name for name in found if name not in result.stays)
    changed = [name for name in result.stays if not np.array_equal(order.index[name], found[name].index)]
    result.index.update({name: order.index[name] for name in changed})
    return result


def _is_identity(index: IntArray) -> bool:
    return np.array_equal(index, np.arange(index.size))


class _Order:
    """A graph whose permutations are loose: the labels in front of one and behind it are not tied.

    index: what each permutation gathers now; orders: see `Folding`.
    """

    def __init__(self, view: Graph, nodes: Sequence[Node], found: Mapping[str, Permutation]) -> None:
        self.index = {name: each.index for name, each in found.items()}
        self.orders: dict[str, dict[int, IntArray]] = {}
        self._trace = Trace(view)
        self._ends: dict[str, tuple[IntArray, IntArray]] = {}
        self._apart: list[Frozen] = []
        for node in nodes:
            if node.name in found:
                self._ends[node.name] = _loosen(self._trace, found[node.name])
            else:
                apply(node, self._trace)
                self._apart.extend(_told_apart(node, self._trace))
        self._apart.extend(_fixed(self._trace))
        self._solve()

    def remove(self, name: str) -> str:
        """Put the channels behind a permutation, or in front of it, into its order; return why not, "" if done."""
        index = self.index[name]
        before, behind = self._ends[name]
        backwards = np.argsort(index)
        first = self._try(name, behind, behind[backwards])
        if not first:
            return ""
        second = self._try(name, before, before[index])
        return first if first == second else second and f"behind it, {first}; in front of it, {second}"

    def _try(self, name: str, places: IntArray, comes: IntArray) -> str:
        """Let channel comes[i] stand where places[i] stood, everywhere, if that can be; return why not."""
        if (places < 0).any():
            return "no parameter of the model orders the channels"
        lanes = self._of_label[places]
        if np.unique(lanes).size < lanes.size:
            return "channels are tied to each other"
        to = np.arange(self._reason.size)
        to[lanes] = self._of_label[comes]
        reason = self._refuses(to) or self._misses(name, to)
        if not reason:
            self._move(name, to)
        return reason

    def _refuses(self, to: IntArray) -> str:
        """Return why the lanes cannot change places, lane to[c] coming to where lane c stands: "" if they can."""
        moved = to != np.arange(to.size)
        fixed = moved & (self._reason >= 0)
        if fixed.any():
            return self._apart[int(self._reason[fixed].min())].reason
        for name, labels in self._blocks:
            lanes = self._of_label[labels]
            if not moved[lanes].any():
                continue
            if labels.ndim > 1:
                return f"the axis is divided in '{name}'"
            if np.unique(lanes).size < lanes.size:
                return f"channels occur several times in '{name}'"
            if _order_of(lanes, to) is None:
                return f"'{name}' has only some of the channels"
        for name, axes in self._trace.parameters.items():
            if any(_order_of(self._of_label[labels], to) is None for labels in axes.values()):
                return f"'{name}' has only some of the channels"
        return ""

    def _misses(self, name: str, to: IntArray) -> str:
        """Return why the permutation would not be needless after all: its two sides are tied elsewhere, too."""
        same = _is_identity(self._moved_index(name, to))
        return "" if same else "the channels in front of it and behind it are tied to each other"

    def _moved_index(self, name: str, to: IntArray) -> IntArray:
        """Return what a permutation gathers when both sides have changed places: place i holds what order[i] held."""
        before, behind = (self._axis_order(labels, to) for labels in self._ends[name])
        return np.argsort(before)[self.index[name][behind]]

    def _axis_order(self, labels: IntArray, to: IntArray) -> IntArray:
        order = None if (labels < 0).any() else _order_of(self._of_label[labels], to)
        return np.arange(labels.size) if order is None else order

    def _move(self, name: str, to: IntArray) -> None:
        """Record the new order of every parameter and permutation, and tie the two sides of this one."""
        for param, axes in self._trace.parameters.items():
            for axis, labels in axes.items():
                order = _order_of(self._of_label[labels], to)
                if order is not None and not _is_identity(order):
                    known = self.orders.setdefault(param, {}).get(axis, np.arange(order.size))
                    self.orders[param][axis] = known[order]
        moved = to != np.arange(to.size)
        for each, ends in self._ends.items():
            if any(moved[self._of_label[labels]].any() for labels in ends):
                self.index[each] = self._moved_index(each, to)
        before, behind = self._ends[name]
        if (before < 0).any():
            self._apart.append(Frozen(behind, "no parameter of the model orders the channels"))
        else:
            self._trace.tie(before, behind)
        self._solve()

    def _solve(self) -> None:
        """Find the lanes, and which of them never change places (index of the reason, -1: they may)."""
        trace = self._trace
        self._of_label = components(trace.count, trace.ties)
        self._reason = np.full(int(self._of_label.max(initial=-1)) + 1, -1, np.int64)
        for i, entry in enumerate(self._apart):
            lanes = self._of_label[entry.labels]
            self._reason[lanes[self._reason[lanes] < 0]] = i
        self._blocks = list(_blocks(trace))


def _order_of(lanes: IntArray, to: IntArray) -> IntArray | None:
    """Return which position comes to every place so that lanes[order] == to[lanes], None if there is no such order.

    A lane's positions (those of a channel in a flattened axis) stay in their order.
    """
    wanted = to[lanes]
    have, want = np.argsort(lanes, kind="stable"), np.argsort(wanted, kind="stable")
    if not np.array_equal(lanes[have], wanted[want]):
        return None
    order = np.empty_like(have)
    order[want] = have
    return order


def _blocks(trace: Trace) -> Iterator[tuple[str, IntArray]]:
    """Yield the labels of every tensor's blocks, each array once, parameters' but for those left out."""
    seen: set[int] = set()
    for name, layout in trace.layouts.items():
        if layout is None or name in trace.parameters:
            continue
        for block in layout.blocks:
            if id(block.labels) not in seen:
                seen.add(id(block.labels))
                yield name, block.labels


def _loosen(trace: Trace, it: Permutation) -> tuple[IntArray, IntArray]:
    """Put the result's layout with labels of its own on the axis; return the source's labels there, and those."""
    node = it.node
    trace.node = node.name
    layout = single(trace, node, trace.layout(it.source) or free(trace.shape(it.source)), it.axis)
    if any(len(block.keys) > 1 for block in layout.on_axis(it.axis)):
        layout = trace.release(layout, [it.axis], f"{describe(node)} permutes an axis that is divided")
    behind = trace.fresh(it.index.size)
    listed = explicit(layout, it.axis)
    before = np.full_like(behind, -1) if listed is None else listed[0]
    trace.put(node.outputs[0], relabel_axis(layout, it.axis, behind, unknown(behind.shape)))
    return before, behind


def _told_apart(node: Node, trace: Trace) -> Iterator[Frozen]:
    """Yield the labels that a node of unknown habits touches, or that lie where their order is given away."""
    reason = f"{describe(node)} may tell them apart"
    touched = [name for name in (*node.inputs, *node.captured, *node.outputs) if name]
    layouts = {name: layout for name in touched if (layout := trace.layout(name)) is not None}
    labelled = any(layouts[name].blocks for name in node.inputs if name in layouts)
    silent = any(name in layouts and not layouts[name].blocks for name in node.outputs[1:])
    orderly = key(node) in ORDERLESS and not (labelled and silent)
    for name, layout in layouts.items():
        if not orderly or trace.graph.dtypes.get(name) not in (*FLOATS, BOOL):
            yield from (Frozen(block.labels.reshape(-1), reason) for block in layout.blocks)


def _fixed(trace: Trace) -> Iterator[Frozen]:
    """Yield what a finished trace says of labels that never change places."""
    for name in trace.graph.outputs:
        layout = trace.layout(name)
        for block in layout.blocks if layout is not None else ():
            yield Frozen(block.labels.reshape(-1), f"they are part of the model's output '{name}'")
    yield from trace.apart
    for balanced in trace.balanced:
        yield Frozen(balanced.labels.reshape(-1), f"'{balanced.node}' has them in rows")
    yield from (entry for entry in trace.frozen if entry.apart)


@dataclass(frozen=True)
class Standing:
    """A permutation of `size` channels that stays a Gather at `node` in the compact graph, and why."""

    node: str
    axis: int
    size: int
    reason: str


def standing(analysis: Analysis) -> list[Standing]:
    """Return the permutations of channels that a cut of this model leaves as Gathers.

    They are those of the model, and its chains of views that lose channels in between (see `Trace.reorderings`):
    in the compact graph such a chain is a Gather.
    """
    view, trace = analysis.graph, analysis.trace
    found = permutations(view)
    nodes = []
    for node in view.nodes:
        chain = trace.reorderings.get(node.name)
        if chain is not None and _may_shrink(analysis, chain):
            op = "Identity" if chain.axis < 0 or _is_identity(chain.order) else "Gather"
            node = replace(node, op=op, inputs=(chain.root,), attrs={})
            if op == "Gather":
                found[node.name] = Permutation(node, chain.root, chain.axis, chain.order)
        nodes.append(node)
    stays = plan(view, _alive(nodes, view.outputs), found).stays
    return [
        Standing(name, found[name].axis, found[name].index.size, reason) for name, reason in stays.items()
    ]


def _may_shrink(analysis: Analysis, chain: Reordering) -> bool:
    """Return whether channels can be removed from the tensor that a chain of views starts from."""
    layout = analysis.trace.layout(chain.root)
    labels = [block.labels.reshape(-1) for block in layout.blocks] if layout is not None else []
    return any((~analysis.lanes.frozen[analysis.lanes.of_label[each]]).any() for each in labels)


def _alive(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    """Return the nodes that the outputs depend on."""
    needed, alive = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs, node.captured)
            alive.append(node)
    return alive[::-1]

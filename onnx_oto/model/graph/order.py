"""Order and scope of nodes: subgraph bodies, captured names, topological sort, structural errors.

All functions take protobuf messages; only `sort_nodes` changes one (it permutes the nodes in place, which
moves no weights).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Container, Iterable, Iterator, MutableSequence, Sequence, Set
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from onnx_oto.errors import ModelError

MAX_NODES = 300_000
"""How many nodes a model may have, its functions expanded: analysis takes 0.2 ms for each, 0.6 ms with a weight."""


# Every pass asks every node; looked up in the class of messages, they take longer than all the rest of it.
_GRAPH, _GRAPHS = BODIES = int(AttributeProto.GRAPH), int(AttributeProto.GRAPHS)
_GRAPHS_OF_SCHEMAS = (onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS)


RUNTIME_OPS = frozenset(
    {"SimplifiedLayerNormalization", "LayerNormalization", "GroupNormalization", "MeanVarianceNormalization"}
)
"""What onnxruntime runs in the standard domain although the onnx checker refuses it: its own fusions write the first
two, it runs the deprecated form of the third, and onnx cannot expand the last without its attribute."""


@cache
def is_plain(op: str) -> bool:
    """Return whether no node of a standard operator has bodies: the checker refuses attributes it does not have."""
    if op in RUNTIME_OPS:
        return False
    try:
        attributes = onnx.defs.get_schema(op, "").attributes.values()
    except onnx.defs.SchemaError:
        return False
    return all(each.type not in _GRAPHS_OF_SCHEMAS for each in attributes)


def bodies(node: NodeProto) -> list[GraphProto]:
    """Return the subgraphs (If, Loop, Scan bodies) that are attributes of one node."""
    found: list[GraphProto] = []
    if not node.domain and is_plain(node.op_type):
        return found
    for attr in node.attribute:
        kind = attr.type
        if kind == _GRAPH:
            found.append(attr.g)
        elif kind == _GRAPHS:
            found.extend(attr.graphs)
    return found


def nested(nodes: Iterable[NodeProto]) -> list[NodeProto]:
    """Return the nodes that have bodies."""
    return [
        node
        for node in nodes
        if (node.domain or not is_plain(node.op_type)) and any(map(_holds, node.attribute))
    ]


def _holds(attr: AttributeProto) -> bool:
    return attr.type == _GRAPH or (attr.type == _GRAPHS and bool(attr.graphs))


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every body inside it."""
    yield graph
    for node in graph.node:
        for body in bodies(node):
            yield from graphs(body)


def nodes_inside(nodes: Iterable[NodeProto]) -> Iterator[NodeProto]:
    """Yield nodes and those of the bodies inside them."""
    for node in nodes:
        yield node
        if node.domain or not is_plain(node.op_type):
            for body in bodies(node):
                yield from nodes_inside(body.node)


def captured(node: NodeProto) -> tuple[str, ...]:
    """Return the names that the bodies of a node read from outside, sorted, without duplicates."""
    inner = bodies(node)
    return tuple(sorted(set[str]().union(*map(_free_names, inner)))) if inner else ()


def initializer_names(graph: GraphProto) -> list[str]:
    """Return the names of dense and sparse initializers, in file order."""
    return [t.name for t in graph.initializer] + [s.values.name for s in graph.sparse_initializer]


def fed_inputs(graph: GraphProto) -> list[ValueInfoProto]:
    """Return the inputs that must be fed: no initializer gives them a value."""
    constants = set(initializer_names(graph))
    return [value for value in graph.input if value.name not in constants]


def check_and_sort(model: ModelProto) -> None:
    """Put the nodes of every graph and function into topological order, in place.

    Raises ModelError for a cycle, an undefined or doubly defined name, and recursive (or explosively nested)
    local functions.
    """
    check_functions(model)
    for function in model.functions:
        where = f"function {function.name!r}"
        _check_outputs(function.output, sort_nodes(function.node, set(function.input), where), where)
    sort_graph(model.graph, NOTHING, "the graph")


@dataclass(frozen=True)
class Scope:
    """Names that a body may capture: those of the graph around it, and of the graphs around that."""

    names: Set[str] = frozenset()
    outer: Scope | None = None

    def __contains__(self, name: object) -> bool:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.names:
                return True
            scope = scope.outer
        return False


NOTHING = Scope()


def sort_graph(graph: GraphProto, outer: Scope, where: str) -> None:
    """Sort a graph and its bodies in place; `outer` are the names it may capture. Raises ModelError."""
    inputs = [value.name for value in graph.input]
    _refuse_duplicates(inputs, "input", where)
    initializers = initializer_names(graph)
    _refuse_duplicates(initializers, "initializer", where)
    scope = Scope(sort_nodes(graph.node, {*inputs, *initializers}, where, outer=outer), outer)
    _check_outputs([value.name for value in graph.output], scope, where)
    for node in nested(graph.node):
        for body in bodies(node):
            sort_graph(body, scope, f"a body of node {label(node)!r}")


def sort_nodes(
    nodes: Sequence[NodeProto], given: set[str], where: str, *, outer: Container[str] = NOTHING
) -> set[str]:
    """Sort a repeated node field in place so that producers come first; return all names there are then.

    `given` are the names that the graph itself has before its first node, `outer` those it may capture; a
    node may redefine only the latter. A right order is kept. Raises ModelError.
    """
    listed = list(nodes)
    names = _names_in_order(listed, given)
    if names is not None:
        return names
    producer = _producers(listed, given, where)
    needs = [{*node.input, *captured(node)} - given - {""} for node in listed]
    waiting = [0] * len(listed)
    readers: list[list[int]] = [[] for _ in listed]
    for index, names in enumerate(needs):
        for name in names:
            if name not in producer and name not in outer:
                raise ModelError(
                    f"node {label(listed[index])!r} in {where} reads {name!r}, which nothing defines: "
                    "no input, initializer or node output has that name; export the model again"
                )
            if name in producer:
                readers[producer[name]].append(index)
                waiting[index] += 1
    order = _peel(waiting, readers)
    if len(order) < len(listed):
        stuck = next(i for i in range(len(listed)) if waiting[i] > 0)
        raise ModelError(
            f"{where} has a cycle through node {label(listed[stuck])!r}: ONNX graphs are acyclic"
        )
    if order != list(range(len(listed))):
        rank = {id(listed[index]): position for position, index in enumerate(order)}
        nodes.sort(key=lambda node: rank[id(node)])  # type: ignore[attr-defined]
    return given.union(producer)


def _names_in_order(nodes: Sequence[NodeProto], given: set[str]) -> set[str] | None:
    """Return `given` and what nodes without bodies make, None unless each finds there what it reads, and no more."""
    known = {*given, ""}
    for node in nodes:
        if (node.domain or not is_plain(node.op_type)) and any(map(_holds, node.attribute)):
            return None
        if not known.issuperset(node.input):
            return None
        for name in node.output:
            if name in known and name:
                return None
            known.add(name)
    return known


def label(node: NodeProto) -> str:
    """Return what a message should call a node: its name, else its first output, else its op."""
    named = node.name or next((name for name in node.output if name), "")
    return f"{named} ({node.op_type})" if named else node.op_type


def check_functions(model: ModelProto) -> None:
    """Raise ModelError when local functions are recursive or expand to more nodes than a model may have."""
    table = {(f.domain, f.name, f.overload): f for f in model.functions}
    if not table:
        return
    calls = {key: [c for c in _calls(f.node) if c in table] for key, f in table.items()}
    size: dict[tuple[str, str, str], int] = {}
    for key in _callees_first(calls):
        size[key] = len(_calls(table[key].node)) + sum(size[callee] for callee in calls[key])
    total = sum(size.get(key, 1) for key in _calls(model.graph.node))
    if total > MAX_NODES:
        raise ModelError(f"local functions expand to {total} nodes, more than {MAX_NODES}: refused as unsafe")


def _callees_first(
    calls: dict[tuple[str, str, str], list[tuple[str, str, str]]],
) -> list[tuple[str, str, str]]:
    callers: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {key: [] for key in calls}
    open_calls = {key: len(callees) for key, callees in calls.items()}
    for key, callees in calls.items():
        for callee in callees:
            callers[callee].append(key)
    ready = [key for key, count in open_calls.items() if count == 0]
    order = []
    while ready:
        key = ready.pop()
        order.append(key)
        for caller in callers[key]:
            open_calls[caller] -= 1
            if open_calls[caller] == 0:
                ready.append(caller)
    if len(order) < len(calls):
        name = next(key[1] for key, count in open_calls.items() if count > 0)
        raise ModelError(f"local function {name!r} calls itself: recursive functions cannot be inlined")
    return order


def _calls(nodes: Sequence[NodeProto]) -> list[tuple[str, str, str]]:
    found = []
    stack = list(nodes)
    while stack:
        node = stack.pop()
        found.append((node.domain, node.op_type, node.overload))
        for body in bodies(node):
            stack.extend(body.node)
    return found


def _free_names(graph: GraphProto) -> set[str]:
    defined = {value.name for value in graph.input} | set(initializer_names(graph)) | {""}
    used = {value.name for value in graph.output}
    for node in graph.node:
        defined.update(node.output)
        used.update(node.input)
        for body in bodies(node):
            used |= _free_names(body)
    return used - defined


def _producers(nodes: list[NodeProto], given: set[str], where: str) -> dict[str, int]:
    producer: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.output:
            if name and (name in producer or name in given):
                raise ModelError(
                    f"{name!r} is defined twice in {where}, the second time by node {label(node)!r}: "
                    "every tensor needs a name of its own"
                )
            if name:
                producer[name] = index
    return producer


def _peel(waiting: list[int], readers: list[list[int]]) -> list[int]:
    """Kahn's algorithm; a right order is kept. `waiting` ends > 0 for nodes on or behind a cycle."""
    if all(index < reader for index, found in enumerate(readers) for reader in found):
        waiting[:] = [0] * len(waiting)
        return list(range(len(waiting)))
    ready = deque(index for index, count in enumerate(waiting) if count == 0)
    order = []
    while ready:
        index = ready.popleft()
        order.append(index)
        for reader in readers[index]:
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    return order


def _check_outputs(outputs: Sequence[str], defined: Container[str], where: str) -> None:
    _refuse_duplicates(list(outputs), "output", where)
    for name in outputs:
        if name not in defined:
            raise ModelError(f"output {name!r} of {where} is defined by nothing: export the model again")


def _refuse_duplicates(names: list[str], kind: str, where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ModelError(f"{kind} {twice[0]!r} of {where} is listed twice: names must be unique")


def drop_dead(graph: GraphProto) -> set[str]:
    """Remove nodes and initializers that no graph output depends on, in place; return the tensors that they do.

    In bodies, what their outputs depend on stays.
    """
    needed = {value.name for value in graph.output}
    keep = [False] * len(graph.node)
    for index in range(len(graph.node) - 1, -1, -1):
        node = graph.node[index]
        if not needed.isdisjoint(filter(None, node.output)):
            keep[index] = True
            needed.update(node.input)
            for body in bodies(node):
                drop_dead(body)
                needed |= _free_names(body)
    delete(graph.node, [index for index, kept in enumerate(keep) if not kept])
    delete(graph.initializer, [i for i, tensor in enumerate(graph.initializer) if tensor.name not in needed])
    return needed


def drop_unneeded(graph: GraphProto) -> None:
    """Remove nodes, initializers and inputs that no graph output depends on, in place."""
    needed = drop_dead(graph)
    delete(graph.input, [i for i, value in enumerate(graph.input) if value.name not in needed])


def delete(field: MutableSequence[Any], indices: Sequence[int]) -> None:
    """Delete elements of a repeated field by ascending index; neighbours in one go: each moves all that follow."""
    end = len(indices)
    while end:
        begin = end - 1
        while begin and indices[begin - 1] == indices[begin] - 1:
            begin -= 1
        del field[indices[begin] : indices[end - 1] + 1]
        end = begin

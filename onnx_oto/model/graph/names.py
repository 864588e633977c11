"""Unique names for tensors and nodes."""

from __future__ import annotations

from onnx import GraphProto

from onnx_oto.model.graph.order import bodies, initializer_names, nested, nodes_inside


def all_names(graph: GraphProto) -> set[str]:
    """Return every tensor name that a graph or a body inside it mentions."""
    names = {value.name for value in (*graph.input, *graph.output)} | set(initializer_names(graph))
    nodes = list(graph.node)
    for node in nodes:
        names.update(node.input, node.output)
    for node in nested(nodes):
        for body in bodies(node):
            names |= all_names(body)
    return names


def fresh(prefix: str, taken: set[str], *, start: int = 1) -> str:
    """Return ``<prefix><number>`` with a free number, the one behind those that are taken, and add it to `taken`.

    Found by doubling and halving, so that the same prefix may be asked for as often as one likes.
    """
    low, number, step = start - 1, start, 1
    while f"{prefix}{number}" in taken:
        low, number, step = number, number + step, 2 * step
    while number - low > 1:
        middle = (low + number) // 2
        if f"{prefix}{middle}" in taken:
            low = middle
        else:
            number = middle
    taken.add(f"{prefix}{number}")
    return f"{prefix}{number}"


def name_nodes(graph: GraphProto) -> None:
    """Give nodes without a name, or with one that is taken, a stable unique one (``<op>_<i>``), in place.

    Those of bodies too: no two nodes of a model have one name then.
    """
    nodes = list(graph.node)
    nodes += [inner for node in nested(nodes) for body in bodies(node) for inner in nodes_inside(body.node)]
    names = [node.name for node in nodes]
    taken = set(names)
    used: set[str] = set()
    for index, (node, name) in enumerate(zip(nodes, names, strict=True)):
        if not name or name in used:
            node.name = name = fresh(f"{name or node.op_type}_", taken, start=index)
        used.add(name)

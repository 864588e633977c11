"""Bodies of If, Loop and Scan: every tensor gets a name of its own, and their constants become the graph's.

What a body holds as a constant means the same outside of it. So weights that live in a body are initializers like any
others, and `model.graph.flat` can lay the bodies out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Set

from onnx import GraphProto, helper

from onnx_oto.model.graph.constants import is_constant, write_constant
from onnx_oto.model.graph.names import all_names, fresh
from onnx_oto.model.graph.order import bodies, delete, initializer_names, nested, nodes_inside


def lift_bodies(graph: GraphProto) -> None:
    """Give tensors of bodies names that nothing else has, and move the constants of bodies to the graph, in place.

    Nothing changes where an initializer of a body has the name of a tensor around it: the onnx checker accepts that,
    and onnxruntime reads now the one, now the other, by what else there is in the graph.
    """
    inner = [body for node in nested(graph.node) for body in bodies(node)]
    if not inner:
        return
    taken = all_names(graph)
    seen = {value.name for value in graph.input} | set(initializer_names(graph))
    seen.update(name for node in graph.node for name in node.output)
    if any(_hides(body, seen) for body in inner):
        return
    _name_owners(graph)
    for body in inner:
        _separate(body, seen, taken)
        _lift(body, graph, taken)


def _name_owners(graph: GraphProto) -> None:
    """Give every node that has bodies a name of its own."""
    names = Counter(node.name for node in nodes_inside(graph.node))
    taken = set(names)
    for index, node in enumerate(nodes_inside(graph.node)):
        if any(bodies(node)) and (not node.name or names[node.name] > 1):
            names[node.name] -= 1
            node.name = fresh(f"{node.name or node.op_type}_", taken, start=index)


def _hides(body: GraphProto, visible: Set[str]) -> bool:
    """Return whether an initializer of a body, or of one inside, has the name of a tensor of a graph around it."""
    own = set(initializer_names(body))
    if not own.isdisjoint(visible):
        return True
    around = visible | own | {value.name for value in body.input}
    around |= {name for node in body.node for name in node.output}
    return any(_hides(inner, around) for node in body.node for inner in bodies(node))


def _separate(body: GraphProto, seen: set[str], taken: set[str]) -> None:
    """Rename what a body defines if its name is in `seen`, the names that other graphs define; then add its own."""
    defined = [*(value.name for value in body.input), *initializer_names(body)]
    defined += [name for node in body.node for name in node.output if name]
    names = {name: fresh(f"{name}__body", taken) for name in dict.fromkeys(defined) if name in seen}
    if names:
        rename(body, names)
    seen.update(names.get(name, name) for name in defined)
    for node in body.node:
        for inner in bodies(node):
            _separate(inner, seen, taken)


def rename(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Apply new names to a body and the bodies inside it, in place.

    A body inside that defines such a name for itself gets the new one there, too: it hides the outer one as before.
    """
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for field in (node.input, node.output):
            for position, name in enumerate(field):
                if name in names:
                    field[position] = names[name]
        for body in bodies(node):
            rename(body, names)


def _lift(body: GraphProto, graph: GraphProto, taken: set[str]) -> None:
    """Move the constants of a body and of those inside it to the graph; one that is an output leaves a link."""
    outputs = {value.name for value in body.output}
    inputs = {value.name for value in body.input}
    links = []
    stored = [index for index, tensor in enumerate(body.initializer) if tensor.name not in inputs]
    for tensor in [body.initializer[index] for index in stored]:
        graph.initializer.add().CopyFrom(tensor)
        links.append(graph.initializer[-1])
    where = [index for index, node in enumerate(body.node) if is_constant(node)]
    for node in [body.node[index] for index in where]:
        write_constant(node, graph.initializer.add())
        links.append(graph.initializer[-1])
    delete(body.initializer, stored)
    delete(body.node, where)
    for tensor in links:
        if tensor.name in outputs:
            name, tensor.name = tensor.name, fresh(f"{tensor.name}__constant", taken)
            body.node.insert(0, helper.make_node("Identity", [tensor.name], [name]))
    for node in body.node:
        for inner in bodies(node):
            _lift(inner, graph, taken)

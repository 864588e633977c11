"""Nodes of a graph that only give something another name."""

from __future__ import annotations

import onnx


def without_copies(graph: onnx.GraphProto) -> None:
    """Leave out, in place, each Identity whose output is no output of the graph."""
    outputs = {value.name for value in graph.output}
    same: dict[str, str] = {}
    kept = []
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type == "Identity" and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def name_outputs(graph: onnx.GraphProto) -> dict[str, str]:
    """Let what makes an output of the graph, in place, do so without an Identity behind it, where that is possible.

    Returns the outputs by the names that their tensors had.
    """
    outputs = {value.name for value in graph.output}
    made = {name for node in graph.node for name in node.output if name}
    named: dict[str, str] = {}
    kept = []
    for node in graph.node:
        source, target = (node.input[0], node.output[0]) if node.op_type == "Identity" else ("", "")
        if target in outputs and source in made and source not in outputs and source not in named:
            named[source] = target
        else:
            kept.append(node)
    for node in kept:
        node.input[:] = [named.get(name, name) for name in node.input]
        node.output[:] = [named.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    return named

"""Tensors in front of a model's outputs that are compared too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
from onnx import ModelProto

from onnx_oto.model.graph.constants import is_constant
from onnx_oto.model.graph.order import captured

DEPTH = 3
"""How many operators of one input in front of an output are looked through."""


def probes(full: ModelProto, compact: ModelProto) -> list[str]:
    """Return names of tensors, in both models, from which an output is computed by operators of one input."""
    known = {name for node in compact.graph.node for name in node.output}
    constant = {tensor.name for tensor in full.graph.initializer}
    constant.update(name for node in full.graph.node if is_constant(node) for name in node.output)
    producer = {name: node for node in full.graph.node for name in node.output}
    found: dict[str, None] = {}
    outputs = {value.name for value in full.graph.output}
    for name in sorted(outputs):
        for _ in range(DEPTH):
            node = producer.get(name)
            if node is None:
                break
            data = [n for n in node.input if n and n not in constant]
            if len(data) != 1 or data[0] not in producer:
                break
            name = data[0]
            if name in known and name not in outputs:
                found[name] = None
    return list(found)


def with_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return a copy of the model with further outputs; the model itself when there are none."""
    there = {value.name for value in model.graph.output}
    more = [name for name in names if name not in there]
    if not more:
        return model
    result = ModelProto()
    result.CopyFrom(model)
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in more)
    return result


def only_outputs(model: ModelProto, names: Sequence[str]) -> ModelProto:
    """Return a copy of the model with these outputs and no others."""
    result = ModelProto()
    result.CopyFrom(model)
    declared = {value.name: value for value in model.graph.output}
    del result.graph.output[:]
    result.graph.output.extend(declared.get(name) or onnx.ValueInfoProto(name=name) for name in names)
    return result


def cut_tensors(full: ModelProto, compact: ModelProto) -> frozenset[str] | None:
    """Return the tensors of the full model that depend on parameters of another shape in the compact one.

    None when no parameter has another shape: then nothing tells which were cut.
    """
    left = {tensor.name: tuple(tensor.dims) for tensor in full.graph.initializer}
    right = {tensor.name: tuple(tensor.dims) for tensor in compact.graph.initializer}
    found = {name for name, dims in left.items() if right.get(name) != dims}
    if not found:
        return None
    for node in full.graph.node:
        if not found.isdisjoint((*node.input, *captured(node))):
            found.update(name for name in node.output if name)
    return frozenset(found)


def in_front(full: ModelProto, compact: ModelProto, outputs: Sequence[str]) -> Iterator[str]:
    """Yield the tensors, in both models, that outputs are computed from, nearest first."""
    known = {name for node in compact.graph.node for name in node.output}
    producer = {name: node for node in full.graph.node for name in node.output if name}
    level, seen = list(outputs), set(outputs)
    while level:
        following: list[str] = []
        for name in level:
            node = producer.get(name)
            for source in () if node is None else (*node.input, *captured(node)):
                if source in producer and source not in seen:
                    seen.add(source)
                    following.append(source)
                    if source in known:
                        yield source
        level = following

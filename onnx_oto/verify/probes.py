"""Tensors in front of a model's outputs that are compared too."""

from __future__ import annotations

import onnx

DEPTH = 3
"""How many operators of one input in front of an output are looked through."""


def probes(full: onnx.ModelProto, compact: onnx.ModelProto) -> list[str]:
    """Return names of tensors, in both models, from which an output is computed by operators of one input."""
    known = {name for node in compact.graph.node for name in node.output}
    constant = {tensor.name for tensor in full.graph.initializer}
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


def with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """Return a copy of the model with further outputs; the model itself when there are none."""
    if not names:
        return model
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return result

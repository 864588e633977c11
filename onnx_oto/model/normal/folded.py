"""What a graph computes from constants, as a model of its own: whether a runtime computes that at all can be tried.

Folding evaluates it in numpy, or drops it where nothing depends on it in the end. Numpy gives something where a runtime
refuses: an integer division by zero, an index outside of its tensor, a step of zero. A model that does not run as it is
stored must not begin to by being folded.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto

from onnx_oto.model.graph.tensors import from_array
from onnx_oto.model.normal.derived import constant_nodes
from onnx_oto.model.shapes.inference import small_constants


def constant_part(model: ModelProto) -> ModelProto | None:
    """Return a model of the nodes that compute the same whenever a sorted model runs; None where there are none.

    What is computed from weights is left out: only constants that arithmetic may use count (see `small_constants`).
    """
    constants = small_constants(model)
    nodes = list(constant_nodes(model.graph, constants))
    if not nodes:
        return None
    read = {name for node in nodes for name in node.input}
    given = [from_array(value, name) for name, value in constants.items() if name in read]
    outputs = [onnx.ValueInfoProto(name=name) for node in nodes for name in node.output if name]
    graph = onnx.helper.make_graph(nodes, "constants", [], outputs, given)
    return onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)

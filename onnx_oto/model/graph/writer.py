"""The writer of nodes: whoever adds a subgraph names what it wants and gets the form of the model's opset."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, helper

from onnx_oto.model.graph.forms import form
from onnx_oto.model.graph.tensors import from_array


class GraphWriter:
    """Nodes of the standard domain and constants for a graph of one opset, collected until `write_to`.

    Names are `<prefix>.<op>.<number>`: give a prefix that nothing else in the graph uses.
    """

    def __init__(self, opset: int, prefix: str) -> None:
        self.opset = opset
        self.prefix = prefix
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._count = 0

    def fresh(self, hint: str) -> str:
        """Return a name that this writer has not given yet."""
        self._count += 1
        return f"{self.prefix}.{hint}.{self._count}"

    def emit(self, op: str, *inputs: str, **settings: Any) -> str:
        """Append a node with one output and return the output's name."""
        return self.emit_many(op, inputs, 1, **settings)[0]

    def emit_many(self, op: str, inputs: Sequence[str], outputs: int, **settings: Any) -> list[str]:
        """Append a node and return the names of its outputs.

        `settings` become attributes, or constants where the opset has inputs for them (`axes`, `split`, `pads`);
        raises ValueError for one that the operator does not have.
        """
        written = form(op, self.opset, settings)
        sources = list(inputs)
        for position, value in sorted(written.inputs.items()):
            sources += [""] * (position + 1 - len(sources))
            sources[position] = self.value(value, value.dtype)
        name = self.fresh(op)
        names = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op, sources, names, name=name, **written.attributes))
        return names

    def value(self, value: Any, dtype: npt.DTypeLike = np.float32) -> str:
        """Return the name of a new constant."""
        name = self.fresh("constant")
        self.initializers.append(from_array(np.array(value, dtype, order="C"), name))
        return name

    def ints(self, values: Iterable[int]) -> str:
        """Return the name of a new int64 constant of rank 1."""
        return self.value(list(values), np.int64)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Return `x` in another shape."""
        return self.emit("Reshape", x, self.ints(shape))

    def write_to(self, graph: GraphProto) -> None:
        """Append everything to a graph, behind what is there."""
        graph.node.extend(self.nodes)
        graph.initializer.extend(self.initializers)
        self.nodes, self.initializers = [], []

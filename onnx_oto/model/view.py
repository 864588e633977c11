"""The view of a normalised model that analysis reads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from onnx import ModelProto, TensorProto

from onnx_oto.model.graph.flat import flatten
from onnx_oto.model.graph.node import Node, read_laid_out, read_nodes, read_opsets
from onnx_oto.model.graph.payloads import Payloads
from onnx_oto.model.graph.tensors import is_external, is_located, to_array
from onnx_oto.model.shapes.dims import Dim, Shape
from onnx_oto.model.shapes.inference import Knowledge, infer


class Graph:
    """Nodes, shapes and constants of a normalised model. Treat it as immutable.

    `shapes` gives every tensor, initializers included, a tuple of int, str (symbol or product of symbols) or
    None (unknown size), or None for unknown rank. `dtypes` holds TensorProto element types. `consumers` lists
    the (node, input position) pairs that read a tensor directly; what bodies read is in `Node.captured`, of all nodes
    and bodies in `captured`. The model is referred to, not copied. laid_out: with the nodes of bodies among the others,
    between an entry and an exit (see `model.graph.flat`); without it, `nodes` are those of the main graph.
    """

    def __init__(
        self,
        model: ModelProto,
        knowledge: Knowledge,
        *,
        laid_out: bool = False,
        payloads: Payloads | None = None,
    ) -> None:
        self.payloads: Payloads = payloads or Payloads()
        self.opsets: dict[str, int] = read_opsets(model)
        placed = flatten(model.graph) if laid_out else ()
        self.nodes: list[Node] = (
            read_laid_out(placed, self.opsets, knowledge.read) if laid_out else read_nodes(model)
        )
        self.initializers: dict[str, TensorProto] = {
            tensor.name: tensor for tensor in model.graph.initializer
        }
        self.inputs: tuple[str, ...] = tuple(
            value.name for value in model.graph.input if value.name not in self.initializers
        )
        self.outputs: tuple[str, ...] = tuple(value.name for value in model.graph.output)
        self.shapes: dict[str, Shape | None] = knowledge.shapes
        self.dtypes: dict[str, int] = knowledge.dtypes
        self.about: Mapping[str, Dim] = knowledge.about
        self.settled: frozenset[str] = knowledge.settled
        self.producer: dict[str, Node] = {name: node for node in self.nodes for name in node.outputs if name}
        self.captured: frozenset[str] = frozenset(
            name for node in self.nodes for name in (*node.captured, *(node.inputs if node.within else ()))
        )
        self._values = knowledge.values
        self._arrays: dict[str, np.ndarray] = {}

    @cached_property
    def consumers(self) -> dict[str, list[tuple[Node, int]]]:
        """The (node, input position) pairs that read a tensor directly."""
        found: dict[str, list[tuple[Node, int]]] = {}
        for node in self.nodes:
            for position, name in enumerate(node.inputs):
                if name:
                    found.setdefault(name, []).append((node, position))
        return found

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a tensor, None when even its rank is unknown."""
        return self.shapes.get(name)

    def constant(self, name: str) -> np.ndarray | None:
        """Return the value of an initializer, read-only; None for others, or when not loaded.

        It is cached, but where it lies in another file: that is read anew, so that weights are never held together.
        """
        if name not in self._arrays:
            tensor = self.initializers.get(name)
            if tensor is None:
                return None
            if is_external(tensor):
                return to_array(tensor) if is_located(tensor) else None
            self._arrays[name] = to_array(tensor)
        return self._arrays[name]

    def partial(self, name: str) -> np.ndarray | None:
        """Return what is known of a small value as an object array of int, float, bool, str (symbol) or None.

        None when nothing is known. A Reshape target may be ``['N', 12, 64]``.
        """
        value = self._values.get(name)
        if value is None and name in self.initializers:
            value = self.constant(name)
        return None if value is None else value.astype(object)


def graph(
    model: ModelProto,
    knowledge: Knowledge | None = None,
    *,
    laid_out: bool = False,
    payloads: Payloads | None = None,
) -> Graph:
    """Return the view of a model that `normalise` made (or of an edited copy of one).

    knowledge: what `normal_form` found out about it; without it, shapes are inferred. laid_out: see `Graph`.
    payloads: of the model, where they were kept.
    """
    knowledge = infer(model) if knowledge is None else knowledge
    return Graph(model, knowledge, laid_out=laid_out, payloads=payloads)

"""What onnx's own shape inference says of one node."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto, TypeProto

from onnx_oto.errors import ModelError, first_lines
from onnx_oto.model.graph.node import standard_domain
from onnx_oto.model.graph.order import BODIES
from onnx_oto.model.graph.skeleton import without_trees
from onnx_oto.model.shapes.types import Kind, Kinds

_NOTHING = Kind(0, None, TypeProto())
_DESCRIBED = frozenset(schema.domain for schema in onnx.defs.get_all_schemas()) | {"ai.onnx"}


def _question(
    node: NodeProto,
    inputs: Sequence[str],
    outputs: Sequence[str],
    types: Mapping[str, Kind],
    data: Mapping[str, TensorProto],
) -> Hashable | None:
    """Return what the types of a node's outputs depend on beside the opsets, None of a node with bodies.

    Layers that are alike ask the same.
    """
    settings: list[Hashable] = [node.domain, node.op_type]
    for attr in node.attribute:
        if attr.type in BODIES:
            return None
        settings.append(attr.SerializeToString())
    values = [(name in data and _content(data[name])) or None for name in inputs] if data else ()
    return *settings, None, *map(types.get, inputs), None, *values, None, *map(bool, outputs)


def _content(value: TensorProto) -> Hashable:
    return value.data_type, *value.dims, value.raw_data or value.SerializeToString()


class Schemas:
    """The operator schemas at the versions that a model imports.

    One call per node costs about 10 us and, in contrast to inference over the whole model, can use at every
    node all that was learned before it.
    """

    def __init__(self, model: ModelProto) -> None:
        self._versions = {standard_domain(entry.domain): entry.version for entry in model.opset_import}
        self._imports = [entry for entry in model.opset_import if entry.domain in _DESCRIBED]
        self._found: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}
        self._inferred: dict[Hashable, list[Kind | None]] = {}
        self.kinds = Kinds()

    def describe(self, domain: str, op: str) -> bool:
        """Say whether onnx can infer types for an operator."""
        return self._schema(domain, op) is not None

    def infer(
        self,
        node: NodeProto,
        inputs: Sequence[str],
        outputs: Sequence[str],
        types: Mapping[str, Kind],
        data: Mapping[str, TensorProto],
    ) -> list[Kind | None]:
        """Return the types of a node's outputs, None where nothing follows; [] for an operator onnx cannot infer.

        `inputs` and `outputs` are the node's, `types` holds what is known of inputs and captured tensors, `data` the
        values of known inputs. Raises ModelError with one line when they contradict the operator.
        """
        domain = standard_domain(node.domain)
        schema = self._schema(domain, node.op_type)
        if schema is None:
            return []
        if domain:
            node = without_trees(node)
        question = _question(node, inputs, outputs, types, data)
        known = self._inferred.get(question) if question is not None else None
        if known is not None:
            return known
        every: dict[str, Any] = {name: _NOTHING for name in inputs if name}
        every.update(types)
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, every, dict(data), opset_imports=self._imports
            )
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            ValueError,
            TypeError,
            RuntimeError,
        ) as error:
            raise ModelError(first_lines(error)) from None
        known = [self.kinds.read(found[name]) if name in found else None for name in outputs]
        if question is not None:
            self._inferred[question] = known
        return known

    def _schema(self, domain: str, op: str) -> onnx.defs.OpSchema | None:
        key = domain, op
        if key not in self._found:
            self._found[key] = self._look_up(domain, op)
        return self._found[key]

    def _look_up(self, domain: str, op: str) -> onnx.defs.OpSchema | None:
        version = self._versions.get(domain)
        if version is None:
            return None
        try:
            schema = onnx.defs.get_schema(op, version, domain)
        except onnx.defs.SchemaError:
            return None
        return None if schema.deprecated or not schema.has_type_and_shape_inference_function else schema

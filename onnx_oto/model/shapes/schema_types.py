"""What onnx's own shape inference says of one node."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

import onnx
from onnx import ModelProto, NodeProto, TensorProto, TypeProto

from onnx_oto.errors import ModelError, first_lines
from onnx_oto.model.graph.node import standard_domain
from onnx_oto.model.graph.order import bodies

_NOTHING = TypeProto()
_DESCRIBED = frozenset(schema.domain for schema in onnx.defs.get_all_schemas()) | {"ai.onnx"}


def _question(
    node: NodeProto, types: Mapping[str, TypeProto], data: Mapping[str, TensorProto]
) -> Hashable | None:
    """Return what the types of a node's outputs depend on beside the opsets, None of a node with bodies.

    Layers that are alike ask the same.
    """
    if bodies(node):
        return None
    inputs = []
    for name in node.input:
        kind, value = types.get(name), data.get(name)
        inputs.append(
            (
                kind and kind.SerializeToString(),
                value and (value.data_type, *value.dims, value.raw_data or value.SerializeToString()),
            )
        )
    settings = [attr.SerializeToString() for attr in node.attribute]
    return node.domain, node.op_type, *settings, None, *inputs, None, *map(bool, node.output)


class Schemas:
    """The operator schemas at the versions that a model imports.

    One call per node costs about 10 us and, in contrast to inference over the whole model, can use at every
    node all that was learned before it.
    """

    def __init__(self, model: ModelProto) -> None:
        self._versions = {standard_domain(entry.domain): entry.version for entry in model.opset_import}
        self._imports = [entry for entry in model.opset_import if entry.domain in _DESCRIBED]
        self._found: dict[tuple[str, str], onnx.defs.OpSchema | None] = {}
        self._inferred: dict[Hashable, list[TypeProto | None]] = {}

    def describe(self, domain: str, op: str) -> bool:
        """Say whether onnx can infer types for an operator."""
        return self._schema(domain, op) is not None

    def infer(
        self, node: NodeProto, types: Mapping[str, TypeProto], data: Mapping[str, TensorProto]
    ) -> dict[str, TypeProto]:
        """Return the types of a node's outputs as far as they follow, {} for an operator onnx cannot infer.

        `types` holds what is known of inputs and captured tensors, `data` the values of known inputs. Raises
        ModelError with one line when they contradict the operator.
        """
        schema = self._schema(standard_domain(node.domain), node.op_type)
        if schema is None:
            return {}
        question = _question(node, types, data)
        known = self._inferred.get(question)
        if known is not None:
            return {n: kind for n, kind in zip(node.output, known, strict=True) if kind is not None}
        every = {name: _NOTHING for name in node.input if name}
        every.update(types)
        try:
            found = onnx.shape_inference.infer_node_outputs(
                schema, node, every, dict(data), opset_imports=self._imports
            )
            if question is not None:
                self._inferred[question] = [found.get(name) for name in node.output]
            return found
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            ValueError,
            TypeError,
            RuntimeError,
        ) as error:
            raise ModelError(first_lines(error)) from None

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

"""Proof that a model is well formed: our own structural checks, then the full onnx checker."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

import onnx
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from google.protobuf.message import Message  # type: ignore[import-untyped]
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from onnx_oto.errors import ModelError, first_lines
from onnx_oto.model.files.attributes import check_settings
from onnx_oto.model.files.external import all_tensors
from onnx_oto.model.files.header import check_amount, check_header, open_negative_sizes
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.order import RUNTIME_OPS, bodies, check_and_sort, nodes_inside
from onnx_oto.model.graph.skeleton import skeleton
from onnx_oto.model.graph.tensors import check_payload, is_external
from onnx_oto.model.shapes.supposed import keep_stored, typed_names

_PRIVATE_DOMAIN = "onnx_oto.unchecked"
_REFUSALS = (
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,
    ValueError,
    TypeError,
    RuntimeError,
)


def check(
    model: ModelProto,
    *,
    trust_outputs: bool = True,
    written: Container[str] = frozenset(),
    from_checked: bool = False,
) -> None:
    """Raise ModelError unless well formed. Sorts the nodes, drops stored value_info, declares shapes of outputs that
    have none, and opens axes that are declared with a negative size, in place.

    Stored value_info is dropped because exporters and editing tools leave wrong entries behind; what it says of
    tensors that onnx knows nothing of stays (see `shapes.supposed`). Declared output shapes are wrong as often: without
    `trust_outputs` they are not compared, only their types are. The onnx checker runs on a skeleton, so that the
    weights are neither copied nor limited to 2 GB; their payloads are checked here, but those of initializers that the
    caller has `written` as they must be. from_checked: all its text comes from a model that was checked.
    """
    check_header(model)
    check_amount(model)
    if not from_checked:
        _check_text(model)
    drop_inner_value_info(model)
    open_negative_sizes(model)
    check_and_sort(model)
    check_settings(model)
    for tensor in all_tensors(model):
        if not is_external(tensor) and tensor.name not in written:
            check_payload(tensor)
    _check_defaults(model)
    inferred = _inferred(skeleton(model), trust_outputs=trust_outputs)
    if model.graph.value_info:
        keep_stored(model, {value.name for value in model.graph.value_info}.difference(typed_names(inferred)))
    for value, found in zip(model.graph.output, inferred.graph.output, strict=True):
        if _is_shapeless(value) and not _is_shapeless(found):
            value.type.tensor_type.shape.CopyFrom(found.type.tensor_type.shape)


def full_check(bare: ModelProto) -> None:
    """Run the onnx checker and strict shape inference on a skeleton. Raises ModelError with one line.

    Nodes of `RUNTIME_OPS` that the checker would refuse at the model's operator set are not compared with a
    schema. Shapes inside bodies of If, Loop and Scan may contradict each other: runtimes take what the branch that
    runs makes. Outputs of unknown rank may be declared without a shape. The argument is not modified.
    """
    _inferred(bare)


def _inferred(bare: ModelProto, *, trust_outputs: bool = True) -> ModelProto:
    """Return the skeleton with inferred shapes, after the checks of `full_check`.

    trust_outputs: whether declared shapes of outputs must agree with what is inferred; their types must in any case.
    """
    model = _without_runtime_ops(bare)
    try:
        data = _with_output_shapes(model).SerializeToString()
        onnx.checker.check_model(data)
        if not trust_outputs:
            model = _without_output_shapes(model)
        if not trust_outputs or any(map(_is_shapeless, model.graph.output)):
            data = model.SerializeToString()
        try:
            return onnx.shape_inference.infer_shapes(data, check_type=True, strict_mode=True)
        except _REFUSALS:
            if not any(any(bodies(node)) for node in model.graph.node):
                raise
            return onnx.shape_inference.infer_shapes(
                _without_bodies(model), check_type=True, strict_mode=True
            )
    except _REFUSALS as error:
        raise ModelError(f"the onnx checker refuses it: {first_lines(error)}") from None


def _with_output_shapes(model: ModelProto) -> ModelProto:
    """Return the model, or a copy in which every output has some shape, as the checker wants it."""
    if not any(_is_shapeless(value) for value in model.graph.output):
        return model
    copy = _copy(model)
    for value in copy.graph.output:
        if _is_shapeless(value):
            value.type.tensor_type.shape.SetInParent()
    return copy


def _without_output_shapes(model: ModelProto) -> ModelProto:
    copy = _copy(model)
    for value in copy.graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    return copy


def _without_runtime_ops(model: ModelProto) -> ModelProto:
    """Return the model, or a copy in which refused `RUNTIME_OPS` lie in a domain without schemas."""
    version = opset_of(model)
    if not any(_is_refused(node, version) for node in _nodes(model)):
        return model
    return _masked(model, lambda copy: [node for node in _nodes(copy) if _is_refused(node, version)])


def _without_bodies(model: ModelProto) -> ModelProto:
    """Return a copy in which nodes of the graph that have bodies lie in a domain without schemas."""
    return _masked(model, lambda copy: [node for node in copy.graph.node if any(bodies(node))])


def _masked(model: ModelProto, chosen: Callable[[ModelProto], list[NodeProto]]) -> ModelProto:
    """Return a copy in which the nodes that `chosen` picks from it lie in a domain without schemas."""
    copy = _copy(model)
    for node in chosen(copy):
        node.domain = _PRIVATE_DOMAIN
    for holder in (copy, *copy.functions):
        if all(entry.domain != _PRIVATE_DOMAIN for entry in holder.opset_import):
            holder.opset_import.add(domain=_PRIVATE_DOMAIN, version=1)
    return copy


def _copy(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _is_shapeless(value: ValueInfoProto) -> bool:
    return value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")


def _is_refused(node: NodeProto, version: int) -> bool:
    if node.op_type not in RUNTIME_OPS or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "MeanVarianceNormalization":
        return not node.attribute
    try:
        return bool(onnx.defs.get_schema(node.op_type, version, "").deprecated)
    except onnx.defs.SchemaError:
        return True


def _nodes(model: ModelProto) -> Iterator[NodeProto]:
    """Yield the nodes of the graph, of bodies and of functions."""
    for holder in (model.graph, *model.functions):
        yield from nodes_inside(holder.node)


def drop_inner_value_info(model: ModelProto) -> None:
    """Forget stored shapes of intermediate tensors in bodies and functions, in place."""
    stack = [body for node in model.graph.node for body in bodies(node)]
    while stack:
        graph = stack.pop()
        graph.ClearField("value_info")
        for node in graph.node:
            stack.extend(bodies(node))
    for function in model.functions:
        function.ClearField("value_info")


_TEXT = frozenset({str})
_NUMBERS = frozenset({AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.INTS, AttributeProto.FLOATS})
_STRING, _MESSAGE = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_MESSAGE


def _check_text(model: ModelProto) -> None:
    """Refuse names that are no UTF-8 text: protobuf hands them out as bytes, which nothing expects."""
    stack: list[Message] = [model]
    while stack:
        message = stack.pop()
        texts: list[str | bytes] = []
        if isinstance(message, NodeProto):
            texts += (message.name, message.op_type, message.domain, message.doc_string, message.overload)
            texts += message.input
            texts += message.output
            stack += message.attribute
            stack += message.metadata_props
            stack += message.device_configurations
        elif isinstance(message, AttributeProto) and message.type in _NUMBERS:
            texts += (message.name, message.doc_string, message.ref_attr_name)
        elif isinstance(message, TensorProto):
            # Looking at every field would copy the payload.
            texts += (message.name, message.doc_string)
            stack.extend(message.external_data)
        else:
            for field, value in message.ListFields():
                if field.type == _STRING:
                    texts += value if field.is_repeated else (value,)
                elif field.type == _MESSAGE:
                    stack += value if field.is_repeated else (value,)
        if not _TEXT.issuperset(map(type, texts)):
            raise ModelError("it holds a name that is no UTF-8 text: the file is damaged")


def _check_defaults(model: ModelProto) -> None:
    """Refuse an initializer whose shape or type contradicts the graph input of the same name."""
    inputs: dict[str, ValueInfoProto] = {value.name: value for value in model.graph.input}
    for tensor in model.graph.initializer:
        value = inputs.get(tensor.name)
        if value is not None and _contradicts(value, tensor):
            raise ModelError(
                f"initializer {tensor.name!r} of dims {list(tensor.dims)} contradicts its graph input"
            )


def _contradicts(value: ValueInfoProto, tensor: TensorProto) -> bool:
    declared = value.type.tensor_type
    if declared.elem_type not in (0, tensor.data_type):
        return True
    if not declared.HasField("shape"):
        return False
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in declared.shape.dim]
    if len(sizes) != len(tensor.dims):
        return True
    return any(
        size is not None and size >= 0 and size != have for size, have in zip(sizes, tensor.dims, strict=True)
    )

"""Operators that the ONNX standard itself defines by other operators, written out as that definition."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx.inliner
from onnx import helper, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register
from onnx_oto.gradients.graph.static_types import types
from onnx_oto.model import normalise
from onnx_oto.model.graph.node import opset_of

_NESTING = 4  # definitions that use each other; in the standard there are two


def write_out(model: onnx.ModelProto, wanted: Callable[[str], bool]) -> onnx.ModelProto:
    """Return the model with its wanted standard operators replaced by their definitions, where they have one.

    What comes back is in normal form, its shape arithmetic folded. The argument keeps its nodes, but is given the
    default values of attributes and stored types, which the definitions need. Raises UnsupportedError when onnx cannot
    do it.
    """
    for _ in range(_NESTING):
        opset = opset_of(model)
        found = {node.op_type for node in model.graph.node if not node.domain and wanted(node.op_type)}
        chosen = sorted(op for op in found if is_defined(op, opset))
        if not chosen:
            break
        for node in model.graph.node:
            if not node.domain and node.op_type in chosen:
                _write_defaults(node, opset)
        model = normalise(_inlined(model, chosen))
    return model


def is_defined(op: str, opset: int) -> bool:
    """Return whether the standard defines an operator by others."""
    if not onnx.defs.has(op, opset, ""):
        return False
    schema = onnx.defs.get_schema(op, opset, "")
    return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]


def _write_defaults(node: onnx.NodeProto, opset: int) -> None:
    given = {attribute.name for attribute in node.attribute}
    for name, attribute in onnx.defs.get_schema(node.op_type, opset, "").attributes.items():
        if name not in given and attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
            node.attribute.append(attribute.default_value)


def _inlined(model: onnx.ModelProto, chosen: list[str]) -> onnx.ModelProto:
    given = {value.name for value in (*model.graph.input, *model.graph.output)}
    del model.graph.value_info[:]
    for name, kind in types(model).items():
        if name not in given and kind.dtype:
            model.graph.value_info.append(helper.make_tensor_value_info(name, kind.dtype, kind.shape))
    try:
        result = onnx.inliner.inline_selected_functions(model, [("", op) for op in chosen], False, True)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UnsupportedError(
            f"{' and '.join(chosen)} cannot be written out as the standard defines it "
            f"({str(error).splitlines()[0]}): replace it by simpler operators"
        ) from error
    del result.graph.value_info[:]
    _drop_idle_casts(result)
    return result


def _drop_idle_casts(model: onnx.ModelProto) -> None:
    """Turn casts to the type that a tensor has already into Identity: fusions of ONNX Runtime trip over them."""
    known = types(model)
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in known:
            wanted = next(attribute.i for attribute in node.attribute if attribute.name == "to")
            if known[node.input[0]].dtype == wanted:
                node.op_type = "Identity"
                del node.attribute[:]


@register("CastLike", "CenterCropPad", "NegativeLogLikelihoodLoss")
def definition(node: Site) -> Outcome:
    """What the standard defines the operator to be, with its shape arithmetic folded."""
    body = write_out(_alone(node), lambda op: op == node.op)
    if any(inner.op_type == node.op for inner in body.graph.node):
        raise UnsupportedError(f"the standard does not define {node.op} for such inputs: write it out")
    names = {name: name for name in node.inputs}
    for tensor in body.graph.initializer:
        if tensor.name not in names:
            names[tensor.name] = node.value(
                numpy_helper.to_array(tensor), numpy_helper.to_array(tensor).dtype
            )
    for inner in body.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in inner.attribute}
        inputs = [names.get(name, "") for name in inner.input]
        names.update(
            zip(
                inner.output,
                node.emit_many(inner.op_type, inputs, len(inner.output), **attributes),
                strict=True,
            )
        )
    return [names[name] if name else "" for name in node.outputs]


def _alone(node: Site) -> onnx.ModelProto:
    """Return the node as a model of its own; what is constant stays so, what has a static shape keeps it."""
    known = node.draft.types
    inputs = [name for name in dict.fromkeys(node.inputs) if name]
    graph = helper.make_graph(
        [node.proto],
        "definition",
        [
            helper.make_tensor_value_info(name, known[name].dtype, known[name].shape)
            for name in inputs
            if name not in node.draft.constants
        ],
        [helper.make_tensor_value_info(name, known[name].dtype, None) for name in node.outputs if name],
        [numpy_helper.from_array(node.draft.constants[n], n) for n in inputs if n in node.draft.constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])

"""What a model declares: versions of the format and of operators, sizes of inputs and outputs, and how much of all."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import ModelProto, OperatorSetIdProto

from onnx_oto.errors import ModelError, UnsupportedError
from onnx_oto.model.graph.node import standard_domain
from onnx_oto.model.graph.order import MAX_NODES, bodies, graphs

MAX_LINKS, MAX_TENSORS = 10 * MAX_NODES, 3 * MAX_NODES
MAX_VISITS = 10**9
"""How often onnx's inference may look at a tensor: it looks at all of them for every body."""


def check_header(model: ModelProto) -> None:
    """Raise ModelError for versions that no model can have, UnsupportedError for those that are not known here."""
    if model.ir_version < 3:
        raise ModelError(f"IR version {model.ir_version} is older than operator sets: export the model again")
    if model.ir_version > onnx.IR_VERSION:
        raise UnsupportedError(
            f"IR version {model.ir_version} is newer than {onnx.IR_VERSION}, the newest that the installed onnx "
            f"{onnx.__version__} knows: update onnx, or export the model again"
        )
    if not model.opset_import:
        raise ModelError("it declares no operator set (opset_import is empty): export the model again")
    _check_opsets(model.opset_import, "it")
    for function in model.functions:
        _check_opsets(function.opset_import, f"function {function.name!r}")


def check_amount(model: ModelProto) -> None:
    """Raise UnsupportedError for a model of more nodes or tensors than analysis gets through in time."""
    lists = [model.graph.node, *(function.node for function in model.functions)]
    graphs = [model.graph]
    nodes = links = constants = 0
    while lists:
        found = lists.pop()
        if len(found) > MAX_NODES + MAX_TENSORS:
            nodes = len(found)
            break
        for node in found:
            is_constant = node.op_type == "Constant"
            nodes, constants = nodes + (not is_constant), constants + is_constant
            links += len(node.input) + len(node.output)
            inner = list(bodies(node))
            graphs.extend(inner)
            lists.extend(body.node for body in inner)
    weights = sum(len(tensor.dims) > 1 for graph in graphs for tensor in graph.initializer)
    tensors = constants + sum(
        len(graph.input) + len(graph.output) + len(graph.initializer) + len(graph.sparse_initializer)
        for graph in graphs
    )
    for count, most, what in (
        (nodes + 2 * weights, MAX_NODES, "nodes (one with a weight counts three times)"),
        (links, MAX_LINKS, "inputs and outputs of nodes"),
        (tensors, MAX_TENSORS, "inputs, outputs and constants"),
        (len(graphs) * (nodes + tensors), MAX_VISITS, "tensors to be looked for in its bodies"),
    ):
        if count > most:
            raise UnsupportedError(
                f"it has {count} {what}, more than the {most} that can be analysed in time"
            )


def _check_opsets(imports: Iterable[OperatorSetIdProto], who: str) -> None:
    """Refuse versions that no operator set has, or that are not known here, and two versions of one set."""
    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    found: dict[str, int] = {}
    for entry in imports:
        domain, version = standard_domain(entry.domain), entry.version
        name = domain or "ai.onnx"
        if version < 1:
            raise ModelError(
                f"{who} declares version {version} of operator set {name!r}: versions begin with 1"
            )
        if version > newest.get(domain, version):
            raise UnsupportedError(
                f"{who} declares version {version} of operator set {name!r}, newer than {newest[domain]}, the newest "
                f"that the installed onnx {onnx.__version__} knows: update onnx, or export with an older opset"
            )
        if found.setdefault(domain, version) != version:
            raise ModelError(
                f"{who} declares operator set {name!r} twice, versions {found[domain]} and {version}: "
                "which of them its nodes are of, nothing tells"
            )


def open_negative_sizes(model: ModelProto) -> None:
    """Open axes that inputs, outputs and value_info declare with a negative size, as exporters write them."""
    for graph in graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type
            while kind.HasField("sequence_type") or kind.HasField("optional_type"):
                kind = (
                    kind.sequence_type.elem_type
                    if kind.HasField("sequence_type")
                    else kind.optional_type.elem_type
                )
            for dim in kind.tensor_type.shape.dim if kind.HasField("tensor_type") else ():
                if dim.dim_value < 0:
                    dim.ClearField("dim_value")

"""What a model declares: the versions of the format and of operator sets, and sizes of inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import ModelProto, OperatorSetIdProto

from onnx_oto.errors import ModelError, UnsupportedError
from onnx_oto.model.node import standard_domain
from onnx_oto.model.order import bodies


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
    stack = [model.graph]
    while stack:
        graph = stack.pop()
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
        stack.extend(body for node in graph.node for body in bodies(node))

"""Copies that normal form made of an initializer, stored as one again where they are still the same."""

from __future__ import annotations

from onnx import ModelProto

from onnx_oto.model.graph.tensors import is_external, to_array
from onnx_oto.model.normal.origins import Origins


def share_copies(model: ModelProto, origins: Origins) -> int:
    """Let nodes read one initializer where they read equal copies of the same one, in place; return how many go.

    Equal: the same shape, type and bits. That they come from one tensor of the file is `origins`' word: tensors that
    are equal by accident stay apart. Neither outputs of the model nor bodies read such copies.
    """
    sources = {origin.name for origin in origins.found.values()}
    first: dict[tuple[object, ...], str] = {}
    instead: dict[str, str] = {}
    for tensor in model.graph.initializer:
        origin = origins.of(tensor.name)
        if tensor.name not in origins.found and tensor.name not in sources:
            continue
        if origin.index is not None or origin.folded or is_external(tensor):
            continue
        key = (origin.name, tensor.data_type, tuple(tensor.dims), to_array(tensor).tobytes())
        kept = first.setdefault(key, tensor.name)
        if kept != tensor.name:
            instead[tensor.name] = kept
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            node.input[position] = instead.get(name, name)
    kept_tensors = [tensor for tensor in model.graph.initializer if tensor.name not in instead]
    if instead:
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept_tensors)
    return len(instead)

"""Shape inference that trusts no stored shapes and follows shape arithmetic.

Rounds of two steps until nothing new is learned: onnx's own inference on a skeleton without weights, then a
walk that evaluates shape arithmetic on partly known values (`values`) and derives shapes from it (`claims`).
What becomes completely known enters the next round as a constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

from onnx_oto.errors import ModelError
from onnx_oto.model.check import first_lines
from onnx_oto.model.claims import merge
from onnx_oto.model.dims import Dim, Shape, symbols
from onnx_oto.model.node import read_nodes
from onnx_oto.model.skeleton import skeleton
from onnx_oto.model.tensors import element_count, from_array, is_external, to_array
from onnx_oto.model.values import MAX_ELEMENTS
from onnx_oto.model.walk import State, Walk

MAX_ROUNDS = 24
# A float constant above this may be a trained weight: nothing is computed from it.
WEIGHT_ELEMENTS = 1024
_NO_SIZE = {"", "?", "-1", "None", "*", "unknown"}


@dataclass(frozen=True)
class Knowledge:
    """What is known about tensors without running the model.

    `shapes` and `dtypes` cover every typed tensor. `values` holds computed values of small tensors that are
    no initializers: object dtype when partly known (see `values`), else numeric and complete.
    """

    shapes: dict[str, Shape | None]
    dtypes: dict[str, int]
    values: dict[str, np.ndarray]


def infer(model: ModelProto, *, strict: bool = False) -> Knowledge:
    """Return shapes, element types and values of a sorted model whose Constants are initializers.

    The argument is not modified. With `strict`, a node whose declared and inferred shapes contradict each
    other raises ModelError; otherwise its output is just unknown.
    """
    nodes = read_nodes(model)
    state = State(small_constants(model), _user_symbols(model))
    for _ in range(MAX_ROUNDS):
        before = len(state.known), dict(state.claimed)
        shapes, dtypes = _onnx_round(model, state, strict=False)
        values = Walk(shapes, dtypes, state).run(nodes)
        if before == (len(state.known), state.claimed):
            break
    if strict:
        _onnx_round(model, state, strict=True)
    return Knowledge(shapes, dtypes, values)


def small_constants(model: ModelProto) -> dict[str, np.ndarray]:
    """Return the initializers that arithmetic may use: no strings, nothing large enough to be a weight."""
    found = {}
    for tensor in model.graph.initializer:
        if is_external(tensor) or tensor.data_type == TensorProto.STRING:
            continue
        count = element_count(tensor)
        is_float = tensor.data_type not in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
        if count <= (WEIGHT_ELEMENTS if is_float else MAX_ELEMENTS):
            found[tensor.name] = to_array(tensor)
    return found


def _onnx_round(
    model: ModelProto, state: State, *, strict: bool
) -> tuple[dict[str, Shape | None], dict[str, int]]:
    bare = skeleton(model, _without_known(model.graph.node, state.known))
    given = {value.name for value in bare.graph.input}
    for position, value in enumerate(bare.graph.input):
        _name_open_sizes(value, position)
    for value in bare.graph.output:
        _forget_negative_sizes(value)
    produced = {name for node in bare.graph.node for name in node.output}
    for name, array in state.known.items():
        if name not in produced and name not in given:
            bare.graph.initializer.append(from_array(array, name))
    outputs = {value.name for value in bare.graph.output}
    for name, shape in state.claimed.items():
        if name not in outputs and name in produced:
            bare.graph.value_info.append(_claim_info(name, shape))
    try:
        inferred = onnx.shape_inference.infer_shapes(
            bare, check_type=strict, strict_mode=strict, data_prop=True
        )
    except (onnx.shape_inference.InferenceError, ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"shapes contradict each other: {first_lines(error)}") from None
    return _read(model, inferred, state)


def _without_known(nodes: Iterable[NodeProto], known: dict[str, np.ndarray]) -> list[NodeProto]:
    return [node for node in nodes if not all(name in known for name in node.output if name)]


def _claim_info(name: str, shape: Shape) -> ValueInfoProto:
    """A shape without an element type: onnx merges it with what it infers."""
    info = ValueInfoProto(name=name)
    target = info.type.tensor_type.shape
    for size in shape:
        dim = target.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        elif size is not None:
            dim.dim_param = size
    return info


def _read(
    model: ModelProto, inferred: ModelProto, state: State
) -> tuple[dict[str, Shape | None], dict[str, int]]:
    shapes: dict[str, Shape | None] = {}
    dtypes: dict[str, int] = {}
    graph = inferred.graph
    for value in (*graph.output, *graph.value_info, *graph.input):
        shapes[value.name] = merge(value_shape(value), shapes.get(value.name))
        dtypes[value.name] = value.type.tensor_type.elem_type
    for tensor in (*graph.initializer, *model.graph.initializer):
        shapes[tensor.name] = tuple(tensor.dims)
        dtypes[tensor.name] = tensor.data_type
    for name, shape in state.claimed.items():
        shapes[name] = merge(shapes.get(name), shape)
    return shapes, dtypes


def value_shape(value: ValueInfoProto) -> Shape | None:
    """Return a declared shape, None when the rank is unknown or the value is no tensor."""
    if not value.type.HasField("tensor_type") or not value.type.tensor_type.HasField("shape"):
        return None
    result: list[Dim] = []
    for dim in value.type.tensor_type.shape.dim:
        if dim.HasField("dim_value"):
            result.append(dim.dim_value if dim.dim_value >= 0 else None)
        else:
            result.append(None if dim.dim_param in _NO_SIZE else dim.dim_param)
    return tuple(result)


def _name_open_sizes(value: ValueInfoProto, position: int) -> None:
    """Give every unknown size of an input its own symbol. "?" twice does not mean two equal sizes."""
    shape = value_shape(value)
    if shape is None:
        return
    for axis, size in enumerate(shape):
        if size is None:
            value.type.tensor_type.shape.dim[axis].dim_param = f"input{position}_{axis}"


def _forget_negative_sizes(value: ValueInfoProto) -> None:
    for axis, size in enumerate(value_shape(value) or ()):
        if size is None:
            value.type.tensor_type.shape.dim[axis].Clear()


def _user_symbols(model: ModelProto) -> frozenset[str]:
    """Symbols that mean the same in every round; onnx numbers the others afresh each time."""
    found: set[str] = set()
    for position, value in enumerate(model.graph.input):
        for axis, size in enumerate(value_shape(value) or ()):
            found |= symbols(size) or {f"input{position}_{axis}"}
    return frozenset(found)

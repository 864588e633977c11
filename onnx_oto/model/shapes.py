"""Shape inference that trusts no stored shapes and follows shape arithmetic.

Rounds of two steps until nothing new is learned: onnx's own inference on a skeleton without weights, then a
walk that evaluates shape arithmetic on partly known values (`values`) and derives shapes from it (`claims`).
What becomes completely known enters the next round as a constant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto
from onnx.reference import ReferenceEvaluator

from onnx_oto.errors import ModelError
from onnx_oto.model.check import first_lines
from onnx_oto.model.claims import CLAIMS, merge
from onnx_oto.model.dims import Dim, Shape, known_size, product, symbols
from onnx_oto.model.node import Node, read_nodes
from onnx_oto.model.skeleton import skeleton
from onnx_oto.model.tensors import element_count, from_array, is_external, to_array
from onnx_oto.model.values import EVALUATORS, MAX_ELEMENTS, from_shape, is_known

MAX_ROUNDS = 24
MAX_FOLDED_BYTES = 65536
# A float constant above this may be a trained weight: nothing is computed from it.
WEIGHT_ELEMENTS = 1024
_NOT_REPEATABLE = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "Dropout",
}
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


@dataclass
class _State:
    """What the rounds have learned so far; everything in it is true of every run of the model."""

    constants: dict[str, np.ndarray]
    known: dict[str, np.ndarray] = field(default_factory=dict)
    claimed: dict[str, Shape] = field(default_factory=dict)


def infer(model: ModelProto, *, strict: bool = False) -> Knowledge:
    """Return shapes, element types and values of a sorted model whose Constants are initializers.

    The argument is not modified. With `strict`, a node whose declared and inferred shapes contradict each
    other raises ModelError; otherwise its output is just unknown.
    """
    nodes = read_nodes(model)
    state = _State(small_constants(model))
    stable = _user_symbols(model)
    for _ in range(MAX_ROUNDS):
        before = len(state.known), dict(state.claimed)
        shapes, dtypes = _onnx_round(model, state, strict=False)
        values = _walk(nodes, shapes, dtypes, state, stable)
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
    model: ModelProto, state: _State, *, strict: bool
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
    model: ModelProto, inferred: ModelProto, state: _State
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


def _walk(
    nodes: list[Node],
    shapes: dict[str, Shape | None],
    dtypes: dict[str, int],
    state: _State,
    stable: frozenset[str],
) -> dict[str, np.ndarray]:
    """Evaluate in order; adds to `state` and sharpens `shapes`. Returns the values of node outputs."""
    values = dict(state.constants)
    values.update(state.known)
    for node in nodes:
        if node.domain or all(name in state.known for name in node.outputs if name):
            continue
        _claim(node, shapes, values, state, stable)
        for name, value in zip(node.outputs, _evaluate(node, shapes, dtypes, values), strict=False):
            kept = _finish(value, name, shapes, dtypes)
            if kept is None:
                continue
            values[name] = kept
            if kept.dtype != object and kept.nbytes <= MAX_FOLDED_BYTES:
                state.known[name] = kept
    return {name: value for name, value in values.items() if name not in state.constants}


def _claim(
    node: Node,
    shapes: dict[str, Shape | None],
    values: dict[str, np.ndarray],
    state: _State,
    stable: frozenset[str],
) -> None:
    rule = CLAIMS.get(node.op)
    if rule is None or not node.outputs:
        return
    name = node.outputs[0]
    old = shapes.get(name)
    if old is not None and all(isinstance(size, int) for size in old):
        return
    claim = rule(node, shapes, values)
    if claim is None or (old is not None and len(old) != len(claim)):
        return
    shapes[name] = merge(claim, old)
    lasting = tuple(size if isinstance(size, int) or symbols(size) <= stable else None for size in claim)
    state.claimed[name] = merge(state.claimed.get(name), lasting) or lasting


def _evaluate(
    node: Node, shapes: dict[str, Shape | None], dtypes: dict[str, int], values: dict[str, np.ndarray]
) -> list[np.ndarray | None]:
    if node.op == "Shape":
        return [_shape_value(node, shapes)]
    if node.op == "Size":
        shape = shapes.get(node.input(0))
        size = None if shape is None else product(shape)
        return [None if size is None else from_shape((size,)).reshape(())]
    inputs = [_input_value(name, shapes, dtypes, values) for name in node.inputs]
    if not inputs or all(value is None for value in inputs):
        return []
    evaluator = EVALUATORS.get(node.op)
    try:
        result = evaluator(node, inputs) if evaluator is not None else None
    except (ValueError, IndexError, TypeError, OverflowError):
        result = None
    if result is None:
        return _reference(node, inputs, shapes)
    return list(result) if isinstance(result, list) else [result]


def _shape_value(node: Node, shapes: dict[str, Shape | None]) -> np.ndarray | None:
    shape = shapes.get(node.input(0))
    if shape is None:
        return None
    return from_shape(shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))])


def _input_value(
    name: str, shapes: dict[str, Shape | None], dtypes: dict[str, int], values: dict[str, np.ndarray]
) -> np.ndarray | None:
    """Return what is known; a small integer tensor of known shape is at least an array of unknowns."""
    if name in values:
        return values[name]
    if dtypes.get(name) not in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL):
        return None
    count = known_size(shapes.get(name))
    if count is None or count > 64:
        return None
    return np.full(shapes[name] or (), None, object)  # type: ignore[arg-type]


def _finish(
    value: np.ndarray | None, name: str, shapes: dict[str, Shape | None], dtypes: dict[str, int]
) -> np.ndarray | None:
    """Give a value its element type; drop it when it is too large, says nothing, or contradicts the shape."""
    if value is None or not name or value.size > MAX_ELEMENTS:
        return None
    shape = shapes.get(name)
    if shape is not None and len(shape) != value.ndim:
        return None
    if not is_known(value):
        return value if any(item is not None for item in value.flat) else None
    kind = dtypes.get(name)
    if not kind:
        return None if value.dtype == object else value
    with np.errstate(all="ignore"):
        typed = np.ascontiguousarray(value.astype(_np_dtype(kind))).reshape(value.shape)
    typed.flags.writeable = False
    return typed


def _reference(
    node: Node, inputs: list[np.ndarray | None], shapes: dict[str, Shape | None]
) -> list[np.ndarray | None]:
    """Evaluate an op without an evaluator of ours when all of its inputs are small constants.

    The output shapes must be known and small beforehand, so that nothing large is ever computed.
    """
    given = {name: value for name, value in zip(node.inputs, inputs, strict=True) if name}
    if node.op in _NOT_REPEATABLE or node.captured or any(_is_graph(v) for v in node.attrs.values()):
        return []
    if any(value is None or value.dtype == object for value in given.values()):
        return []
    sizes = [known_size(shapes.get(name)) for name in node.outputs if name]
    if any(size is None or size > MAX_ELEMENTS for size in sizes):
        return []
    proto = onnx.helper.make_node(node.op, list(node.inputs), list(node.outputs))
    for key, attr in node.attrs.items():
        proto.attribute.append(_attribute(key, attr))
    wanted = [name for name in node.outputs if name]
    try:
        graph = onnx.helper.make_graph(
            [proto],
            "one",
            [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in given],
            [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in wanted],
        )
        one = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", node.since)])
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(one).run(None, given)
    except Exception:
        # The reference implementation raises anything for what it does not cover: then nothing is known.
        return []
    results: dict[str, Any] = dict(zip(wanted, found, strict=True))
    return [r if isinstance(r := results.get(name), np.ndarray) else None for name in node.outputs]


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if isinstance(value, np.ndarray):
        return onnx.helper.make_attribute(name, from_array(value, name))
    if isinstance(value, list) and not value:
        return onnx.helper.make_attribute(name, value, attr_type=onnx.AttributeProto.INTS)
    return onnx.helper.make_attribute(name, value)


def _is_graph(value: Any) -> bool:
    return isinstance(value, onnx.GraphProto) or (
        isinstance(value, list) and any(_is_graph(v) for v in value)
    )


def _np_dtype(data_type: int) -> np.dtype[Any]:
    return onnx.helper.tensor_dtype_to_np_dtype(data_type)

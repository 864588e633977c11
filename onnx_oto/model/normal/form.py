"""Normal form: one spelling for what exporters write in many ways, so that every later part sees one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import NamedTuple

import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto

from onnx_oto.errors import ModelError, first_lines
from onnx_oto.machine import without_collecting
from onnx_oto.model.files.check import drop_inner_value_info
from onnx_oto.model.graph.constants import is_constant, store_densely, write_constant
from onnx_oto.model.graph.flat import flatten
from onnx_oto.model.graph.names import all_names, fresh, name_nodes
from onnx_oto.model.graph.node import opset_of, read_opsets, standard_domain
from onnx_oto.model.graph.order import (
    NOTHING,
    check_functions,
    delete,
    drop_dead,
    nodes_inside,
    sort_graph,
)
from onnx_oto.model.graph.skeleton import skeleton
from onnx_oto.model.graph.tensors import NARROW, from_array
from onnx_oto.model.normal.branches import take_known_branches
from onnx_oto.model.normal.derived import fold_derived
from onnx_oto.model.normal.folded import constant_part
from onnx_oto.model.normal.lifted import lift_bodies
from onnx_oto.model.normal.origins import Origins
from onnx_oto.model.normal.private import private_fills, private_vectors
from onnx_oto.model.normal.sequences import split_sequences
from onnx_oto.model.normal.training_mode import leave_training
from onnx_oto.model.shapes.inference import Knowledge, infer, small_constants
from onnx_oto.model.shapes.supposed import keep_stored, without
from onnx_oto.model.shapes.types import agree, tensor_type, type_shape

MAX_FOLDED_BYTES = 65536
MAX_SCALES = 8
_DEQUANTIZE = "DequantizeLinear"
_WIDENING = ("Cast", "CastLike", _DEQUANTIZE)
_ADDENDS = {"Conv": 2, "ConvTranspose": 2, "Gemm": 2}
"""The input that an operator adds to its result."""


class Normal(NamedTuple):
    """A model in normal form, and what is known about its tensors."""

    model: ModelProto
    knowledge: Knowledge


def normalise(model: ModelProto) -> ModelProto:
    """Return a copy in normal form; see `normal_form`."""
    return normal_form(model).model


@without_collecting()
def normal_form(
    model: ModelProto,
    *,
    in_place: bool = False,
    origins: Origins | None = None,
    switched: Counter[str] | None = None,
) -> Normal:
    """Return a model that computes the same function in normal form, and what its shapes are.

    in_place: turn the argument itself into it, which spares a copy of the weights; else it is not modified. origins:
    where to write down which initializer came from which, and what the model computes from constants. switched: where
    to count nodes that ran in training mode and were brought to inference form; without it, they stay as they are.

    - local functions are inlined, nodes are in topological order and have unique names, none is dead;
    - constants are dense initializers and no graph inputs (so `ir_version` is at least 4);
    - shape arithmetic whose result is known is folded into constants; of what derives from weights, only norms and
      reductions of them are (weight standardisation), and no weight is stored in more bits than it was;
    - a bias that was computed and is zero is left out: it is no parameter, though exporters write one;
    - tensors of bodies have names of their own, and constants of bodies are initializers of the graph;
    - an If whose condition is known gives way to its branch, a sequence of the parts of a split to a Split;
    - Identity of an initializer is gone, a vector or a filled tensor that several inputs read has one copy for each;
    - stored value_info is dropped where inference knows the rank, the declared shape of an output that contradicts
      the graph is corrected.

    Input and output names and order, opsets, metadata and doc strings stay.
    Raises ModelError, also for shapes that contradict each other.
    """
    result = model
    if not in_place:
        result = ModelProto()
        result.CopyFrom(model)
    held = list(
        result.graph.node
    )  # every pass asks for them, and protobuf makes those anew that nobody holds
    result.ir_version = max(result.ir_version, 4)
    store_densely(result)
    if switched is not None:
        switched.update(leave_training(result))
    _hoist_constants(result.graph)
    _inline_functions(result)
    _hoist_constants(result.graph)
    lift_bodies(result.graph)
    _drop_constant_inputs(result.graph)
    held[:] = result.graph.node
    for node in held:
        node.domain = standard_domain(node.domain)
    sort_graph(result.graph, NOTHING, "the graph")
    drop_inner_value_info(result)
    if origins is None:
        origins = Origins()
    else:
        origins.computed = constant_part(result)
    knowledge = _simplify(result, origins)
    keep_stored(result, knowledge.stored)
    _correct_outputs(result.graph, knowledge)
    drop_dead(result.graph)
    fold_derived(result, knowledge, origins)
    private_vectors(result, origins)
    private_fills(result, knowledge)
    name_nodes(result.graph)
    return Normal(result, _still_known(result, knowledge))


def _simplify(model: ModelProto, origins: Origins) -> Knowledge:
    """Fold what is known; a branch that becomes part of the graph may make more known. Return what is."""
    while True:
        _resolve_identities(model.graph)
        knowledge = infer(model, strict=True)
        _fold(model, knowledge, origins)
        proved = without(knowledge.shapes, knowledge.supposed)
        changed = split_sequences(model, knowledge.values, proved)
        if not take_known_branches(model.graph, knowledge.values) and not changed:
            return knowledge
        _hoist_constants(model.graph)
        sort_graph(model.graph, NOTHING, "the graph")


def _still_known(model: ModelProto, knowledge: Knowledge) -> Knowledge:
    """Return what is known of the tensors that are left, initializers that were copied or computed since included."""
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    made = {name for each in flatten(graph) for name in each.node.output if name}
    if not made <= knowledge.dtypes.keys():
        return infer(model)  # nodes were copied, or have outputs that nothing is known of
    left = {*weights, *made, *(value.name for value in graph.input)}
    shapes = {name: shape for name, shape in knowledge.shapes.items() if name in left}
    dtypes = {name: kind for name, kind in knowledge.dtypes.items() if name in left}
    for name, tensor in weights.items():
        shapes[name], dtypes[name] = tuple(tensor.dims), tensor.data_type
    values = {name: value for name, value in knowledge.values.items() if name in made}
    return replace(knowledge, shapes=shapes, dtypes=dtypes, values=values)


def _correct_outputs(graph: GraphProto, knowledge: Knowledge) -> None:
    """Declare the outputs' shapes anew where they contradict what is inferred, in place."""
    named = {size for value in graph.input for size in type_shape(value.type) or () if isinstance(size, str)}
    for value in graph.output:
        declared, found = type_shape(value.type), knowledge.shapes.get(value.name)
        if value.name in knowledge.supposed:
            continue
        if found is not None and (declared is None or not agree(declared, found)):
            shape = tuple(size if isinstance(size, int) or size in named else None for size in found)
            value.type.CopyFrom(tensor_type(knowledge.dtypes[value.name], shape))


def _inline_functions(model: ModelProto) -> None:
    """Expand local functions, in place; those that cannot be stay."""
    if not model.functions:
        return
    check_functions(model)
    try:
        inlined = onnx.inliner.inline_local_functions(skeleton(model), convert_version=True)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ModelError(f"local functions cannot be inlined: {first_lines(error)}") from None
    for field in ("functions", "opset_import"):
        del getattr(model, field)[:]
        getattr(model, field).extend(getattr(inlined, field))
    del model.graph.node[:]
    model.graph.node.extend(inlined.graph.node)


def _drop_constant_inputs(graph: GraphProto) -> None:
    constants = {tensor.name for tensor in graph.initializer}
    delete(graph.input, [i for i, value in enumerate(graph.input) if value.name in constants])


def _hoist_constants(graph: GraphProto) -> None:
    """Turn Constant nodes into initializers, in place. A graph output must come from a node, so it gets an Identity."""
    where = [index for index, node in enumerate(graph.node) if is_constant(node)]
    outputs = {value.name for value in graph.output}
    taken = all_names(graph) if where else set()
    for node in [graph.node[index] for index in where]:
        tensor = graph.initializer.add()
        write_constant(node, tensor)
        if tensor.name in outputs:
            tensor.name = fresh(f"{tensor.name}__constant", taken)
            link = onnx.helper.make_node("Identity", [tensor.name], list(node.output), name=node.name)
            graph.node.append(link)
    delete(graph.node, where)


def _resolve_identities(graph: GraphProto) -> None:
    """Let readers of an Identity of an initializer read the initializer itself."""
    if all(node.op_type != "Identity" for node in nodes_inside(graph.node)):
        return
    constants = {tensor.name for tensor in graph.initializer}
    alias: dict[str, str] = {}
    for node in nodes_inside(graph.node):
        for position, name in enumerate(node.input):
            if name in alias:
                node.input[position] = alias[name]
        if node.op_type == "Identity" and not node.domain and node.input[0] in constants:
            alias[node.output[0]] = node.input[0]


def _fold(model: ModelProto, knowledge: Knowledge, origins: Origins) -> None:
    """Turn completely known tensors into initializers, except graph outputs; the nodes that made them go."""
    graph = model.graph
    outputs = {value.name for value in graph.output}
    zeros: set[str] = set()
    wide = _widened(graph, knowledge)
    foldable = {name for name in knowledge.values if _is_foldable(name, knowledge)} - wide - outputs
    gone = [
        index
        for index, node in enumerate(graph.node if foldable else ())
        if (names := [name for name in node.output if name]) and foldable.issuperset(names)
    ]
    known = {n: v for n, v in knowledge.values.items() if v.dtype != object}
    if gone:
        known = {**small_constants(model), **known}
    opsets = read_opsets(model)
    for index in gone:
        node = graph.node[index]
        origins.moved(node, known, opsets)
        for name in filter(None, node.output):
            value = knowledge.values[name]
            graph.initializer.append(from_array(value, name))
            if not value.any():
                zeros.add(name)
    delete(graph.node, gone)
    _drop_addends(model, zeros)


def _widened(graph: GraphProto, knowledge: Knowledge) -> set[str]:
    """Return the tensors that are stored in fewer bits than they are computed with, and what is computed from them.

    A bfloat16 weight behind a Cast, or an int8 one behind a DequantizeLinear, stays what it is stored as. A few
    numbers (scales, sizes) are no weight; what a DequantizeLinear gives stays its own however small it is: runtimes
    fuse layers whose bias, too, comes from one.
    """
    narrow = {tensor.name for tensor in graph.initializer if tensor.data_type in NARROW}
    found: set[str] = set()
    if not narrow and all(node.op_type != _DEQUANTIZE for node in graph.node):
        return found
    for node in graph.node:
        if node.op_type == _DEQUANTIZE and not node.domain:
            found.update(node.output)
        reads = node.op_type in _WIDENING and not node.domain and node.input[0] in narrow
        if reads or not found.isdisjoint(node.input):
            values = {name: knowledge.values.get(name) for name in node.output if name}
            found.update(name for name, value in values.items() if value is None or value.size > MAX_SCALES)
    return found


def _drop_addends(model: ModelProto, zeros: set[str]) -> None:
    """Let no node add one of these tensors, where the operator's input is optional."""
    for node in model.graph.node if zeros else ():
        position = _ADDENDS.get(node.op_type, -1) if not node.domain else -1
        if not 0 < position == len(node.input) - 1 or node.input[position] not in zeros:
            continue
        declared = onnx.defs.get_schema(node.op_type, opset_of(model), "").inputs[position]
        if declared.option == onnx.defs.OpSchema.FormalParameterOption.Optional:
            del node.input[position]


def _is_foldable(name: str, knowledge: Knowledge) -> bool:
    value = knowledge.values.get(name)
    return value is not None and value.dtype != object and value.nbytes <= MAX_FOLDED_BYTES

"""Rows of the tables, and the models that hold them: one piece of graph, in several places of a small network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, parser

from hostile_corpus.case import ANY, INVALID, PRUNE, Build, Case, pair

OPSET, IR = 21, 10
NAME = "hostile"
"""Domain of our functions."""

CARRIERS = {
    "flat": ("float[N, 4] x", "float[N, 16] d", "h = MatMul (x, w1) a = Relu (h) d = MatMul (a, w2)"),
    "sequence": ("float[N, 6, 4] x", "float[N, 6, 16] d", "h = MatMul (x, w1) a = Relu (h) d = MatMul (a, w2)"),
    "image": ("float[N, 3, 8, 8] x", "float[N, 8, 8, 8] d", "h = Conv (x, w1) a = Relu (h) d = Conv (a, w2)"),
}  # fmt: skip
"""Two layers each, input and output declared: every channel between the layers is prunable."""
WEIGHTS = {"flat": ((4, 16), (16, 16)), "image": ((8, 3, 1, 1), (8, 8, 1, 1))}
WEIGHTS["sequence"] = WEIGHTS["flat"]

BESIDE, PATH, CHAIN, BODY, FUNCTION, DEAD = "beside", "path", "chain", "body", "function", "dead"


@dataclass(frozen=True)
class Row:
    """An operator and its poisons.

    text: "<constants> { nodes }" in onnx's text format, reading `d` (see CARRIERS) or nothing, making `z`; `$v` is the
    good value or one of the bad ones. gives: the element type of z. on: the carrier. codes: exit codes allowed where z
    is always computed. places: where the first bad value goes; the others go to one of them each.
    """

    name: str
    text: str
    good: str
    bad: Mapping[str, str]
    gives: str = "float"
    on: str = "flat"
    codes: frozenset[int] = INVALID
    places: tuple[str, ...] = (BESIDE, PATH, CHAIN, BODY, FUNCTION)
    domains: Mapping[str, int] = field(default_factory=dict)


def cases(kind: str, rows: tuple[Row, ...]) -> Iterator[Case]:
    """Yield one case per row, bad value and place."""
    for row in rows:
        twins = {where: pair(kind, "", builder(row, row.good, where), builder(row, row.good, where)).twin
                 for where in row.places}  # fmt: skip
        for i, (name, value) in enumerate(row.bad.items()):
            for where in row.places if i == 0 else (row.places[i % len(row.places)],):
                codes = ANY if where in (BODY, DEAD) else row.codes
                hostile = builder(row, value, where)
                yield pair(kind, f"{row.name}-{name}-{where}", hostile, twins[where], PRUNE, codes)


def builder(row: Row, value: str, where: str) -> Build:
    """Return a function that writes the model of a row into a folder."""
    return lambda folder: write(folder, placed(row, value, where))


def write(folder: Path, model: ModelProto | bytes, name: str = "m.onnx") -> None:
    """Write a model as it is: nothing is checked."""
    (folder / name).write_bytes(model if isinstance(model, bytes) else model.SerializeToString())


def carrier(name: str = "flat") -> ModelProto:
    """Return a valid model of two layers with channels to prune between them, weights seeded."""
    x, d, nodes = CARRIERS[name]
    model = parser.parse_model(
        f'<ir_version: {IR}, opset_import: ["": {OPSET}, "{NAME}": 1]> g ({x}) => ({d}) {{ {nodes} }}'
    )
    rng = np.random.default_rng(0)
    for weight, shape in zip(("w1", "w2"), WEIGHTS[name], strict=True):
        values = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, weight))
    return model


def placed(row: Row, value: str, where: str) -> ModelProto:
    """Return the carrier with the row's piece of graph in one of the places."""
    model = carrier(row.on)
    for domain, version in row.domains.items():
        model.opset_import.append(helper.make_opsetid(domain, version))
    text = Template(row.text).substitute(v=value)
    piece = parser.parse_graph(f"piece ({CARRIERS[row.on][1]}) => ({row.gives}[] z) {text}")
    reads = any("d" in node.input for node in piece.node)
    kind = piece.output[0].type.tensor_type.elem_type
    if where == CHAIN:
        _behind_nodes(piece)
    elif where == BODY:
        piece = _in_body(piece, kind)
        model.graph.input.append(helper.make_tensor_value_info("flag", TensorProto.BOOL, []))
    elif where == FUNCTION:
        piece = _in_function(model, piece, reads)
    model.graph.initializer.extend(piece.initializer)
    model.graph.node.extend(piece.node)
    if where == PATH:
        _onto_path(model, kind, reads)
    elif where != DEAD:
        model.graph.output.append(open_value("z", kind))
    return model


def open_value(name: str, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """Return the declaration of a tensor of any rank."""
    return helper.make_value_info(name, helper.make_tensor_type_proto(kind, None))


def _onto_path(model: ModelProto, kind: int, reads: bool) -> None:
    """Make the only output depend on z."""
    del model.graph.output[:]
    if reads:
        model.graph.output.append(open_value("z", kind))
        return
    model.graph.node.extend(
        [
            helper.make_node("Cast", ["z"], ["z_float"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["z_float"], ["z_most"], keepdims=0),
            helper.make_node("Add", ["d", "z_most"], ["y"]),
        ]
    )
    model.graph.output.append(open_value("y"))


def _behind_nodes(piece: GraphProto) -> None:
    """Let every constant come out of a chain of nodes."""
    first: list[NodeProto] = []
    for tensor in piece.initializer:
        name = tensor.name
        tensor.name = f"{name}_stored"
        first += [
            helper.make_node("Unsqueeze", [tensor.name, "axis_0"], [f"{name}_up"]),
            helper.make_node("Identity", [f"{name}_up"], [f"{name}_same"]),
            helper.make_node("Squeeze", [f"{name}_same", "axis_0"], [name]),
        ]
    piece.initializer.append(numpy_helper.from_array(np.array([0]), "axis_0"))
    nodes = [*first, *piece.node]
    del piece.node[:]
    piece.node.extend(nodes)


def _in_body(piece: GraphProto, kind: int) -> GraphProto:
    """Return an If on the input `flag` that computes the piece or, if not, a scalar."""
    then = helper.make_graph(list(piece.node), "then", [], [open_value("z", kind)], list(piece.initializer))
    then.node[-1].output[0] = "z_then"
    then.output[0].name = "z_then"
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Cast", ["one"], ["z_else"], to=kind),
    ]
    other = helper.make_graph(nodes, "else", [], [open_value("z_else", kind)])
    node = helper.make_node("If", ["flag"], ["z"], then_branch=then, else_branch=other)
    return helper.make_graph([node], "piece", [], [])


def _in_function(model: ModelProto, piece: GraphProto, reads: bool) -> GraphProto:
    """Return a call of a new function of the model that computes the piece."""
    inputs = ["d"] if reads else []
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in piece.initializer]
    domains = [helper.make_opsetid(entry.domain, entry.version) for entry in model.opset_import]
    nodes = [*constants, *piece.node]
    model.functions.append(helper.make_function(NAME, "Piece", inputs, ["z"], nodes, domains))
    call = helper.make_node("Piece", inputs, ["z"], domain=NAME)
    return helper.make_graph([call], "piece", [], [])

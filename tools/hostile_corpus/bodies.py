"""Loops without end, bodies in bodies, functions that call themselves or each other too often, maps that grow."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper, parser

from hostile_corpus import wire
from hostile_corpus.case import ANY, INVALID, PRUNE, Build, Case, pair
from hostile_corpus.placing import NAME, OPSET, carrier, open_value, write
from hostile_corpus.structure import edited

TERA = 10**12
FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def cases() -> Iterator[Case]:
    """Yield all cases of this module."""
    for kind, body in _LOOPS.items():
        for place in ("beside", "path"):
            yield pair("loops", f"{kind}-{place}", _loop(body, TERA, place), _loop(body, 3, place))
    yield pair("loops", "most-trips", _loop(_LOOPS["state"], 2**63 - 1), _loop(_LOOPS["state"], 3))
    yield pair("loops", "negative-trips", _loop(_LOOPS["state"], -5), _loop(_LOOPS["state"], 3), PRUNE, ANY)
    yield pair("loops", "endless-while", _while(True), _while(False))
    yield pair("loops", "nested", _nested_loops(10**6), _nested_loops(2))
    yield pair("loops", "scan-tera", _scan(TERA), _scan(4))
    yield pair("ifs", "20-deep", _flagged(_ifs, 20), _flagged(_ifs, 2), PRUNE, ANY)
    for depth in (90, 200, 20_000):
        yield pair("ifs", f"{depth}-deep-by-hand", _if_bytes(depth), _if_bytes(2), PRUNE, ANY)
    yield pair("ifs", "twofold-14-deep", _flagged(_if_tree, 14), _flagged(_if_tree, 2), PRUNE, ANY)
    yield pair("ifs", "type-5000-deep", _type_bytes(5000), _type_bytes(0))
    for name, hostile, twin, codes in _FUNCTIONS:
        yield pair("functions", name, _calling(hostile), _calling(twin), PRUNE, codes)
    for levels in (0, 1, 2, 3):
        yield pair(
            "maps", f"attention-open-{levels}", _attention(levels, True), _attention(0, False), PRUNE, ANY
        )
    yield pair("maps", "attention-64", _attention(3, False), _attention(0, False), PRUNE, ANY)
    for times, codes in ((6, ANY), (12, ANY), (30, INVALID)):
        yield pair("maps", f"upsampled-{times}-times", _upsampled(times), _upsampled(1), PRUNE, codes)
    yield pair("maps", "upsampled-open", _upsampled(8, sizes="H, W"), _upsampled(1), PRUNE, ANY)


def _body(text: str) -> GraphProto:
    return parser.parse_graph(text)


_LOOPS = {
    "state": "b (int64 i, bool c, float[1] s) => (bool c2, float[1] s2) { c2 = Identity (c) s2 = Cos (s) }",
    "scan-output": "b (int64 i, bool c, float[1] s) => (bool c2, float[1] s2, float[1] o) "
    "{ c2 = Identity (c) s2 = Cos (s) o = Identity (s2) }",
    "growing": "b (int64 i, bool c, float[] s) => (bool c2, float[] s2) "
    "{ c2 = Identity (c) s2 = Concat <axis = 0> (s, s) }",
}


def _loop(body: str, trips: int, place: str = "beside") -> Build:
    """Return a builder: a Loop over constants, or over what the network computes."""

    def edit(model: ModelProto) -> None:
        graph = _body(body)
        results = ["z", "z_each"][: len(graph.output) - 1]
        first = ["loop_first"]
        if place == "path":
            shape = numpy_helper.from_array(np.array([-1]), "flat")
            model.graph.initializer.append(shape)
            model.graph.node.append(helper.make_node("Reshape", ["d", "flat"], ["d_flat"]))
            for value in (graph.input[2], *graph.output[1:]):
                value.type.tensor_type.ClearField("shape")
            first = ["d_flat"]
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.array(trips), "trips"),
                numpy_helper.from_array(np.array(True), "go"),
                numpy_helper.from_array(np.ones(1, np.float32), "loop_first"),
            ]
        )
        model.graph.node.append(helper.make_node("Loop", ["trips", "go", *first], results, body=graph))
        if place == "path":
            del model.graph.output[:]
        model.graph.output.extend(open_value(name) for name in results)

    return edited(edit)


def _while(go_on: bool) -> Build:
    """Return a builder: a Loop without a trip count that ends when its body says so."""
    again = "c2 = Identity (c)" if go_on else "c2 = Not (c)"

    def edit(model: ModelProto) -> None:
        graph = _body(f"b (int64 i, bool c, float[1] s) => (bool c2, float[1] s2) {{ {again} s2 = Cos (s) }}")
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "go"))
        model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "loop_first"))
        model.graph.node.append(helper.make_node("Loop", ["", "go", "loop_first"], ["z"], body=graph))
        model.graph.output.append(open_value("z"))

    return edited(edit)


def _nested_loops(trips: int) -> Build:
    """Return a builder: three loops in each other."""

    def edit(model: ModelProto) -> None:
        graph = _body(_LOOPS["state"])
        for level in range(2):
            node = helper.make_node("Loop", ["trips", "go", f"s_{level}"], [f"s2_{level}"], body=graph)
            same = helper.make_node("Identity", [f"c_{level}"], [f"c2_{level}"])
            inputs = [
                helper.make_tensor_value_info(f"i_{level}", INT64, []),
                helper.make_tensor_value_info(f"c_{level}", BOOL, []),
                helper.make_tensor_value_info(f"s_{level}", FLOAT, [1]),
            ]
            outputs = [
                helper.make_tensor_value_info(f"c2_{level}", BOOL, []),
                helper.make_tensor_value_info(f"s2_{level}", FLOAT, [1]),
            ]
            graph = helper.make_graph([same, node], f"b{level}", inputs, outputs)
        model.graph.initializer.extend(
            [
                numpy_helper.from_array(np.array(trips), "trips"),
                numpy_helper.from_array(np.array(True), "go"),
                numpy_helper.from_array(np.ones(1, np.float32), "loop_first"),
            ]
        )
        model.graph.node.append(helper.make_node("Loop", ["trips", "go", "loop_first"], ["z"], body=graph))
        model.graph.output.append(open_value("z"))

    return edited(edit)


def _scan(length: int) -> Build:
    """Return a builder: a Scan over a computed sequence."""

    def edit(model: ModelProto) -> None:
        graph = _body(
            "b (float[1] s, float[1] e) => (float[1] s2, float[1] o) { s2 = Add (s, e) o = Cos (s2) }"
        )
        model.graph.initializer.append(numpy_helper.from_array(np.array([length, 1]), "lengths"))
        model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float32), "scan_first"))
        model.graph.node.append(helper.make_node("ConstantOfShape", ["lengths"], ["elements"]))
        model.graph.node.append(
            helper.make_node("Scan", ["scan_first", "elements"], ["z", "each"], body=graph, num_scan_inputs=1)
        )
        model.graph.output.append(open_value("z"))

    return edited(edit)


def _if(flag: str, then: GraphProto, other: GraphProto, output: str) -> NodeProto:
    return helper.make_node("If", [flag], [output], then_branch=then, else_branch=other)


def _leaf(op: str, name: str) -> GraphProto:
    return helper.make_graph([helper.make_node(op, ["d"], [name])], name, [], [open_value(name)])


def _flagged(make: Callable[[int], NodeProto], depth: int) -> Build:
    """Return a builder: the If that `make` makes, on a flag that is an input."""

    def edit(model: ModelProto) -> None:
        node = make(depth)
        node.output[0] = "z"
        model.graph.input.append(helper.make_tensor_value_info("flag", BOOL, []))
        model.graph.node.append(node)
        model.graph.output.append(open_value("z"))

    return edited(edit)


def _ifs(depth: int) -> NodeProto:
    """Return an If in the branch of an If, and so on."""
    graph = _leaf("Identity", "leaf")
    for level in range(depth):
        node = _if("flag", graph, _leaf("Neg", f"other_{level}"), f"deep_{level}")
        graph = helper.make_graph([node], f"level_{level}", [], [open_value(f"deep_{level}")])
    return graph.node[0]


def _if_tree(depth: int) -> NodeProto:
    """Return an If in both branches of an If, and so on."""
    count = iter(range(2 ** (depth + 2)))

    def grown(level: int) -> GraphProto:
        name = f"tree_{next(count)}"
        if not level:
            return _leaf("Neg", name)
        node = _if("flag", grown(level - 1), grown(level - 1), name)
        return helper.make_graph([node], name, [], [open_value(name)])

    return grown(depth).node[0]


def _if_bytes(depth: int) -> Build:
    """Return a builder of `_ifs` deeper than the protobuf library writes: one branch of each If is nested."""
    declared = wire.field(wire.GRAPH_OUTPUT, open_value("o").SerializeToString())
    name = wire.field(wire.GRAPH_NAME, "b")
    leaf = wire.field(wire.GRAPH_NODE, wire.node("Identity", ["d"], ["o"])) + name + declared

    def build(folder: Path) -> None:
        head, tail = [], []
        size = len(leaf)
        sizes = []
        other = wire.graph_attribute("else_branch", leaf)
        fixed = wire.node("If", ["flag"], ["o"], [other])
        for _ in range(depth):  # lengths come before contents, so they are counted from the inside out
            sizes.append(size)
            attribute = _attribute_size(size)
            node = len(fixed) + attribute + len(wire.varint(attribute)) + 1
            size = node + len(wire.varint(node)) + 1 + len(name) + len(declared)
        for size in reversed(sizes):
            attribute = _attribute_size(size)
            node = len(fixed) + attribute + len(wire.varint(attribute)) + 1
            head.append(wire.varint(wire.GRAPH_NODE << 3 | 2) + wire.varint(node) + fixed)
            head.append(wire.varint(wire.NODE_ATTRIBUTE << 3 | 2) + wire.varint(attribute))
            head.append(wire.field(1, "then_branch") + wire.field(20, 5))
            head.append(wire.varint(6 << 3 | 2) + wire.varint(size))
            tail.append(name + declared)
        graph = b"".join(head) + leaf + b"".join(tail)
        inner = graph[: len(graph) - len(name) - len(declared)]  # the outermost node alone
        flag = helper.make_tensor_value_info("flag", BOOL, []).SerializeToString()
        more = wire.in_graph(
            [
                inner,
                wire.field(wire.GRAPH_INPUT, flag),
                wire.field(wire.GRAPH_OUTPUT, open_value("o").SerializeToString()),
            ]
        )
        write(folder, carrier().SerializeToString() + more)

    return build


def _attribute_size(graph: int) -> int:
    return len(wire.field(1, "then_branch") + wire.field(20, 5)) + 1 + len(wire.varint(graph)) + graph


def _type_bytes(depth: int) -> Build:
    """Return a builder: one more input, a sequence of sequences of ..."""

    def build(folder: Path) -> None:
        kind = helper.make_tensor_type_proto(FLOAT, [1]).SerializeToString()
        for _ in range(depth):
            kind = wire.field(4, wire.field(1, kind))
        more = wire.in_graph([wire.field(wire.GRAPH_INPUT, wire.field(1, "deep") + wire.field(2, kind))])
        write(folder, carrier().SerializeToString() + more)

    return build


def _function(name: str, nodes: list[NodeProto], outputs: tuple[str, ...] = ("q",)) -> FunctionProto:
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid(NAME, 1)]
    return helper.make_function(NAME, name, ["p"], list(outputs), nodes, domains)


def _call(name: str, source: str = "p", target: str = "q") -> NodeProto:
    return helper.make_node(name, [source], [target], domain=NAME)


def _calling(functions: tuple[FunctionProto, ...]) -> Build:
    """Return a builder: a call of the last function beside the network."""

    def edit(model: ModelProto) -> None:
        model.functions.extend(functions)
        model.graph.node.append(_call(functions[-1].name, "d", "z"))
        model.graph.output.append(open_value("z"))

    return edited(edit)


def _fan(levels: int, calls: int) -> tuple[FunctionProto, ...]:
    """Return functions that each call the one before several times, in a row."""
    functions = [_function("F0", [helper.make_node("Relu", ["p"], ["q"])])]
    for level in range(1, levels):
        names = ["p", *(f"t{i}" for i in range(1, calls)), "q"]
        nodes = [_call(f"F{level - 1}", a, b) for a, b in itertools.pairwise(names)]
        functions.append(_function(f"F{level}", nodes))
    return tuple(functions)


def _recursive_body() -> tuple[FunctionProto, ...]:
    def branch(name: str) -> GraphProto:
        return helper.make_graph([_call("A", "p", name)], name, [], [open_value(name)])

    flag = helper.make_node("Constant", [], ["go"], value=numpy_helper.from_array(np.array(True)))
    return (_function("A", [flag, _if("go", branch("o1"), branch("o2"), "q")]),)


_RELU = helper.make_node("Relu", ["p"], ["q"])
_ONE = (_function("A", [_RELU]),)
_TWO = (_function("A", [_RELU]), _function("B", [_call("A")]))
_FUNCTIONS: tuple[tuple[str, tuple[FunctionProto, ...], tuple[FunctionProto, ...], frozenset[int]], ...] = (
    ("calls-itself", (_function("A", [_call("A")]),), _ONE, INVALID),
    ("call-each-other", (_function("A", [_call("B")]), _function("B", [_call("A")])), _TWO, INVALID),
    ("calls-itself-in-a-body", _recursive_body(), _ONE, INVALID),
    ("calls-a-stranger", (_function("A", [_call("Nobody")]),), _ONE, INVALID),
    ("1e12-nodes", _fan(13, 10), _fan(3, 2), INVALID),
    ("7e5-nodes", _fan(6, 15), _fan(3, 2), ANY),
    ("3000-deep", _fan(3000, 1), _fan(3, 1), ANY),
    ("named-twice", (*_ONE, _function("A", [helper.make_node("Neg", ["p"], ["q"])])), _ONE, INVALID),
    ("output-undefined", (_function("A", [helper.make_node("Relu", ["p"], ["r"])]),), _ONE, INVALID),
    ("output-twice", (_function("A", [_RELU], ("q", "q")),), _ONE, INVALID),
    ("written-twice", (_function("A", [_RELU, _RELU]),), _ONE, INVALID),
    ("cycle", (_function("A", [helper.make_node("Add", ["p", "q"], ["q"])]),), _ONE, INVALID),
    ("empty", (_function("A", []),), _ONE, INVALID),
)


def _attention(levels: int, is_open: bool) -> Build:
    """Return a builder: attention over all pixels of a map (sizes open, or 8) that was doubled `levels` times."""
    sizes = "H, W" if is_open else "8, 8"
    nodes = ["e0 = Conv (x, w1)", *(f"e{i + 1} = Resize (e{i}, , twice)" for i in range(levels))]
    text = f"""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[N, 3, {sizes}] x) => (float[] y)
        <float[4] twice = {{1.0, 1.0, 2.0, 2.0}}, int64[3] flat = {{0, 8, -1}},
         float[8, 3, 1, 1] w1, float[8, 8] w2, float[8, 2] w3>
        {{ {" ".join(nodes)} t = Reshape (e{levels}, flat)
          rows = Transpose <perm = [0, 2, 1]> (t) keys = MatMul (rows, w2) columns = Transpose <perm = [0, 2, 1]> (keys)
          products = MatMul (rows, columns) shares = Softmax <axis = -1> (products) mixed = MatMul (shares, rows)
          y = MatMul (mixed, w3) }}"""
    return _with_weights(text)


def _upsampled(times: int, sizes: str = "8, 8") -> Build:
    """Return a builder: two layers with a map between them that is enlarged by 4, `times` times."""
    nodes = [f"e{i + 1} = Resize (e{i}, , four)" for i in range(times)]
    text = f"""
        <ir_version: 10, opset_import: ["": 21]>
        g (float[1, 3, {sizes}] x) => (float[] y)
        <float[4] four = {{1.0, 1.0, 4.0, 4.0}}, float[8, 3, 1, 1] w1, float[2, 8, 1, 1] w2>
        {{ e0 = Conv (x, w1) {" ".join(nodes)} y = Conv (e{times}, w2) }}"""
    return _with_weights(text)


def _with_weights(text: str) -> Build:
    """Return a builder of a model, every tensor that is only declared being a weight of normal numbers."""

    def build(folder: Path) -> None:
        model = parser.parse_model(text)
        rng = np.random.default_rng(0)
        for value in model.graph.value_info:
            shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            weight = rng.standard_normal(shape).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(weight, value.name))
        del model.graph.value_info[:]
        write(folder, model)

    return build

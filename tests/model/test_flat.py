"""Bodies laid out beside the graph around them, and put together again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from contract.exactness import outputs
from onnx import helper, numpy_helper

from onnx_oto.model import normalise
from onnx_oto.model.graph.flat import BODIES, Nest, flatten
from onnx_oto.model.graph.order import graphs, nodes_inside
from onnx_oto.model.view import graph

NESTED = (
    "g (float[2,3] x, bool c, int64 m) => (float[2,3] y, float[T,2,3] z) { a = Relu(x) y, z = Loop (m, c, a)"
    " <body = b (int64 i, bool go, float[2,3] s) => (bool on, float[2,3] r, float[2,3] e)"
    " { on = Identity(go) r = If (go) <then_branch = t () => (float[2,3] p) { p = Neg(s) },"
    " else_branch = u () => (float[2,3] q) { h = Add(s, a) q = Abs(h) }> e = Tanh(r) }> }"
)
FED = np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)
SCAN = (
    "g (float[2,3] s0, float[5,2,3] x) => (float[2,3] y, float[5,2,3] z) { y, z = Scan (s0, x) <num_scan_inputs = 1,"
    " body = b (float[2,3] s, float[2,3] part) => (float[2,3] r, float[2,3] e) { r = Add(s, part) e = Neg(r) }> }"
)


@pytest.mark.parametrize("text", [NESTED, SCAN])
def test_what_was_laid_out_is_put_together_as_it_was(parse, text):
    model = normalise(parse(text))
    placed = flatten(model.graph)
    assert len(placed) > len(model.graph.node)
    nest = Nest(placed, [each.node for each in placed], lambda name: None)
    assert _without_sizes(nest.built()) == _without_sizes(model.graph.node)


def _without_sizes(nodes):
    copy = helper.make_graph(nodes, "g", [], [])
    for inner in graphs(copy):
        for value in (*inner.input, *inner.output):
            value.type.tensor_type.ClearField("shape")
    return copy


def test_every_tensor_stands_behind_what_it_is_computed_from(parse):
    model = normalise(parse(NESTED))
    made = {value.name for value in model.graph.input}
    for each in flatten(model.graph):
        assert made.issuperset(filter(None, each.node.input)), each.node.name
        made |= set(each.node.output)
    ops = [(each.node.op_type, len(each.path)) for each in flatten(model.graph)]
    assert ops == [
        ("Relu", 0), ("LoopEntry", 0), ("Identity", 1), ("Neg", 2), ("Add", 2), ("Abs", 2), ("If", 1), ("Tanh", 1),
        ("Loop", 0),
    ]  # fmt: skip


def test_a_node_of_other_inputs_than_its_body_needs_stays_whole(parse):
    model = normalise(parse(NESTED))
    del model.graph.node[1].input[2]
    assert [each.node.op_type for each in flatten(model.graph)] == ["Relu", "Loop"]


def test_bodies_with_names_of_the_graph_stay_whole(parse):
    model = parse(NESTED.replace("h = Add(s, a) q = Abs(h)", "a = Add(s, s) q = Abs(a)"))
    assert len(flatten(model.graph)) == 2
    assert len(flatten(normalise(model).graph)) == 9


def test_a_new_node_lies_where_what_it_reads_is_made(parse):
    model = normalise(parse(NESTED))
    placed = flatten(model.graph)
    new = [
        helper.make_node("Neg", [name], [f"{name}_new"], name=f"new_{name}") for name in ("x", "s", "h", "y")
    ]
    nest = Nest(placed, [*(each.node for each in placed), *new], lambda name: None)
    outer = nest.built()
    loop = next(node for node in outer if node.op_type == "Loop")
    body = loop.attribute[0].g
    inner = next(node for node in body.node if node.op_type == "If")
    last = next(a.g for a in inner.attribute if a.name == "else_branch")
    assert {node.name for node in outer if node.name.startswith("new")} == {"new_x", "new_y"}
    assert [node.name for node in body.node if node.name.startswith("new")] == ["new_s"]
    assert [node.name for node in last.node if node.name.startswith("new")] == ["new_h"]


def test_declared_sizes_follow(parse):
    model = normalise(parse(NESTED))
    placed = flatten(model.graph)
    built = Nest(placed, [p.node for p in placed], lambda name: [2, 1] if name == "s" else None).built()
    body = built[1].attribute[0].g
    sizes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*body.input, *body.output)
    }
    assert sizes == {"i": [], "go": [], "s": [2, 1], "on": [], "r": [0, 0], "e": [0, 0]}


def test_the_view_has_bodies_only_where_it_is_asked(parse):
    model = normalise(parse(NESTED))
    assert [node.op for node in graph(model).nodes] == ["Relu", "Loop"]
    view = graph(model, laid_out=True)
    assert {node.domain for node in view.nodes if node.op in ("Loop", "LoopEntry", "If")} == {BODIES}
    assert {"s", "go", "a"} <= view.captured
    assert "x" not in view.captured


# --- names and constants --------------------------------------------------------------------------------------------
def test_names_that_hide_others_become_unique(parse, same_function):
    text = (
        "g (float[2,3] x, bool c) => (float[2,3] y) { a = Relu(x) k = If (c)"
        " <then_branch = t () => (float[2,3] a) { a = Neg(x) },"
        " else_branch = e () => (float[2,3] a) { b = If (c) <then_branch = t2 () => (float[2,3] a) { a = Abs(x) },"
        " else_branch = e2 () => (float[2,3] w) { w = Exp(x) }> a = Tanh(b) }> y = Add(a, k) }"
    )
    model = parse(text)
    normal = normalise(model)
    made = [name for node in nodes_inside(normal.graph.node) for name in node.output]
    assert len(made) == len(set(made))
    for condition in (True, False):
        same_function(model, normal, {"x": FED, "c": np.array(condition)})


def test_bodies_stay_whole_where_an_initializer_hides_an_outer_tensor(parse):
    """The onnx checker accepts it, and onnxruntime reads now the one, now the other."""
    text = (
        "g (float[2,3] x, bool c) => (float[2,3] y) <float[3] k = {1,2,3}> { y = If (c)"
        " <then_branch = t () => (float[2,3] p) <float[3] k = {4,5,6}> { p = Add(x, k) },"
        " else_branch = e () => (float[2,3] q) <float[3] j = {7,8,9}> { q = Add(x, j) }> }"
    )
    model = parse(text)
    onnx.checker.check_model(model)
    normal = normalise(model)
    assert [each.node.op_type for each in flatten(normal.graph)] == ["If"]
    for condition in (True, False):
        feed = {"x": FED, "c": np.array(condition)}
        np.testing.assert_array_equal(outputs(model, feed), outputs(normal, feed))


def test_constants_of_bodies_are_the_graphs(parse, same_function):
    text = (
        "g (float[2,3] x, bool c) => (float[2,3] y) { y = If (c)"
        " <then_branch = t () => (float[2,3] p) <float[3] k = {4,5,6}>"
        " { j = Constant<value = float[1] {7}>() a = Add(x, k) p = Mul(a, j) },"
        " else_branch = e () => (float[2,3] q) { q = Constant<value = float[2,3] {1,1,1,2,2,2}>() }> }"
    )
    model = parse(text)
    normal = normalise(model)
    assert all(not inner.initializer for inner in list(graphs(normal.graph))[1:])
    assert "Constant" not in {node.op_type for node in nodes_inside(normal.graph.node)}
    values = [numpy_helper.to_array(t).reshape(-1).tolist() for t in normal.graph.initializer]
    assert {tuple(v) for v in values} == {(4, 5, 6), (7,), (1, 1, 1, 2, 2, 2)}
    for condition in (True, False):
        same_function(model, normal, {"x": FED, "c": np.array(condition)})


def test_nodes_with_bodies_get_names_of_their_own(parse):
    """Names say in which body a node lies, from the first inference on."""
    branch = (
        "If (c) <then_branch = t{i} () => (float[2,3] p{i}) {{ p{i} = Neg(x) }},"
        " else_branch = e{i} () => (float[2,3] q{i}) {{ q{i} = Abs(x) }}>"
    )
    text = "g (float[2,3] x, bool c) => (float[2,3] y) {{ a = {0} b = {1} y = Add(a, b) }}"
    model = parse(text.format(branch.format(i=0), branch.format(i=1)))
    for node in model.graph.node:
        node.name = "same"
    normal = normalise(model)
    names = [node.name for node in nodes_inside(normal.graph.node)]
    assert len(names) == len(set(names)) == 7
    assert len({each.path for each in flatten(normal.graph)}) == 5
    assert [len(each.path) for each in flatten(model.graph)] == [0, 0, 0]

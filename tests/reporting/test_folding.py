"""Any graph becomes at most so many boxes, whatever it is like, and no box is lost, and there are no cycles."""

from __future__ import annotations

import time

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_oto.model import Graph, Node, graph, normal_form
from onnx_oto.reporting.folding import Block, Folded, fold, operators


def made(nodes: list[tuple[str, list[str], str]], weights: dict[str, tuple[int, ...]]) -> Graph:
    """Return a graph of (operator, inputs, output) whose last node makes the output."""
    inner = helper.make_graph(
        [helper.make_node(op, inputs, [output], name=f"n_{output}") for op, inputs, output in nodes],
        "g",
        [helper.make_tensor_value_info("x", 1, ["N", 8])],
        [helper.make_tensor_value_info(nodes[-1][2], 1, None)],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )
    model = helper.make_model(inner, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    normal = normal_form(model, in_place=True)
    return graph(normal.model, normal.knowledge)


def blocks(count: int, widths: tuple[int, ...] = (8,)) -> Graph:
    """Return `count` blocks MatMul, Relu, MatMul, Add, one behind the other; inner widths take turns."""
    nodes: list[tuple[str, list[str], str]] = []
    weights: dict[str, tuple[int, ...]] = {}
    at = "x"
    for i in range(count):
        width = widths[i % len(widths)]
        weights |= {f"a{i}": (8, width), f"b{i}": (width, 8)}
        nodes += [
            ("MatMul", [at, f"a{i}"], f"p{i}"),
            ("Relu", [f"p{i}"], f"q{i}"),
            ("MatMul", [f"q{i}", f"b{i}"], f"r{i}"),
            ("Add", [f"r{i}", at], f"s{i}"),
        ]
        at = f"s{i}"
    return made(nodes, weights)


def is_layer(node: Node) -> bool:
    return node.op == "MatMul"


def check(folded: Folded, whole: Graph, most: int) -> None:
    """Require that every node is in one box, that edges lead forwards, and that there are few boxes."""
    names = [node.name for box in folded.boxes for node in box.every]
    assert sorted(names) == sorted(node.name for node in whole.nodes)
    assert len(folded.boxes) <= most
    assert all(a < b for a, b in folded.edges)


def test_few_boxes_stay_as_they_are_and_take_in_what_only_they_feed() -> None:
    whole = blocks(2)
    folded = fold(whole, is_layer, 200)
    check(folded, whole, 200)
    assert [operators(box.nodes) for box in folded.boxes] == [
        {"MatMul": 1, "Relu": 1}, {"MatMul": 1, "Add": 1}, {"MatMul": 1, "Relu": 1}, {"MatMul": 1}, {"Add": 1},
    ]  # fmt: skip
    assert folded.edges == ((0, 1), (1, 2), (1, 4), (2, 3), (3, 4))


def test_blocks_that_repeat_are_told_once() -> None:
    """The first one reads the input in place of a block, and has a box less."""
    whole = blocks(100)
    folded = fold(whole, is_layer, 20)
    check(folded, whole, 20)
    assert folded.blocks == (Block(2, 5, 99),)
    assert [box.times for box in folded.boxes] == [1, 1, 99, 99, 99]
    assert len(folded.boxes[2].copies) == 98 * 2
    assert folded.edges == ((0, 1), (1, 2), (1, 4), (2, 3), (3, 4))


def test_blocks_that_take_turns_fold_as_a_whole_and_inside() -> None:
    whole = blocks(60, (4, 6, 8, 10, 12, 14, 16))
    wide = fold(whole, is_layer, 40)
    check(wide, whole, 40)
    assert wide.blocks == (Block(2, 23, 8),)
    narrow = fold(whole, is_layer, 30)
    check(narrow, whole, 30)
    assert narrow.blocks == (Block(2, 5, 56),)
    assert narrow.boxes[2].times == 56
    check(fold(whole, is_layer, 5), whole, 5)


def test_what_never_repeats_is_told_together() -> None:
    rng = np.random.default_rng(0)
    nodes, weights, outputs = [], {}, ["x"]
    for i in range(300):
        op = str(rng.choice(["MatMul", "Relu", "Tanh", "Add"]))
        first = outputs[int(rng.integers(max(0, len(outputs) - 9), len(outputs)))]
        second = outputs[int(rng.integers(0, len(outputs)))]
        if op == "MatMul":
            weights[f"w{i}"], second = (8, 8), f"w{i}"
        nodes.append((op, [first, second] if op in ("MatMul", "Add") else [first], f"t{i}"))
        outputs.append(f"t{i}")
    used = {name for _, inputs, _ in nodes for name in inputs}
    loose = [name for name in outputs[:-1] if name not in used]
    for number, name in enumerate(loose):
        nodes.append(("Add", [outputs[-1], name], f"u{number}"))
        outputs.append(f"u{number}")
    whole = made(nodes, weights)
    for most in (200, 40, 7, 1):
        check(fold(whole, is_layer, most), whole, most)


def test_thousands_of_nodes_take_no_time() -> None:
    whole = blocks(500, (4, 8, 4, 8, 16))
    begin = time.perf_counter()
    check(fold(whole, is_layer, 200), whole, 200)
    assert time.perf_counter() - begin < 10


def test_a_model_without_layers_is_boxes_too() -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Tanh(a) }'
    )
    normal = normal_form(model, in_place=True)
    folded = fold(graph(normal.model, normal.knowledge), is_layer)
    assert [operators(box.nodes) for box in folded.boxes] == [{"Relu": 1, "Tanh": 1}]

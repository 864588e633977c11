"""Nodes that only give something another name."""

from __future__ import annotations

from onnx_oto.gradients.backends.copies import name_outputs, without_copies

from .conftest import model_from


def nodes(graph: object) -> list[tuple[str, ...]]:
    return [(node.op_type, *node.input, "->", *node.output) for node in graph.node]  # type: ignore[attr-defined]


def test_copies_are_left_out_but_for_outputs() -> None:
    text = "(float[2] x) => (float[2] y) { a = Identity(x) b = Neg(a) c = Identity(b) y = Identity(c) }"
    graph = model_from(text, {}).graph
    without_copies(graph)
    assert nodes(graph) == [("Neg", "x", "->", "b"), ("Identity", "b", "->", "y")]


def test_outputs_are_named_where_they_are_made() -> None:
    text = (
        "(float[2] x) => (float[2] y, float[2] z) { b = Neg(x) y = Identity(b) c = Abs(b) z = Identity(c) }"
    )
    graph = model_from(text, {}).graph
    assert name_outputs(graph) == {"b": "y", "c": "z"}
    assert nodes(graph) == [("Neg", "x", "->", "y"), ("Abs", "y", "->", "z")]


def test_one_tensor_is_one_output_and_inputs_are_none() -> None:
    text = (
        "(float[2] x) => (float[2] y, float[2] z, float[2] v) "
        "{ b = Neg(x) y = Identity(b) z = Identity(b) v = Identity(x) }"
    )
    graph = model_from(text, {}).graph
    assert name_outputs(graph) == {"b": "y"}
    assert nodes(graph) == [
        ("Neg", "x", "->", "y"),
        ("Identity", "y", "->", "z"),
        ("Identity", "x", "->", "v"),
    ]

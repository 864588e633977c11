"""Operators written out as the standard defines them: what becomes of names, attributes and what has no definition."""

from __future__ import annotations

from onnx_oto.gradients.graph.lowering.definitions import is_defined, write_out

from .conftest import model_from, normal

ATTENTION = (
    "(float[N, 2, 3, 4] x) => (float[N, 2, 3, 4] y) { a = Attention<is_causal=1>(x, x, x) b = Mul(a, w) "
)


def test_every_node_has_a_name_of_its_own() -> None:
    """onnx leaves the nodes of a definition unnamed, and ONNX Runtime's fusions give two of them one name."""
    model = model_from(f"{ATTENTION} y = Attention(b, b, b) }}", {"w": normal(4)}, opset=23)
    nodes = write_out(model, lambda op: op == "Attention").graph.node
    assert "Attention" not in {node.op_type for node in nodes}
    assert len({node.name for node in nodes} - {""}) == len(nodes)


def test_definitions_that_use_each_other_are_all_written_out() -> None:
    model = model_from("(float[N, 3] x) => (float[N, 3] y) { y = SwiGLU(x, x) }", {}, opset=28)
    nodes = write_out(model, lambda op: True).graph.node
    assert {node.op_type for node in nodes} == {"Mul", "Sigmoid"}


def test_what_is_not_wanted_or_not_defined_stays() -> None:
    model = model_from(f"{ATTENTION} y = Neg(b) }}", {"w": normal(4)}, opset=23)
    assert [node.op_type for node in write_out(model, lambda op: op == "Neg").graph.node] == [
        "Attention",
        "Mul",
        "Neg",
    ]
    assert is_defined("Attention", 23)
    assert not is_defined("Attention", 22)
    assert not is_defined("Neg", 23)

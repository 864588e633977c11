"""Forms of operators that no backend differentiates."""

from __future__ import annotations

from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node


def reduces_unknown_axes(node: Node, facts: Facts) -> str | None:
    """Return what is wrong with the axes of a reduction: the model computes them, or there are none."""
    axes = node.attrs.get("axes")
    if axes is None and node.input(1):
        value = facts.constants.get(node.input(1))
        if value is None:
            return f"its axes {node.input(1)!r} are computed by the model: make them a constant"
        axes = value.tolist()
    return None if axes or not node.attrs.get("noop_with_empty_axes", 0) else "it reduces nothing"


def trains_bounds(node: Node, facts: Facts) -> str | None:
    """Return what is wrong with the bounds of a Clip: they are trained, and would have no gradient."""
    trained = any(name in facts.carried for name in node.inputs[1:] if name)
    return "its bounds would have no gradient" if trained else None

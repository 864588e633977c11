"""Einsum."""

from __future__ import annotations

from onnx_oto.lanes.contract import contract
from onnx_oto.lanes.trace import Trace
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.rules import NotCovered, given, inputs, rule

ELLIPSIS = "αβγδεζηθικ"
"""Letters that stand for the axes under an ellipsis; no equation has them."""


def parse(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Return the letters of every operand and of the output, ellipses written out.

    >>> parse("...ij,jk", [3, 2])
    (['αij', 'jk'], 'αik')
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    longest = max((rank - len(t) + 3 for t, rank in zip(terms, ranks, strict=True) if "..." in t), default=0)
    full = []
    for term, rank in zip(terms, ranks, strict=True):
        under = rank - len(term) + 3 if "..." in term else 0
        full.append(term.replace("...", ELLIPSIS[longest - under : longest]))
    if not arrow:
        counted = "".join(full)
        once = sorted(c for c in set(counted) if counted.count(c) == 1 and c not in ELLIPSIS)
        return full, ELLIPSIS[:longest] + "".join(once)
    return full, right.replace("...", ELLIPSIS[:longest])


@rule("Einsum", counts=True, orderless=True)
def einsum(node: Node, trace: Trace) -> None:
    """Products of the operands summed over the letters that the output lacks."""
    layouts = [given(layout) for layout in inputs(node, trace)]
    terms, out = parse(node.attrs["equation"], [layout.rank for layout in layouts])
    if any(len(set(term)) < len(term) for term in (*terms, out)):
        raise NotCovered("takes a diagonal")
    trace.put(node.outputs[0], contract(trace, node, list(zip(layouts, terms, strict=True)), out))

"""The table of rules and how one is applied to a node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import onnx

from onnx_oto.lanes.layout import Layout
from onnx_oto.lanes.quantized import is_quantized
from onnx_oto.lanes.trace import TooMuch, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.walk import MISFITS

Rule = Callable[[Node, Trace], None]
OLDEST = 7
"""The first opset that rules are for: before it, elementwise operators broadcast by attributes."""
NEWEST = 28
"""The newest opset whose definitions of operators the rules were checked against."""


@dataclass(frozen=True)
class Entry:
    """A rule, and the opsets for which it is right: from `since` to the definitions of `until`, both included.

    An operator of a newer opset that is defined as it was in `until` is covered too.
    """

    rule: Rule
    since: int
    until: int

    def covers(self, opset: int, definition: int) -> bool:
        """Return whether the rule is for an operator of `opset`, defined as in opset `definition`."""
        return self.since <= opset and definition <= self.until


RULES: dict[str, list[Entry]] = {}
"""Rules by operator, for the newest opsets last; operators of other domains than ai.onnx as `domain::Op`."""
SPREADING: set[str] = set()
"""Operators whose output may be labelled when no input is."""
ANY_RANK: set[str] = set()
"""Operators whose rules cope with tensors of unknown rank."""
COUNTING: set[str] = set()
"""Operators that make multiply-accumulates: their rules run where nothing is labelled, too."""
ORDERLESS: set[str] = set()
"""Operators that treat the positions of labelled axes alike, so that labels say where each of them goes."""


class NotCovered(Exception):
    """Raised by a rule: freeze what the node touches; the text is the reason."""


def rule(
    *ops: str,
    spreads: bool = False,
    counts: bool = False,
    orderless: bool = False,
    any_rank: bool = False,
    since: int = OLDEST,
    until: int = NEWEST,
) -> Callable[[Rule], Rule]:
    """Register a function as the rule of these operators.

    spreads: it makes labels of its own. counts: it counts multiply-accumulates. orderless: when labelled positions
    change places in the inputs, those with the same labels do so in the outputs, and nothing else changes. The rule
    freezes, or tells apart (`Trace.tell_apart`), the labels of which that is not true. any_rank: it copes with tensors
    of unknown rank. since, until: the first and last
    opset of ai.onnx whose definition of the operators it is for.
    """

    def register(function: Rule) -> Rule:
        SPREADING.update(ops if spreads else ())
        COUNTING.update(ops if counts else ())
        ORDERLESS.update(ops if orderless else ())
        ANY_RANK.update(ops if any_rank else ())
        for op in ops:
            entries = RULES.setdefault(op, [])
            assert all(entry.until < since for entry in entries), op
            entries.append(Entry(function, since, until))
        _rule.cache_clear()
        return function

    return register


def rule_of(node: Node) -> Rule | None:
    """Return the rule for the operator as the node's opset defines it, None if there is none."""
    return _rule(node.op, node.domain, node.since)


@cache
def _rule(op: str, domain: str, since: int) -> Rule | None:
    entries = RULES.get(_key(op, domain), ())
    if domain not in ("", "ai.onnx"):
        return entries[0].rule if entries else None
    definition = _definition(op, since)
    for entry in reversed(entries):
        if entry.covers(since, definition):
            return entry.rule
    return None


@cache
def _definition(op: str, opset: int) -> int:
    """Return the opset that brought an operator's definition; `opset` itself where onnx has none."""
    try:
        return int(onnx.defs.get_schema(op, opset, "").since_version)
    except onnx.defs.SchemaError:
        return min(opset, NEWEST)


def key(node: Node) -> str:
    """Return the name under which the node's rule is registered."""
    return _key(node.op, node.domain)


def _key(op: str, domain: str) -> str:
    return op if domain in ("", "ai.onnx") else f"{domain}::{op}"


def apply(node: Node, trace: Trace) -> None:
    """Run the rule of `node`, or freeze what the node touches and record why."""
    trace.node, called = node.name, key(node)
    layouts = [trace.layout(name) for name in node.inputs if name]
    captured = [trace.layout(name) for name in node.captured]
    unlabelled, constant, known = _told(layouts)
    if captured:
        unlabelled = unlabelled and all(layout is not None and not layout.blocks for layout in captured)
    if unlabelled and called not in SPREADING and (constant or called not in COUNTING):
        for name in node.outputs:
            if name:
                trace.put(name, trace.shaped(name, constant=constant))
        return
    function = rule_of(node)
    if function is None:
        if is_quantized(node):
            trace.freeze_node(node, f"{describe(node)} computes with quantized values")
            return
        older = f" in opset {node.since}" if called in RULES else ""
        domain = f" of domain '{node.domain}'" if node.domain else ""
        trace.freeze_node(node, f"{describe(node)}{domain} has no rule for removing channels{older}")
    elif called not in ANY_RANK and not (known and _all_known(trace, node.outputs)):
        trace.freeze_node(node, f"{describe(node)} works on a tensor whose rank is not known")
    else:
        try:
            function(node, trace)
        except (NotCovered, TooMuch) as reason:
            trace.freeze_node(node, f"{describe(node)} {reason}")
        except (*MISFITS, AssertionError) as error:
            told = " ".join(str(error).split())[:100]
            trace.freeze_node(
                node, f"{describe(node)} contradicts its inputs ({type(error).__name__}: {told})"
            )


def _told(layouts: Sequence[Layout | None]) -> tuple[bool, bool, bool]:
    """Return whether all layouts are without labels, whether they are constant (and some), whether they are known."""
    unlabelled, constant, known = True, bool(layouts), True
    for layout in layouts:
        if layout is None:
            return False, False, False
        if layout.blocks:
            unlabelled = False
        if not layout.constant:
            constant = False
    return unlabelled, constant, known


def _all_known(trace: Trace, names: Sequence[str]) -> bool:
    """Return whether the ranks of tensors are known."""
    return None not in map(trace.graph.shapes.get, filter(None, names))


def inputs(node: Node, trace: Trace) -> list[Layout | None]:
    """Return the layouts of a node's inputs; None where an optional input is absent. Ranks are known."""
    return [trace.layout(name) if name else None for name in node.inputs]


def listed_axes(node: Node, trace: Trace, doing: str) -> list[int] | None:
    """Return the axes of a node as written, from its attribute or its second input; None if it lists none.

    doing: what a refusal says of axes that are computed ("reduces over").
    """
    axes = node.attrs.get("axes")
    if axes is None and node.input(1):
        value = trace.graph.constant(node.inputs[1])
        if value is None:
            raise NotCovered(f"{doing} axes that are computed")
        axes = value.reshape(-1).tolist()
    return axes


def given(layout: Layout | None) -> Layout:
    """Return a required input's layout."""
    if layout is None:
        raise NotCovered("lacks a required input")
    return layout

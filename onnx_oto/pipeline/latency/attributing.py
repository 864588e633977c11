"""Which nodes of a model a time in a profile is for. Runtimes fuse and rename nodes; nothing is assumed of how.

An event is anchored at the node, or at the tensor, that its name begins with. It has run that node and all in front of
it that no other event has run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from onnx_oto.model.graph.node import Node
from onnx_oto.model.view import Graph
from onnx_oto.runtime.bench import NodeTime

Event: TypeAlias = tuple[str, str, int]
"""Name and operator that the runtime has for it, and how many alike came before."""

_ENDINGS = re.compile(r"(_nchwc|_token_\d+|/[^/]*|_fused|_\d+)$")
"""What runtimes put behind the name of what they have rewritten."""


def events(nodes: Iterable[NodeTime]) -> dict[Event, float]:
    """Return the milliseconds of every event of a profile, in the order in which they ran."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[Event, float] = {}
    for node in nodes:
        key = (node.name, node.op)
        found[(*key, seen[key])] = node.ms
        seen[key] += 1
    return found


def attributed(graph: Graph, known: Sequence[Event]) -> Mapping[Event, tuple[Node, ...]]:
    """Return the nodes that each event has run; events that no name leads to a node are missing."""
    by_name = {node.name: node for node in graph.nodes if node.name and not node.within}
    made_by = {name: node for name, node in graph.producer.items() if not node.within}
    anchored = ((event, _anchor(event[0], by_name, made_by)) for event in known)
    anchors = {event: node for event, node in anchored if node is not None}
    taken = set(anchors.values())
    run_for: dict[Node, tuple[Node, ...]] = {}
    for anchor in dict.fromkeys(anchors.values()):
        run, waiting = [anchor], [anchor]
        while waiting:
            for name in (*waiting[-1].inputs, *waiting.pop().captured):
                before = graph.producer.get(name)
                if before is not None and before not in taken:
                    taken.add(before)
                    run.append(before)
                    waiting.append(before)
        run_for[anchor] = tuple(sorted(run, key=lambda node: node.index))
    return {
        event: run_for[anchor] for event, anchor in anchors.items()
    }  # what a runtime splits is several events


def _anchor(name: str, nodes: Mapping[str, Node], tensors: Mapping[str, Node]) -> Node | None:
    """Return the node that a name is of, or is made from: what runtimes put behind it or in front is taken off."""
    shorter = name
    while shorter:
        if shorter in nodes:
            return nodes[shorter]
        if shorter in tensors:
            return tensors[shorter]
        taken, shorter = shorter, _ENDINGS.sub("", shorter)
        if shorter == taken:
            break
    inside = [each for known in (nodes, tensors) for each in known if _is_word_of(each, name)]
    if not inside:
        return None
    longest = max(inside, key=len)
    return nodes.get(longest) or tensors[longest]


def _is_word_of(word: str, name: str) -> bool:
    at = name.find(word)
    before, after = name[at - 1 : at], name[at + len(word) : at + len(word) + 1]
    return at >= 0 and not before.isalnum() and not after.isalnum()

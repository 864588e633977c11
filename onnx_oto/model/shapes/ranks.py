"""Which rank a tensor has behind an If whose branches give different ones.

Exporters write `squeeze` as an If: where the axis has one position it goes, else nothing happens. So the ranks that are
possible are followed through operators that only add or remove axes, and readers that take one rank alone say which
it is: with another one the model would not run. What only runs under a condition says nothing of what lies outside.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from onnx_oto.model.graph.flat import BODIES, BRANCHES
from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.claims import Claimed, needed

Ranks = frozenset[int]
_SAME = frozenset(
    {
        "Abs", "Cast", "Clip", "Dropout", "Elu", "Exp", "Identity", "LeakyRelu", "Log", "LogSoftmax", "Neg", "Relu",
        "Sigmoid", "Softmax", "Sqrt", "Tanh", "Transpose",
    }
)  # fmt: skip
"""Operators whose result has the rank of what they read first."""
_STEPS = {"Unsqueeze": 1, "Squeeze": -1}
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_ROUNDS = 16


def settled_ranks(nodes: Sequence[Node], facts: Claimed, unsure: Container[str]) -> dict[str, int]:
    """Return the ranks of outputs of Ifs that are not known, as far as only one is possible.

    nodes: laid out. unsure: tensors whose shapes are only supposed, or declared.
    """
    known = {
        name: frozenset({len(shape)})
        for name, shape in facts.shapes.items()
        if shape is not None and name not in unsure
    }
    ragged = [name for node in nodes if _is_if(node) for name in node.outputs if name and name not in known]
    if not ragged:
        return {}
    search = _Search(nodes, facts, known)
    search.run()
    found = {name: search.ranks.get(name, frozenset()) for name in ragged}
    return {name: next(iter(ranks)) for name, ranks in found.items() if len(ranks) == 1}


def _is_if(node: Node) -> bool:
    return node.domain == BODIES and node.op == "If"


class _Search:
    """The ranks that every tensor may have; what is missing may have any."""

    def __init__(self, nodes: Sequence[Node], facts: Claimed, known: Mapping[str, Ranks]) -> None:
        self.ranks = dict(known)
        self._nodes = nodes
        self._facts = facts
        self._producer = {name: node for node in nodes for name in node.outputs}
        self._branches = {node.name: node for node in nodes if _is_if(node)}
        self._changed = False

    def run(self) -> None:
        for _ in range(_ROUNDS):
            self._changed = False
            for node in self._nodes:
                self._forwards(node)
            for node in reversed(self._nodes):
                self._backwards(node)
            if not self._changed:
                return

    def _narrow(self, name: str, ranks: Ranks | None) -> None:
        known = self.ranks.get(name)
        new = known if ranks is None else ranks if known is None else known & ranks
        if new is not None and new != known and new:  # a contradiction is another's to tell
            self.ranks[name] = new
            self._changed = True

    def _forwards(self, node: Node) -> None:
        if _is_if(node):
            for name, one, other in zip(node.outputs, *halves(node), strict=True):
                first, second = self.ranks.get(one), self.ranks.get(other)
                if first is not None and second is not None:
                    self._narrow(name, first | second)
            return
        step = self._step(node)
        ranks = self.ranks.get(node.input(0))
        if step is not None and ranks is not None:
            self._narrow(node.outputs[0], frozenset(rank + step for rank in ranks))

    def _backwards(self, node: Node) -> None:
        for position, rank in self._needs(node):
            if rank is not None and self._is_certain(node, node.input(position)):
                self._narrow(node.input(position), frozenset({rank}))
        if _is_if(node):
            for branch, given in enumerate(halves(node)):
                here = (*node.within, (node.name, BRANCHES[branch]))
                for name, source in zip(node.outputs, given, strict=True):
                    own = self._producer.get(source)
                    inside = own is not None and own.within[: len(here)] == here
                    if inside or self._is_taken(node, branch):
                        self._narrow(source, self.ranks.get(name))
            return
        step = self._step(node)
        ranks = self.ranks.get(node.outputs[0]) if step is not None else None
        if step is not None and ranks is not None and self._is_certain(node, node.input(0)):
            self._narrow(node.input(0), frozenset(rank - step for rank in ranks))

    def _step(self, node: Node) -> int | None:
        """Return by how much the rank of the first output is larger than that of the first input; None: unknown."""
        if node.domain or not node.outputs:
            return None
        if node.op in _SAME:
            return 0
        axes = node.attrs.get("axes")
        if axes is None and node.input(1):
            value = self._facts.values.get(node.inputs[1])
            axes = None if value is None else value.reshape(-1)
        sign = _STEPS.get(node.op)
        return None if sign is None or axes is None else sign * len(axes)

    def _needs(self, node: Node) -> Iterator[tuple[int, int | None]]:
        """Yield input positions of a node, and the rank that it needs there."""
        if node.domain:
            return
        if node.op in _RECURRENT:
            yield from ((position, 3) for position in (0, 5, 6) if node.input(position))
            return
        if node.op == "Transpose" and "perm" in node.attrs:
            yield 0, len(node.attrs["perm"])
        wanted = needed(node, self._facts)
        yield 0, None if wanted is None else len(wanted)

    def _is_certain(self, node: Node, name: str) -> bool:
        """Return whether a node runs whenever the tensor is made."""
        made = self._producer.get(name)
        outside = len(made.within) if made is not None else 0
        return all(self._enters(node, depth) for depth in range(outside, len(node.within)))

    def _enters(self, node: Node, depth: int) -> bool:
        """Return whether the body at this depth in which a node lies is surely run: a branch without alternative."""
        owner, branch = node.within[depth]
        found = self._branches.get(owner)
        return found is not None and self._is_taken(found, BRANCHES.index(branch))

    def _is_taken(self, node: Node, branch: int) -> bool:
        """Return whether an If surely takes a branch: the other one gives a tensor of an impossible rank."""
        for name, other in zip(node.outputs, halves(node)[1 - branch], strict=True):
            mine, possible = self.ranks.get(other), self.ranks.get(name)
            if mine is not None and possible is not None and mine.isdisjoint(possible):
                return True
        return False


def halves(node: Node) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what the first and what the second branch of an If give."""
    count = len(node.outputs)
    return node.inputs[1 : 1 + count], node.inputs[1 + count :]

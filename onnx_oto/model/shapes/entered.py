"""Types of what goes into and comes out of the bodies of If, Loop and Scan (see `model.graph.flat`).

What a loop carries from trip to trip has in every trip the shape that it has at the start, as far as the body keeps it.
So that shape is supposed where the body begins and compared where it ends. An axis that does not keep its size has
another one in every trip, and inference starts again without the supposition. If all agree, the shapes are proved, by
induction over the trips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from onnx import TensorProto

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.claims import Claimed
from onnx_oto.model.shapes.dims import Dim, Shape, symbols
from onnx_oto.model.shapes.supposed import CARRIED, Source, Suppositions

Typed = tuple[int, "Shape | None"]
"""An element type (0: unknown) and a shape."""


@dataclass
class Bodies:
    """The loops that the walk is in, and the suppositions of theirs that turned out to be wrong.

    settled: ranks of outputs of Ifs that are known from elsewhere (see `ranks`).
    _open: of each loop the entry, and a mark: later symbols are sizes that its body makes.
    """

    facts: Claimed
    supposed: Suppositions
    settled: Mapping[str, int] = field(default_factory=dict)
    wrong: set[Source] = field(default_factory=set)
    _open: list[tuple[Node, int]] = field(default_factory=list)

    def types(self, node: Node) -> list[Typed]:
        """Return what the outputs of an entry or an exit are."""
        if node.op == "If":
            return self._branches(node)
        if node.op == "LoopEntry":
            self._enter(node)
            return self._loop_entry(node)
        if node.op == "ScanEntry":
            self._enter(node)
            return self._scan_entry(node)
        return self._leave(node)

    def _typed(self, name: str) -> Typed:
        return self.facts.dtypes.get(name, 0), self.facts.shapes.get(name)

    # --- If ---------------------------------------------------------------------------------------------------
    def _branches(self, node: Node) -> list[Typed]:
        given = node.inputs[1:]
        count = len(node.outputs)
        return [
            _either(self._typed(one), self._typed(other), self.settled.get(name))
            for name, one, other in zip(node.outputs, given[:count], given[count:], strict=True)
        ]

    def torn(self, node: Node) -> set[str]:
        """Return the outputs of an If whose branches give different ranks: nothing that is declared is right."""
        if node.op != "If":
            return set()
        count = len(node.outputs)
        shapes = [self.facts.shapes.get(name) for name in node.inputs[1:]]
        return {
            name
            for name, one, other in zip(node.outputs, shapes[:count], shapes[count:], strict=True)
            if one is not None and other is not None and len(one) != len(other)
        }

    # --- loops ------------------------------------------------------------------------------------------------
    def _enter(self, node: Node) -> None:
        self._open.append((node, self.facts.symbols.drawn))

    def _loop_entry(self, node: Node) -> list[Typed]:
        ranks = node.attrs["ranks"]
        scalars = [
            (kind, (1,) if rank == 1 else ())
            for kind, rank in zip((TensorProto.INT64, TensorProto.BOOL), ranks, strict=False)
        ]
        return [*scalars, *self._carried(node.inputs[2:], node.outputs[2:])]

    def _scan_entry(self, node: Node) -> list[Typed]:
        scanned = int(node.attrs["num_scan_inputs"])
        states = len(node.inputs) - scanned
        axes = node.attrs.get("scan_input_axes") or [0] * scanned
        slices = []
        for name, axis in zip(node.inputs[states:], axes, strict=True):
            kind, shape = self._typed(name)
            slices.append((kind, shape and _without(shape, axis)))
        return [*self._carried(node.inputs[:states], node.outputs[:states]), *slices]

    def _carried(self, starts: Sequence[str], names: Sequence[str]) -> list[Typed]:
        found: list[Typed] = []
        for start, name in zip(starts, names, strict=True):
            kind, shape = self._typed(start)
            if shape is not None and self.supposed.allows(CARRIED, name):
                kept = (
                    size if self.supposed.allows(CARRIED, _axis(name, i)) else None
                    for i, size in enumerate(shape)
                )
                found.append((kind, tuple(kept)))
            else:
                found.append((kind, None))
        return found

    def _leave(self, node: Node) -> list[Typed]:
        entry, mark = self._open.pop()
        given = node.inputs[len(entry.inputs) :]
        first = 2 if node.op == "Loop" else 0
        scanned = int(node.attrs.get("num_scan_inputs", 0))
        starts = entry.inputs[first : len(entry.inputs) - scanned]
        if node.op == "Loop":
            condition, given = given[0], given[1:]
        names = entry.outputs[first:]
        agree = True
        states: list[Typed] = []
        for start, name, end in zip(starts, names, given, strict=False):
            kept = self._kept(start, name, end)
            agree = agree and kept == self.facts.shapes.get(name)
            states.append((self._typed(start)[0] or self._typed(end)[0], kept))
        trips = self._trips(entry, condition) if node.op == "Loop" else self._length(entry, len(starts))
        axes = node.attrs.get("scan_output_axes") or [0] * len(given)
        outputs = []
        for end, axis in zip(given[len(starts) :], axes, strict=False):
            kind, shape = self._typed(end)
            outputs.append((kind, _stacked(self._outside(shape, mark), axis, trips) if agree else None))
        return [*states, *outputs]

    def _outside(self, shape: Shape | None, mark: int) -> Shape | None:
        """Return a shape without the sizes that only the body knows: they may be others in each trip."""
        newer = self.facts.symbols.newer
        return shape and tuple(
            None if any(newer(name, mark) for name in symbols(size)) else size for size in shape
        )

    def _kept(self, start: str, name: str, end: str) -> Shape | None:
        """Return the shape that a state has in all trips, None in it where the trips differ; note what was wrong."""
        before, after = self.facts.shapes.get(start), self.facts.shapes.get(end)
        if before is None or not self.supposed.allows(CARRIED, name):
            return None
        if after is None or len(after) != len(before):
            self.wrong.add((CARRIED, name))
            return None
        kept: list[Dim] = []
        for axis, (one, other) in enumerate(zip(before, after, strict=True)):
            if not self.supposed.allows(CARRIED, _axis(name, axis)):
                kept.append(None)
            elif one is not None and one == other:
                kept.append(one)
            else:
                self.wrong.add((CARRIED, _axis(name, axis)))
                kept.append(None)
        return tuple(kept)

    def _trips(self, entry: Node, condition: str) -> Dim:
        """Return how often the body of a Loop runs where that is sure, None where it is not."""
        most, first, last = (self.facts.values.get(name) for name in (*entry.inputs[:2], condition))
        certain = all(
            value is not None and value.size == 1 and value.dtype != object and bool(value.reshape(-1)[0])
            for value in ([last] if not entry.inputs[1] else [first, last])
        )
        if not certain or most is None or most.size != 1:
            return None
        count = most.reshape(-1)[0]
        return max(int(count), 0) if most.dtype != object else None

    def _length(self, entry: Node, states: int) -> Dim:
        """Return how long the axes are that a Scan goes along."""
        axes = entry.attrs.get("scan_input_axes") or [0] * (len(entry.inputs) - states)
        sizes = [
            shape[axis]
            for name, axis in zip(entry.inputs[states:], axes, strict=True)
            if (shape := self.facts.shapes.get(name))
        ]
        return next((size for size in sizes if isinstance(size, int)), sizes[0] if sizes else None)


def _axis(name: str, axis: int) -> str:
    return f"{name}[{axis}]"


def _either(one: Typed, other: Typed, rank: int | None) -> Typed:
    """Return what the output of an If is: sizes that the branches have in common.

    rank: the one that it has, where that is settled: a branch that gives another one is not taken.
    """
    kind = one[0] or other[0]
    if rank is not None:
        given = [shape for _, shape in (one, other) if shape is None or len(shape) == rank]
        if len(given) == 1 and given[0] is not None:
            return kind, given[0]
        if None in given:
            return kind, (None,) * rank
    if one[1] is None or other[1] is None or len(one[1]) != len(other[1]):
        return kind, None
    return kind, tuple(a if a == b else None for a, b in zip(one[1], other[1], strict=True))


def _without(shape: Shape, axis: int) -> Shape:
    axis %= len(shape)
    return (*shape[:axis], *shape[axis + 1 :])


def _stacked(shape: Shape | None, axis: int, trips: Dim) -> Shape | None:
    """Return the shape of what all trips give."""
    if shape is None:
        return None
    axis %= len(shape) + 1
    return (*shape[:axis], trips, *shape[axis:])

"""Gradient graphs that keep few tensors of the way forth, and compute the others again on the way back.

The way forth is cut where few bytes are alive (Chen et al. 2016): what is alive at a cut is kept, what lies between two
cuts is computed again in front of the first node back that reads it. So that a runtime does so there, not at once, and
does not find that both are the same, what is computed again reads what was kept through a Reshape whose shape depends
on what the way back has made of the later part: gradients of tensors and of weights.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.gradients.backends.recompute_cuts import Shapes, Way, function_of, is_norm
from onnx_oto.runtime.joining import ADD, OPERATOR

_AGAIN = ".again"


def recompute(model: onnx.ModelProto, shapes: Shapes, forth: Collection[str]) -> dict[str, tuple[int, ...]]:
    """Rewrite a gradient graph in place, if it then keeps fewer bytes; return `shapes` with those of what is new.

    shapes: static shapes of tensors by name. forth: the outputs to which the way forth leads: the loss, statistics.
    """
    way = Way(model.graph, shapes, forth)
    cuts = way.cuts()
    if not cuts:
        return dict(shapes)
    again = _Again(model.graph, way, cuts)
    again.write()
    return {**shapes, **again.shapes}


class _Again:
    """The graph as it is written anew."""

    def __init__(self, graph: onnx.GraphProto, way: Way, cuts: Sequence[int]) -> None:
        self.graph = graph
        self.way = way
        self.cuts = cuts
        self.types = {value.name: value for value in (*graph.value_info, *graph.output)}
        self.values = {each.name: each for each in graph.initializer}
        self.inserted: dict[int, list[onnx.NodeProto]] = {}
        self.renamed: dict[str, str] = {}
        self.kept = {name for cut in cuts for name in way.alive(cut)}
        self.constants: dict[str, NDArray[np.int64]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.results = self._results()
        self.gates: list[tuple[int, _Gates]] = []

    def write(self) -> None:
        """Do it."""
        for part in reversed(range(len(self.cuts))):
            self._repeat(part)
        inputs = {at: self._read(at) for at in range(self.way.count, len(self.way.nodes))}
        nodes: list[onnx.NodeProto] = []
        for at, node in enumerate(self.way.nodes):
            nodes += self.inserted.get(at, ())
            node.input[:] = inputs.get(at, node.input)
            nodes.append(node)
        needed, kept = {value.name for value in self.graph.output}, []
        for node in reversed(nodes):  # what only the way back read is made there alone
            if needed.intersection(node.output):
                needed.update(node.input)
                kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
        del self.graph.node[:]
        self.graph.node.extend(reversed(kept))
        self.graph.initializer.extend(numpy_helper.from_array(v, n) for n, v in self.constants.items())

    def _read(self, at: int) -> list[str]:
        """Return what a node of the way back reads.

        One that reads the way forth alone would run at once: it waits for what is in front of it, as parts do.
        """
        way = self.way
        names = [self.renamed.get(name, name) for name in way.nodes[at].input]
        gates = next((gates for first, gates in self.gates if first <= at), None)
        if gates is None or any(way.made_at.get(name, 0) >= way.count for name in way.nodes[at].input):
            return names
        return [
            gates.through(name, len(way.shapes[name])) if name in way.made_at and way.bytes_of(name) else name
            for name in names
        ]

    def _part(self, name: str) -> int:
        """Return the number of the part that makes a tensor."""
        return bisect_left(self.cuts, self.way.made_at[name])

    def _back(self, names: Collection[str]) -> list[int]:
        """Return the nodes of the way back that read some tensors, in order."""
        return sorted({at for name in names for at in self.way.readers.get(name, ()) if at >= self.way.count})

    def _repeat(self, part: int) -> None:
        """Let a part be made again in front of the first node back that reads of it."""
        way = self.way
        own = [name for name in way.saved if self._part(name) == part]
        fresh = [
            name for name in own if name not in self.kept and way.can_repeat(name) and way.bytes_of(name)
        ]
        readers = self._back(fresh)
        if not readers:
            return
        first = readers[0]
        done = [name for at, name in self.results if at < first]
        self.results = [result for result in self.results if result[0] >= first]
        done += [n for n in way.nodes[first].input if n in way.made_at and way.made_at[n] >= way.count]
        if not done:
            return
        nodes = self.inserted.setdefault(first, [])
        gates = _Gates(f"onnx_oto.again.{part}", list(dict.fromkeys(done)), nodes, self.constants)
        self.gates.insert(0, (first, gates))
        again: dict[str, str] = {}
        for at in self._needed(fresh, part):
            self._copy(way.nodes[at], again, gates)
        self.renamed.update((name, again[name]) for name in fresh if name in again)
        same = {**again, **gates.made}
        self.shapes.update((other, way.shapes[name]) for name, other in same.items() if name in way.shapes)

    def _results(self) -> list[tuple[int, str]]:
        """Return what the graph gives out of the way back, where it is made first and what tells that it is."""
        way, found = self.way, []
        for value in self.graph.output:
            at = way.made_at.get(value.name, 0)
            name = value.name
            while at >= way.count and (
                way.nodes[at].op_type == "Identity" or function_of(way.nodes[at]) == ADD
            ):
                node = way.nodes[at]
                source = node.input[0] if node.op_type == "Identity" else node.input[3]
                if way.made_at.get(source, 0) < way.count:
                    break
                name = source if node.op_type == "Identity" else name
                at = way.made_at[source]
            if at >= way.count:
                found.append((at, name))
        return sorted(found)

    def _needed(self, names: Sequence[str], part: int) -> list[int]:
        """Return the nodes of a part that make some tensors from what is kept, in order."""
        way, found, ahead = self.way, set(), list(names)
        while ahead:
            name = ahead.pop()
            at = way.made_at[name]
            if at in found:
                continue
            found.add(at)
            ahead += [n for n in way.nodes[at].input if n in way.made_at and self._is_inside(n, part)]
        return sorted(found)

    def _is_inside(self, name: str, part: int) -> bool:
        return name not in self.kept and self._part(name) == part and self.way.can_repeat(name)

    def _copy(self, node: onnx.NodeProto, again: dict[str, str], gates: _Gates) -> None:
        """Write a node once more, if it reads anything that is made again or was kept."""
        way = self.way
        inputs = []
        for name in node.input:
            shape = way.shapes.get(name, ())
            if name in again:
                inputs.append(again[name])
            elif name in way.made_at and shape and min(shape) > 0:
                inputs.append(gates.through(name, len(shape)))
            else:
                inputs.append(name)
        if list(node.input) == inputs:
            free = [(at, name) for at, name in enumerate(inputs) if name and name not in self.values]
            free = [(at, name) for at, name in free if way.shapes.get(name)]
            if not free:
                return
            at, name = free[0]
            inputs[at] = gates.through(name, len(way.shapes[name]))
        outputs = [f"{name}{_AGAIN}" if name else "" for name in node.output]
        again.update((n, o) for n, o in zip(node.output, outputs, strict=True) if n)
        if is_norm(node):
            gates.nodes += self._norm(node, inputs, outputs[0])
            for name in node.output[1:]:
                again.pop(name, None)
            return
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        copy.name = f"{node.name}{_AGAIN}"
        copy.input[:], copy.output[:] = inputs, outputs
        gates.nodes.append(copy)
        for name, other in zip(node.output, outputs, strict=True):
            if name in self.types:
                value = onnx.ValueInfoProto.FromString(self.types[name].SerializeToString())
                value.name = other
                self.graph.value_info.append(value)

    def _norm(self, node: onnx.NodeProto, inputs: Sequence[str], made: str) -> list[onnx.NodeProto]:
        """Return the nodes that normalise by the moments that a norm found, and what it did behind that."""
        called = node.op_type == OPERATOR
        x, scale, shift = inputs[4:7] if called else inputs[:3]
        mean, inverse = node.output[3:5]
        is_floored = called and bool(numpy_helper.to_array(self.values[node.input[1]])[3])
        square, variance = f"{made}.square", f"{made}.variance"
        normed = f"{made}.normed" if is_floored else made
        nodes = [
            helper.make_node("Mul", [inverse, inverse], [square], name=square),
            helper.make_node("Reciprocal", [square], [variance], name=variance),
            helper.make_node(
                "BatchNormalization", [x, scale, shift, mean, variance], [normed], name=normed, epsilon=0.0
            ),
        ]
        if is_floored:
            nodes.append(helper.make_node("Relu", [normed], [made], name=made))
        return nodes


class _Gates:
    """Tensors that are there only when others have been made. nodes: where what they take is written."""

    def __init__(
        self,
        name: str,
        done: Sequence[str],
        nodes: list[onnx.NodeProto],
        constants: dict[str, NDArray[np.int64]],
    ) -> None:
        self.name = name
        self.nodes = nodes
        self.constants = constants
        self.made: dict[str, str] = {}
        flat = self._constant("flat", [-1])
        first, second = self._constant("first", [0]), self._constant("second", [1])
        told = []
        for at, each in enumerate(done):
            row = self._add("Reshape", [each, flat], f"row.{at}")
            one = self._add("Slice", [row, first, second], f"one.{at}")  # none of what is empty
            told.append(self._add("Cast", [one], f"told.{at}", to=TensorProto.BOOL))
        together = self._add("Concat", told, "together", axis=0)
        number = self._add("Cast", [together], "number", to=TensorProto.INT64)
        some = self._add("Concat", [number, first], "some", axis=0)
        most = self._add("ReduceMax", [some], "most", keepdims=1)
        self.zero = self._add("Min", [most, first], "zero")  # 0, but only who runs it knows

    def through(self, name: str, rank: int) -> str:
        """Return a tensor of so many axes as one that is there when the others have been made."""
        if name not in self.made:
            sizes = self._add(
                "Add", [self._constant(f"zeros.{rank}", [0] * rank), self.zero], f"sizes.{rank}"
            )
            self.made[name] = self._add("Reshape", [name, sizes], f"{name}.kept")  # 0: as it was
        return self.made[name]

    def _constant(self, name: str, value: Sequence[int]) -> str:
        full = f"{self.name}.{name}"
        self.constants[full] = np.array(value, np.int64)
        return full

    def _add(self, op: str, inputs: Sequence[str], made: str, **attributes: Any) -> str:
        full = f"{self.name}.{made}"
        if all(full not in node.output for node in self.nodes):
            self.nodes.append(helper.make_node(op, list(inputs), [full], name=full, **attributes))
        return full

"""One walk over the nodes: evaluates shape arithmetic and sharpens shapes with what it gives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto

from onnx_oto.model.claims import CLAIMS, merge
from onnx_oto.model.dims import Dim, Shape, known_size, product, symbols
from onnx_oto.model.evaluators import EVALUATORS
from onnx_oto.model.node import Node
from onnx_oto.model.reference import evaluate_constant
from onnx_oto.model.values import MAX_ELEMENTS, from_shape, is_known

MAX_FOLDED_BYTES = 65536
# Before opset 7 elementwise ops broadcast by attributes.
_FIRST_OPSET = 7
_INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)


@dataclass
class State:
    """What lasts over the rounds: values that are `known` and shapes that are `claimed`, of node outputs.

    All of it is true of every run of the model. `constants` are the small initializers. `stable` are the
    symbols that mean the same in every round; onnx numbers the others afresh each time, so claims with them
    do not last.
    """

    constants: dict[str, np.ndarray]
    stable: frozenset[str]
    known: dict[str, np.ndarray] = field(default_factory=dict)
    claimed: dict[str, Shape] = field(default_factory=dict)


class Walk:
    """A walk in topological order. `shapes` is sharpened in place, `state` gains what was learned."""

    def __init__(self, shapes: dict[str, Shape | None], dtypes: dict[str, int], state: State) -> None:
        self.shapes = shapes
        self.dtypes = dtypes
        self.state = state
        self.values: dict[str, np.ndarray] = {**state.constants, **state.known}
        self._tensors_with: dict[str, set[str]] = {}
        for name, shape in shapes.items():
            self._index(name, shape)

    def run(self, nodes: Iterable[Node]) -> dict[str, np.ndarray]:
        """Return the values of node outputs, partly or completely known."""
        for node in nodes:
            if node.domain or all(name in self.state.known for name in node.outputs if name):
                continue
            self._claim(node)
            for name, value in zip(node.outputs, self._evaluate(node), strict=False):
                self._record(name, value)
        return {name: value for name, value in self.values.items() if name not in self.state.constants}

    def _record(self, name: str, value: np.ndarray | None) -> None:
        kept = self._typed(name, value)
        if kept is None:
            return
        self.values[name] = kept
        if kept.dtype != object and kept.nbytes <= MAX_FOLDED_BYTES:
            self.state.known[name] = kept

    def _typed(self, name: str, value: np.ndarray | None) -> np.ndarray | None:
        """Give a value its element type; drop it when too large, empty of knowledge, or of another rank."""
        if value is None or not name or value.size > MAX_ELEMENTS:
            return None
        shape = self.shapes.get(name)
        if shape is not None and len(shape) != value.ndim:
            return None
        if not is_known(value):
            return value if any(item is not None for item in value.flat) else None
        kind = self.dtypes.get(name)
        if not kind:
            return None
        with np.errstate(all="ignore"):
            typed = value.astype(onnx.helper.tensor_dtype_to_np_dtype(kind), order="C")
        typed.flags.writeable = False
        return typed

    def _claim(self, node: Node) -> None:
        """Merge what the op's shape rule derives from values into `shapes`."""
        rule = CLAIMS.get(node.op)
        if rule is None or not node.outputs:
            return
        name = node.outputs[0]
        old = self.shapes.get(name)
        if old is not None and all(isinstance(size, int) for size in old):
            return
        claim = rule(node, self.shapes, self.values)
        if claim is None or (old is not None and len(old) != len(claim)):
            return
        if any(isinstance(size, int) and size < 0 for size in claim):
            return
        self.shapes[name] = merge(claim, old)
        for symbol, size in zip(old or (), claim, strict=False):
            self._unify(symbol, size)
        stable = self.state.stable
        lasting = tuple(size if isinstance(size, int) or symbols(size) <= stable else None for size in claim)
        self.state.claimed[name] = merge(self.state.claimed.get(name), lasting) or lasting

    def _index(self, name: str, shape: Shape | None) -> None:
        for size in shape or ():
            if isinstance(size, str) and size not in self.state.stable:
                self._tensors_with.setdefault(size, set()).add(name)

    def _unify(self, symbol: Dim, size: Dim) -> None:
        """Replace a symbol that onnx made up by what it turned out to be, wherever this round has it."""
        if not isinstance(symbol, str) or size is None or symbol == size or symbol in self.state.stable:
            return
        for name in self._tensors_with.pop(symbol, ()):
            shape = self.shapes.get(name)
            if shape is not None:
                self.shapes[name] = tuple(size if old == symbol else old for old in shape)
                self._index(name, self.shapes[name])

    def _evaluate(self, node: Node) -> list[np.ndarray | None]:
        if node.op == "Shape":
            return [self._shape_value(node)]
        if node.op == "Size":
            shape = self.shapes.get(node.input(0))
            size = None if shape is None else product(shape)
            return [None if size is None else from_shape((size,)).reshape(())]
        inputs = [self._input_value(name) for name in node.inputs]
        if not inputs or node.since < _FIRST_OPSET or all(value is None for value in inputs):
            return []
        evaluator = EVALUATORS.get(node.op)
        try:
            result = evaluator(node, inputs) if evaluator is not None else None
        except (ValueError, IndexError, TypeError, OverflowError):
            result = None
        if result is None:
            small = [known_size(self.shapes.get(name)) for name in node.outputs if name]
            if any(size is None or size > MAX_ELEMENTS for size in small):
                return []
            return evaluate_constant(node, inputs)
        return list(result) if isinstance(result, list) else [result]

    def _shape_value(self, node: Node) -> np.ndarray | None:
        shape = self.shapes.get(node.input(0))
        if shape is None:
            return None
        return from_shape(shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))])

    def _input_value(self, name: str) -> np.ndarray | None:
        """Return what is known; a small integer tensor of known shape is at least an array of unknowns."""
        if name in self.values:
            return self.values[name]
        shape = self.shapes.get(name)
        count = known_size(shape) if self.dtypes.get(name) in _INTEGERS else None
        if shape is None or count is None or count > 64:
            return None
        unknown: np.ndarray = np.full(tuple(size for size in shape if isinstance(size, int)), None, object)
        return unknown

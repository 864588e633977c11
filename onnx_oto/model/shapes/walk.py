"""The one walk over the nodes that infers types, sharpens shapes, and evaluates shape arithmetic."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, TypeProto

from onnx_oto.errors import ModelError
from onnx_oto.model.graph.budget import EVALUATION, Budget
from onnx_oto.model.graph.flat import Placed
from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.order import bodies, captured, label
from onnx_oto.model.graph.tensors import from_array
from onnx_oto.model.shapes.claims import CLAIMS, FOREIGN, Claimed, merge, needed
from onnx_oto.model.shapes.dims import MOST_SIZE, Shape, known_size, product
from onnx_oto.model.shapes.entered import Bodies
from onnx_oto.model.shapes.evaluators import EVALUATORS
from onnx_oto.model.shapes.ranks import settled_ranks
from onnx_oto.model.shapes.reference import evaluate_constant
from onnx_oto.model.shapes.schema_types import Schemas
from onnx_oto.model.shapes.supposed import NEEDED, STORED, Contradicted, Suppositions
from onnx_oto.model.shapes.symbols import Symbols
from onnx_oto.model.shapes.types import Kind, agree, type_shape
from onnx_oto.model.shapes.values import INTEGER_EVALUATORS, MAX_ELEMENTS, from_shape, is_known

# Values above this are no sizes: onnx's inference does not get to see them.
MAX_SHOWN = 1024
# Floats that say something of a shape are a scale for each axis, or the bounds of a range; more are a weight.
MAX_SCALES = 16
# What is kept of a value that is known in part: an object, and often a text, for every element.
_OBJECT_BYTES = 64
# What rules and numpy raise on inputs that no valid model has, or that are too large for them: then nothing is known.
MISFITS = (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
# Before opset 7 elementwise ops broadcast by attributes.
_FIRST_OPSET = 7
_INTEGERS = (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_OF_FLOATS = frozenset(
    {"Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sin"}
    | {"Softplus", "Softsign", "Sqrt", "Tanh"}
)


class Walk:
    """What is known so far. `declared`: types of graph outputs; `values` starts with the small constants.

    Every node is met once, after its inputs. Its output types come from onnx's inference for that node, or from
    a foreign rule; claims sharpen them; what stays unknown gets a symbol; then small values are evaluated.
    Where even the rank stays unknown, it may be supposed: see `supposed`. Raises Contradicted when that was wrong.
    """

    def __init__(
        self,
        schemas: Schemas,
        symbols: Symbols,
        values: Mapping[str, np.ndarray],
        declared: Mapping[str, TypeProto],
        supposed: Suppositions,
        *,
        settled: Mapping[str, int],
        strict: bool,
    ) -> None:
        self.shapes: dict[str, Shape | None] = {}
        self.dtypes: dict[str, int] = {}
        self.values: dict[str, np.ndarray] = dict(values)
        self._constants = frozenset(values)
        self._schemas = schemas
        self._declared = declared
        self._supposed = supposed
        self._strict = strict
        self._kinds: dict[str, Kind] = {}
        self._tensors: dict[str, TensorProto] = {}
        self._facts = Claimed(self.shapes, self.dtypes, self.values, symbols)
        self._bodies = Bodies(self._facts, supposed, settled)
        self._budget = Budget()

    def give(self, name: str, kind: Kind) -> None:
        """State the type of a graph input or an initializer."""
        self._kinds[name] = kind
        self.shapes[name] = kind.shape
        self._facts.proved.update(kind.open)
        self.dtypes[name] = kind.dtype

    def run(self, nodes: Iterable[tuple[Node, Placed]]) -> dict[str, np.ndarray]:
        """Return the values of node outputs, partly or completely known."""
        for node, placed in nodes:
            proto = placed.node
            self._suppose_input(node)
            self._supposed.spread(node)
            if placed.owner is not None:
                self._pass(node, placed)
            else:
                self._infer(node, proto)
            self._claim(node)
            for name in node.outputs:
                self._settle(node, proto, name)
            for name, value in zip(node.outputs, self._evaluate(node), strict=False):
                self._record(name, value)
        if self._bodies.wrong:
            raise Contradicted(frozenset(self._bodies.wrong))
        return {name: value for name, value in self.values.items() if name not in self._constants}

    def settled_ranks(self, nodes: Sequence[Node]) -> dict[str, int]:
        """Return ranks of outputs of Ifs that the walk did not know, and that follow from what it found."""
        return settled_ranks(nodes, self._facts, self._declared.keys() | self._supposed.tensors)

    # --- types ------------------------------------------------------------------------------------------------
    def _infer(self, node: Node, proto: NodeProto) -> None:
        if not self._schemas.describe(node.domain, node.op):
            self._apply_foreign(node)
            return
        if (same := self._same(node)) is not None:
            self.give(node.outputs[0], same)
            return
        types, data, values = {}, {}, self.values
        for name in (*node.inputs, *node.captured):
            if kind := self._kind(name):
                types[name] = kind
        for name in node.inputs:
            if name in values and (tensor := self._tensor(name)) is not None:
                data[name] = tensor
        try:
            found = self._schemas.infer(proto, node.inputs, node.outputs, types, data)
        except ModelError as error:
            complete = all(self.dtypes.get(name) for name in node.inputs if name)
            if complete:
                self._doubt(*node.inputs, *node.captured)
            if self._strict and complete and not node.within and not any(bodies(proto)):
                raise ModelError(f"shapes contradict each other at node {label(proto)!r}: {error}") from None
            return
        for name, kind in zip(node.outputs, found, strict=False):
            if name and kind is not None and kind.is_known:
                self.give(name, kind)
        if node.domain:  # of a standard operator the rule is for its oldest versions, which did not broadcast
            self._apply_foreign(node)

    def _same(self, node: Node) -> Kind | None:
        """Return the type of the input of a function of single floats: onnx says the same, but takes longer."""
        if (
            node.op not in _OF_FLOATS
            or node.domain
            or node.attrs
            or not len(node.inputs) == len(node.outputs) == 1
        ):
            return None
        kind = self._kind(node.inputs[0])
        known = (
            kind is not None and kind.dtype in _FLOATS and kind.shape is not None and None not in kind.shape
        )
        return kind if known and node.outputs[0] else None

    def _pass(self, node: Node, placed: Placed) -> None:
        """State the types of what a body is given, or gives; where we know nothing, what onnx says of the whole."""
        types = self._bodies.types(node)
        for name, (kind, shape) in zip(node.outputs, types, strict=True):
            if name and kind:
                self.dtypes[name], self.shapes[name] = kind, _sound(shape)
                self._prove(name)
        if node.op == "LoopEntry" and node.input(1):
            self._record(node.outputs[1], np.full((1,) * len(self.shapes[node.outputs[1]] or ()), True))
        if placed.owner is None or placed.is_entry or node.within:
            return
        unknown = {
            n for n, (kind, shape) in zip(node.outputs, types, strict=True) if not kind or shape is None
        }
        unknown -= self._bodies.torn(node)
        if unknown and not self._bodies.wrong:
            self._infer_whole(placed.owner, unknown)

    def _infer_whole(self, owner: NodeProto, wanted: set[str]) -> None:
        """Take what onnx's inference, which goes through bodies by itself, says of these outputs of a node."""
        names = [name for name in (*owner.input, *captured(owner)) if name]
        types = {name: kind for name in names if (kind := self._kind(name))}
        outputs = tuple(owner.output)
        with contextlib.suppress(ModelError):
            found = self._schemas.infer(owner, tuple(owner.input), outputs, types, {})
            for name, kind in zip(outputs, found, strict=False):
                if name in wanted and kind is not None and kind.is_known:
                    self.give(name, kind)

    def _apply_foreign(self, node: Node) -> None:
        rule = FOREIGN.get((node.domain, node.op))
        if rule is None:
            return
        try:
            types = rule.types(node, self._facts)
        except MISFITS:
            return
        for name, (kind, shape) in zip(node.outputs, types, strict=False):
            if not name or not kind:
                continue
            if not self.dtypes.get(name):
                self.dtypes[name], self.shapes[name] = kind, _sound(shape)
                self._prove(name)
            elif self.shapes.get(name) is None:  # onnx told the element type alone
                self._sharpen(name, _sound(shape))

    def _claim(self, node: Node) -> None:
        """Sharpen the first output by what the claim of the operator says."""
        rule = None if node.domain else CLAIMS.get(node.op)
        if rule is None or not node.outputs:
            return
        name = node.outputs[0]
        old = self.shapes.get(name)
        if old is not None and all(isinstance(size, int) for size in old):
            return
        try:
            claim = _sound(rule(node, self._facts))
        except MISFITS:
            return
        if claim is not None and (old is None or len(old) == len(claim)):
            self._sharpen(name, merge(old, claim))

    def _settle(self, node: Node, proto: NodeProto, name: str) -> None:
        """Compare with what the graph declares, then name the sizes that stay unknown."""
        declared = self._declared.get(name)
        if declared is not None:
            self._compare(proto, name, declared)
        self._suppose(name)
        shape = self.shapes.get(name)
        if shape is not None and None in shape:
            fresh = self._facts.symbols.fresh
            self._sharpen(name, tuple(fresh() if size is None else size for size in shape))

    def _compare(self, proto: NodeProto, name: str, declared: TypeProto) -> None:
        if not self.dtypes.get(name):
            kind = self._kinds.get(name)
            if kind is None or not kind.is_known:
                self.give(name, self._schemas.kinds.read(declared))
                self._sharpen(name, _numbers(self.shapes[name]))
            return
        wanted, found = _numbers(type_shape(declared)), self.shapes.get(name)
        if declared.tensor_type.elem_type not in (0, self.dtypes[name]):
            if self._strict:
                raise ModelError(
                    f"types contradict each other at node {label(proto)!r}: output {name!r} is declared as "
                    f"{_text(declared.tensor_type.elem_type, wanted)} but is {_text(self.dtypes[name], found)}"
                )
        elif agree(wanted, found):
            self._sharpen(name, merge(found, wanted))
        else:
            self._doubt(name)

    # --- suppositions -----------------------------------------------------------------------------------------
    def _suppose(self, name: str) -> None:
        """Take the stored type of an output of unknown rank, if its element type is not another one."""
        if self.shapes.get(name) is not None:
            return
        kind = self._supposed.stored(name)
        if kind is not None and self.dtypes.get(name) in (None, 0, kind.tensor_type.elem_type):
            self.give(name, self._schemas.kinds.read(kind))
            self._supposed.suppose(STORED, name)

    def _suppose_input(self, node: Node) -> None:
        """Compare the first input, where it is of unknown rank or only supposed, with what the node needs it to be.

        Not of a node in a body, which may never run.
        """
        name = "" if node.within else node.input(0)
        shape = self.shapes.get(name)
        if not name or (shape is not None and not self._supposed.under(name)):
            return
        try:
            wanted = _sound(needed(node, self._facts))
        except MISFITS:
            return
        if wanted is None or not self._supposed.allows(NEEDED, name):
            return
        if not agree(shape, wanted):
            self._doubt(name)
        kind = self.dtypes.get(name) or self.dtypes.get(node.input(1))
        if not kind:
            return
        self.dtypes[name] = kind
        fresh = self._facts.symbols.fresh
        merged = merge(shape, wanted) or ()
        self._sharpen(name, tuple(fresh() if size is None else size for size in merged))
        self._supposed.suppose(NEEDED, name)

    def _doubt(self, *names: str) -> None:
        """Start again without what the shapes of these tensors rest on, if that was supposed."""
        sources = self._supposed.of(*names)
        if sources:
            raise Contradicted(sources)

    def _sharpen(self, name: str, shape: Shape | None) -> None:
        if self.shapes.get(name) != shape:
            self.shapes[name] = shape
            self._kinds.pop(name, None)
            self._prove(name)

    def _prove(self, name: str) -> None:
        self._facts.proved.update(size for size in self.shapes[name] or () if isinstance(size, str))

    def _kind(self, name: str) -> Kind | None:
        found = self._kinds.get(name)
        if found is None and (dtype := self.dtypes.get(name)):
            found = self._kinds[name] = self._schemas.kinds.tensor(dtype, self.shapes.get(name))
        return found

    def _tensor(self, name: str) -> TensorProto | None:
        """Return a completely known small value as a tensor."""
        if name not in self._tensors:
            value = self.values.get(name)
            if value is None or value.dtype == object:
                return None
            if value.size > (MAX_SCALES if value.dtype.kind == "f" else MAX_SHOWN):
                return None
            self._tensors[name] = from_array(value, name)
        return self._tensors[name]

    # --- values -----------------------------------------------------------------------------------------------
    def _record(self, name: str, value: np.ndarray | None) -> None:
        kept = self._typed(name, value)
        if kept is None or not self._budget.take(
            kept.size * _OBJECT_BYTES if kept.dtype == object else kept.nbytes
        ):
            return
        self.values[name] = kept
        self._sharpen(name, kept.shape)

    def _typed(self, name: str, value: np.ndarray | None) -> np.ndarray | None:
        """Give a value its element type; drop it when too large, empty of knowledge, or of another shape."""
        if value is None or not name or value.size > MAX_ELEMENTS:
            return None
        if not agree(self.shapes.get(name), value.shape):
            return None
        if not is_known(value):
            return value if any(item is not None for item in value.flat) else None
        kind = self.dtypes.get(name)
        if not kind:
            return None
        try:
            with np.errstate(all="ignore"):
                typed = value.astype(onnx.helper.tensor_dtype_to_np_dtype(kind), order="C")
        except MISFITS:
            return None
        typed.flags.writeable = False
        return typed

    def _evaluate(self, node: Node) -> list[np.ndarray | None]:
        if node.domain:
            return []
        if node.op == "Shape":
            return [self._shape_value(node)]
        if node.op == "Size":
            shape = self.shapes.get(node.input(0))
            rests = self._supposed.under(node.input(0))
            size = None if shape is None or rests else product(shape)
            return [None if size is None else from_shape((size,)).reshape(())]
        for name in node.inputs:
            if name in self.values or self.dtypes.get(name) in _INTEGERS:
                break
        else:
            return []
        inputs = [self._input_value(name) for name in node.inputs]
        if not inputs or node.since < _FIRST_OPSET or all(value is None for value in inputs):
            return []
        whole = self.dtypes.get(node.outputs[0]) in _INTEGERS
        evaluator = (INTEGER_EVALUATORS.get(node.op) if whole else None) or EVALUATORS.get(node.op)
        try:
            result = evaluator(node, inputs) if evaluator is not None else None
        except MISFITS:
            result = None
        if result is None:
            return self._reference(node, inputs)
        return list(result) if isinstance(result, list) else [result]

    def _reference(self, node: Node, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
        """Return what onnx's reference implementation makes of known inputs, [] if that may be large."""
        small = [known_size(self.shapes.get(name)) for name in node.outputs if name]
        given = [value for name, value in zip(node.inputs, inputs, strict=True) if name]
        known = all(value is not None and value.dtype != object for value in given)
        if not known or any(size is None or size > MAX_ELEMENTS for size in small):
            return []
        return evaluate_constant(node, inputs) if self._budget.take(EVALUATION) else []

    def _shape_value(self, node: Node) -> np.ndarray | None:
        shape = self.shapes.get(node.input(0))
        if shape is None:
            return None
        if self._supposed.under(node.input(0)):
            shape = tuple(size if isinstance(size, str) else None for size in shape)
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


def _numbers(shape: Shape | None) -> Shape | None:
    """Return a declared shape without its names: that two sizes have one name proves nothing."""
    return shape and tuple(size if isinstance(size, int) else None for size in shape)


def _sound(shape: Shape | None) -> Shape | None:
    """Drop a shape with a size that no tensor has: the rule was given what no valid model has."""
    if shape is None or any(isinstance(size, int) and not 0 <= size <= MOST_SIZE for size in shape):
        return None
    return tuple(shape)


def _text(kind: int, shape: Shape | None) -> str:
    sizes = "" if shape is None else str(["?" if size is None else size for size in shape]).replace("'", "")
    return f"{TensorProto.DataType.Name(kind).lower()}{sizes}"

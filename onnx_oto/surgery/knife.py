"""The edits that repairs make, on an onnx-graphsurgeon graph."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs

from onnx_oto.lanes.layout import Block, IntArray, Layout
from onnx_oto.lanes.repairs.cut import NewSize, Share
from onnx_oto.lanes.repairs.expression import Array, Expression, Number, Tensor
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.lanes.trace import Trace
from onnx_oto.model.graph.forms import form, position
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.surgery.sizes import settled, size_steps

END = np.iinfo(np.int32).max  # bounds may be int32
OPSET = 13
"""The opset of nodes that surgery writes into a model that imports other domains only."""
_SLICE = {"starts": 1, "ends": 2, "axes": 3, "steps": 4}


class Knife:
    """Implements `onnx_oto.lanes.repairs.cut.Cut`. Remembers which nodes it touched.

    graph: the nodes that have repairs. taken: the names of all tensors of the model.
    """

    def __init__(
        self,
        graph: gs.Graph,
        trace: Trace,
        of_label: IntArray,
        drop: BoolArray,
        weights: Mapping[str, npt.NDArray[Any]],
        taken: Set[str] = frozenset(),
    ) -> None:
        self.graph = graph
        self.touched: set[str] = set()
        self._trace = trace
        self.opset = trace.graph.opsets.get("", OPSET)
        self._of_label = of_label
        self._drop = drop
        self._weights = weights
        self._nodes = {node.name: node for node in graph.nodes}
        self._tensors: dict[str, gs.Tensor] = graph.tensors()
        self._taken = taken
        self._serial = itertools.count()
        self._lengths: dict[tuple[int, int], tuple[IntArray, int]] = {}

    # --- questions --------------------------------------------------------------------------------------------
    def kept(self, labels: IntArray) -> BoolArray:
        keep: BoolArray = ~self._drop[self._of_label[labels]]
        return keep

    def touches(self, *layouts: Layout) -> bool:
        return any(not self.kept(b.labels).all() for layout in layouts for b in layout.blocks)

    def along(self, block: Block, key: int) -> BoolArray:
        at = block.keys.index(key)
        others = tuple(i for i in range(len(block.keys)) if i != at)
        return np.asarray(self.kept(block.labels).any(axis=others))

    def _length_along(self, block: Block, key: int) -> int:
        """Return how many positions of factor `key` stay: in every row of the factors before it, if rows differ."""
        at = block.keys.index(key)
        known = self._lengths.get((id(block.labels), at))
        if known is not None:
            return known[1]
        kept = self.kept(block.labels)
        after = tuple(range(at + 1, kept.ndim))
        found = int(kept.any(axis=after).sum(axis=at).max())
        self._lengths[id(block.labels), at] = block.labels, found  # held, so that its id is no other's
        return found

    def size(self, layout: Layout, axis: int) -> int | None:
        total = 1
        for key in layout.axes[axis]:
            block = layout.block(key)
            size = layout.sizes[key] if block is None else self._length_along(block, key)
            if not isinstance(size, int):
                return None
            total *= size
        return total

    def sizes(self, name: str) -> list[int | None] | None:
        """Return what is known of the sizes that a tensor of the full graph has now, None where its rank is not."""
        layout = self._trace.layouts.get(name)
        return None if layout is None else [self.size(layout, axis) for axis in range(layout.rank)]

    def share(self, layout: Layout, axis: int) -> Share:
        kept, total = 1, 1
        for key in layout.axes[axis]:
            block, size = layout.block(key), layout.sizes[key]
            if block is not None and isinstance(size, int):
                kept, total = kept * self._length_along(block, key), total * size
        return Share(kept, total)

    # --- edits ------------------------------------------------------------------------------------------------
    def attribute(self, node: str, name: str, default: Any = None) -> Any:
        return self._nodes[node].attrs.get(name, default)

    def set_attribute(self, node: str, name: str, value: Any) -> None:
        attrs = self._touch(node).attrs
        if value is None:
            attrs.pop(name, None)
        else:
            attrs[name] = value

    def set_input(self, node: str, index: int, value: npt.NDArray[Any]) -> None:
        inputs = self._touch(node).inputs
        while len(inputs) <= index:
            inputs.append(gs.Variable.empty())
        inputs[index] = self._constant(node, value)

    def override_input(self, node: str, index: int, values: Sequence[NewSize]) -> None:
        tensor = self._nodes[node].inputs[index]
        known = self._known_sizes(tensor)
        if known is not None and len(known) < len(values):
            values = values[len(values) - len(known) :]
        if known is not None:
            values = [settled(v, old) for v, old in zip(values, known, strict=True)]
        if isinstance(tensor, gs.Constant):
            old = np.array(tensor.values)
            new = [o if v is None else v for o, v in zip(old.reshape(-1), values, strict=True)]
            self.set_input(node, index, np.array(new, old.dtype).reshape(old.shape))
        elif all(isinstance(v, int) for v in values):
            self.set_input(node, index, np.array(values, self._integers(tensor.name)))
        elif any(v is not None for v in values):
            sure = [known is not None and isinstance(old, str) for old in known or values]
            self._touch(node).inputs[index] = self._rewritten(node, tensor, values, sure)

    def override(self, node: str, setting: str, values: Sequence[int | None]) -> None:
        index = position(self._nodes[node].op, setting, self.opset)
        if index is not None and self._is_given(node, index):
            self.override_input(node, index, values)
            return
        old = self.attribute(node, setting) or [None] * len(values)
        new = [o if v is None else v for o, v in zip(old, values, strict=True)]
        if index is None:
            self.set_attribute(node, setting, new)
        else:
            self.set_input(node, index, np.array(new, np.int64))

    def override_output(self, node: str, index: int, values: Sequence[NewSize]) -> None:
        if all(v is None for v in values):
            return
        it = self._touch(node)
        output = it.outputs[index]
        it.outputs[index] = gs.Variable(self._name(node, "compact"), np.int64)
        scalar = self._trace.graph.shapes.get(output.name) == ()
        self._rewritten(node, it.outputs[index], values, [True] * len(values), output, scalar=scalar)

    def _known_sizes(self, tensor: gs.Tensor) -> list[Any] | None:
        """Return what is known of the elements of an integer tensor of the full graph, None if nothing is."""
        if isinstance(tensor, gs.Constant):
            return list(np.array(tensor.values).reshape(-1).tolist())
        partial = self._trace.graph.partial(tensor.name)
        return None if partial is None else list(partial.reshape(-1))

    def parameter(self, name: str) -> npt.NDArray[Any]:
        value = self._weights.get(name)
        return to_array(self._trace.graph.initializers[name]) if value is None else value

    def add_to_input(self, node: str, index: int, value: npt.NDArray[Any]) -> None:
        inputs = self._nodes[node].inputs
        present = index < len(inputs) and inputs[index].name
        if present:
            name = inputs[index].name
            known = name in self._trace.graph.initializers
            value = (self.parameter(name) if known else inputs[index].values) + value
        self.set_input(node, index, value)

    def scale_input(self, node: str, index: int, factor: float) -> None:
        tensor = self._touch(node).inputs[index]
        if tensor.name in self._trace.graph.initializers:
            value = self.parameter(tensor.name)
            self.set_input(node, index, (value * factor).astype(value.dtype))
            return
        scaled = gs.Variable(self._name(node, "scaled"), tensor.dtype)
        number = np.array(factor, self._dtype(tensor.name))
        self._add("Mul", node, [tensor, self._constant(node, number)], [scaled])
        self._nodes[node].inputs[index] = scaled

    def _dtype(self, name: str) -> np.dtype[Any]:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(self._trace.graph.dtypes[name]))

    def add_shadow(
        self,
        node: str,
        shadow: Expression,
        weight: float,
        **settings: Any,
    ) -> None:
        it = self._nodes[node]
        output = it.outputs[0]
        value = self._evaluate(node, shadow, {})
        reduced = gs.Variable(self._name(node, "shadow"), output.dtype)
        self._add(it.op, node, [value], [reduced], **settings)
        scaled = gs.Variable(self._name(node, "shadow"), output.dtype)
        number = self._constant(node, np.array(weight, self._dtype(output.name)))
        self._add("Mul", node, [reduced, number], [scaled])
        inner = gs.Variable(self._name(node, "inner"), output.dtype)
        self._touch(node).outputs[0] = inner
        self._add("Add", node, [inner, scaled], [output])

    def express(self, node: str, expression: Expression) -> None:
        old = self._touch(node)
        output = old.outputs[0]
        old.outputs[0] = gs.Variable(self._name(node, "unused"))
        self._evaluate(node, expression, {}, output)

    def _evaluate(
        self,
        node: str,
        expression: Expression,
        done: dict[int, gs.Tensor],
        result: gs.Variable | None = None,
    ) -> gs.Tensor:
        """Return the tensor of an expression, its nodes added to the graph. done: by id what is there already."""
        if id(expression) in done:
            return done[id(expression)]
        if isinstance(expression, Tensor):
            return self._tensor(expression.name)
        if isinstance(expression, Number):
            return self._constant(node, np.array(expression.value, self._dtype(expression.like)))
        if isinstance(expression, Array):
            return self._constant(node, expression.value)
        arguments = [self._evaluate(node, argument, done) for argument in expression.arguments]
        if result is None:
            result = gs.Variable(self._name(node, "value"))
        self._add(expression.op, node, arguments, [result], **expression.settings)
        done[id(expression)] = result
        return result

    def pad_input(self, node: str, index: int, axis: int, count: int) -> None:
        tensor = self._touch(node).inputs[index]
        shape = self._trace.graph.shapes[tensor.name]
        assert shape is not None
        if tensor.name in self._trace.graph.initializers:
            value = self.parameter(tensor.name)
            widths = [(0, count if i == axis % value.ndim else 0) for i in range(value.ndim)]
            self.set_input(node, index, np.pad(value, widths))
            return
        pads = np.zeros(2 * len(shape), np.int64)
        pads[len(shape) + axis % len(shape)] = count
        padded = gs.Variable(self._name(node, "padded"), tensor.dtype)
        self._add("Pad", node, [tensor], [padded], pads=pads)
        self._nodes[node].inputs[index] = padded

    def insert_after(
        self, node: str, index: int, op: str, constants: Sequence[npt.NDArray[Any]] = (), **settings: Any
    ) -> None:
        it = self._touch(node)
        output = it.outputs[index]
        inner = gs.Variable(self._name(node, "inner"), output.dtype)
        it.outputs[index] = inner
        values = [self._constant(node, c) for c in constants]
        self._add(op, node, [inner, *values], [output], **settings)

    def reslice(self, node: str, axis: int, positions: IntArray) -> None:
        start, end = (int(positions[0]), int(positions[-1]) + 1) if positions.size else (0, 0)
        regular = np.array_equal(positions, np.arange(start, end))
        if not regular:
            start, end = 0, END
        place = self._place(node, axis)
        self._override_at(node, "starts", place, start)
        self._override_at(node, "ends", place, end)
        if self._given(node, "steps", [1] * (place + 1))[place] != 1:
            self._override_at(node, "steps", place, 1)
        if not regular:
            self.insert_after(node, 0, "Gather", [positions], axis=axis)

    # --- inside -----------------------------------------------------------------------------------------------
    def _touch(self, node: str) -> gs.Node:
        self.touched.add(node)
        return self._nodes[node]

    def _tensor(self, name: str) -> gs.Tensor:
        if name not in self._tensors:
            self._tensors[name] = gs.Variable(name)
        return self._tensors[name]

    def _name(self, node: str, what: str) -> str:
        while (name := f"{node}/compact_{what}_{next(self._serial)}") in self._taken:
            pass
        return name

    def _constant(self, node: str, value: npt.NDArray[Any]) -> gs.Constant:
        return gs.Constant(self._name(node, "constant"), np.array(value, order="C"))

    def _add(self, op: str, near: str, inputs: list[Any], outputs: list[Any], **settings: Any) -> None:
        """Add a node of the standard domain, in the form of the model's opset."""
        written = form(op, self.opset, settings)
        for index, value in sorted(written.inputs.items()):
            inputs = [*inputs, *(gs.Variable.empty() for _ in range(index - len(inputs)))]
            inputs.append(self._constant(near, value))
        node = gs.Node(op, self._name(near, op), written.attributes, inputs, outputs)
        self._nodes[node.name] = node
        self.touched.add(node.name)
        self.graph.nodes.append(node)

    def _rewritten(
        self,
        node: str,
        tensor: gs.Tensor,
        values: Sequence[NewSize],
        sure: Sequence[bool],
        result: gs.Variable | None = None,
        *,
        scalar: bool = False,
    ) -> gs.Variable:
        """Return tensor * kept / total + number, element by element. sure: elements that certainly are sizes."""
        kind = self._integers(tensor.name)
        steps = size_steps(values, kind, scalar=scalar)
        unsure = [isinstance(v, Share) and not s for v, s in zip(values, sure, strict=True)]
        guarded = any(unsure) and self.opset >= 9
        value = tensor
        for i, (op, constant) in enumerate(steps):
            last = i == len(steps) - 1 and not guarded
            after = result if last and result is not None else gs.Variable(self._name(node, "sizes"), kind)
            self._add(op, node, [value, self._constant(node, constant)], [after])
            value = after
        if guarded:
            bound = np.where(unsure, 2, np.iinfo(kind).min).astype(kind)
            special = gs.Variable(self._name(node, "no_size"), np.bool_)
            self._add("Less", node, [tensor, self._constant(node, bound)], [special])
            after = gs.Variable(self._name(node, "sizes"), kind) if result is None else result
            self._add("Where", node, [special, tensor, value], [after])
            value = after
        return value

    def _integers(self, name: str) -> np.dtype[Any]:
        """Return the data type of a list of integers; those that surgery made itself are int64."""
        return self._dtype(name) if name in self._trace.graph.dtypes else np.dtype(np.int64)

    def _is_given(self, node: str, index: int) -> bool:
        inputs = self._nodes[node].inputs
        return index < len(inputs) and bool(inputs[index].name)

    def _given(self, node: str, setting: str, default: list[int]) -> list[int]:
        """Return a list that is given as an attribute or as a constant input."""
        if setting in self._nodes[node].attrs:
            return list(self._nodes[node].attrs[setting])
        index = _SLICE[setting]
        if not self._is_given(node, index):
            return default
        tensor = self._nodes[node].inputs[index]
        known = tensor.values if isinstance(tensor, gs.Constant) else self._trace.graph.partial(tensor.name)
        assert known is not None
        return [int(value) for value in known.reshape(-1)]

    def _place(self, node: str, axis: int) -> int:
        """Return the position of `axis` in a Slice's list of axes."""
        shape = self._trace.graph.shapes.get(self._nodes[node].inputs[0].name)
        assert shape is not None
        return [a % len(shape) for a in self._given(node, "axes", list(range(len(shape))))].index(axis)

    def _override_at(self, node: str, setting: str, place: int, value: int) -> None:
        """Replace one element of a list that says where a Slice starts, ends, or how it steps."""
        if setting in self._nodes[node].attrs:
            size = len(self._nodes[node].attrs[setting])
        else:
            tensor = self._nodes[node].inputs[_SLICE[setting]]
            size = tensor.values.size if isinstance(tensor, gs.Constant) else self._length(tensor.name)
        self.override(node, setting, [value if i == place else None for i in range(size)])

    def _length(self, name: str) -> int:
        shape = self._trace.graph.shapes.get(name)
        assert shape is not None
        assert isinstance(shape[0], int)
        return shape[0]


def exported_nodes(
    graph: gs.Graph, touched: set[str], originals: Sequence[onnx.NodeProto]
) -> list[onnx.NodeProto]:
    """Return the nodes of the edited model: untouched ones as they were, letter for letter, new ones behind them."""
    from onnx_graphsurgeon.exporters.onnx_exporter import OnnxExporter

    edited = {node.name: node for node in graph.nodes if node.name in touched}
    result = []
    for original in originals:
        node = edited.pop(original.name, None)
        if node is None:
            result.append(original)
            continue
        exported = OnnxExporter.export_node(node)
        exported.doc_string = original.doc_string
        exported.metadata_props.extend(original.metadata_props)
        result.append(exported)
    return [*result, *map(OnnxExporter.export_node, edited.values())]

"""What a gradient may read and write: one node on the way back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.writer import GraphWriter

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


class Known(NamedTuple):
    """Facts about the tensors of the forward graph, by name.

    shapes: static ones, of those that have one; the sizes of the others, of which `ranks` says how many there are,
    depend on values. on_cpu: whether it runs on the CPU's own kernels, whose habits a gradient may make use of.
    kernels: whether gradients are single nodes where there are such (`kernels`), to be written out afterwards.
    """

    shapes: Mapping[str, Shape]
    ranks: Mapping[str, int]
    dtypes: Mapping[str, int]
    constants: Mapping[str, Array]
    opset: int
    on_cpu: bool = True
    kernels: bool = False


class Once:
    """A writer that writes the same thing once. shapes: of what `kernel` wrote."""

    def __init__(self, writer: GraphWriter) -> None:
        self.writer = writer
        self.shapes: dict[str, Shape] = {}
        self._made: dict[Any, list[str]] = {}

    def emit_many(
        self, op: str, inputs: Sequence[str], outputs: int, settings: Mapping[str, Any]
    ) -> list[str]:
        key = (op, *inputs, outputs, *((name, _frozen(value)) for name, value in sorted(settings.items())))
        if key not in self._made:
            self._made[key] = self.writer.emit_many(op, inputs, outputs, **settings)
        return self._made[key]

    def kernel(
        self, op: str, of: str, inputs: Sequence[str], shapes: Sequence[Shape], settings: Mapping[str, Any]
    ) -> list[str]:
        """Write a node of the training build's (`kernels`); of: what is made by the node that it is for.

        shapes: of its outputs. Its name has no number in it: graphs of other sizes, which count otherwise, meet there.
        """
        name = f"{self.writer.prefix}.{op}.of.{of}"
        names = [name, *(f"{name}.{index}" for index in range(1, len(shapes)))]
        self.writer.nodes.append(
            helper.make_node(op, inputs, names, name=name, domain="com.microsoft", **settings)
        )
        self.shapes.update(zip(names, shapes, strict=True))
        return names

    def value(self, value: Any, dtype: npt.DTypeLike) -> str:
        key = _frozen(np.asarray(value, dtype))
        if key not in self._made:
            self._made[key] = [self.writer.value(value, dtype)]
        return self._made[key][0]


def _frozen(value: Any) -> Any:
    array = np.asarray(value)
    return array.dtype.str, array.shape, array.tobytes()


class Back:
    """A node, the gradients `dys` of its outputs (None where none arrived), and `emit` to write those of its inputs.

    kept: what the form of the node gave besides its outputs (`table.Entry.form`).
    """

    def __init__(
        self,
        node: Node,
        known: Known,
        once: Once,
        dys: Sequence[str | None] = (),
        kept: Sequence[str] = (),
    ) -> None:
        self.op = node.op
        self.inputs = node.inputs
        self.outputs = node.outputs
        self.attrs = node.attrs
        self.dys = dys
        self.kept = kept
        self.known = known
        self.opset = known.opset
        self._node = node
        self._once = once

    def input(self, position: int) -> str:
        """Return the name of an input, "" when it is omitted."""
        return self._node.input(position)

    def shape(self, name: str) -> Shape:
        """Return the static shape of a tensor of the forward graph, which must have one: see `knows`."""
        return self.known.shapes[name]

    def knows(self, *names: str) -> bool:
        """Return whether tensors of the forward graph have static shapes; else there are `sizes`, and `rank`."""
        return all(name in self.known.shapes for name in names)

    def rank(self, name: str) -> int:
        """Return how many axes a tensor of the forward graph has."""
        return self.known.ranks[name]

    def sizes(self, name: str, start: int = 0) -> str:
        """Return the sizes of a tensor of the forward graph from an axis on, int64 of rank 1."""
        if self.knows(name):
            return self.ints(self.shape(name)[start:])
        found = self.emit("Shape", name)
        return self.cut(found, [0], [start], [self.rank(name)], [1]) if start else found

    def count(self, name: str) -> str:
        """Return how many elements a tensor of the forward graph has, int64 of rank 1."""
        if self.knows(name):
            return self.ints([self.size(name)])
        return self.reshape(self.emit("Size", name), [1])

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the type of a tensor of the forward graph."""
        return np.dtype(helper.tensor_dtype_to_np_dtype(self.known.dtypes.get(name, TensorProto.FLOAT)))

    def constant(self, position: int) -> Array | None:
        """Return the value of an input that no run changes, None of one that is computed or omitted."""
        return self.known.constants.get(self._node.input(position))

    def emit(self, op: str, *inputs: str, **settings: Any) -> str:
        """Write a node with one output and return the output's name; see `GraphWriter.emit_many`."""
        return self._once.emit_many(op, inputs, 1, settings)[0]

    def emit_many(self, op: str, inputs: Sequence[str], outputs: int, **settings: Any) -> list[str]:
        """Write a node and return the names of its outputs."""
        return self._once.emit_many(op, inputs, outputs, settings)

    def kernel(self, op: str, inputs: Sequence[str], shapes: Sequence[Shape], **settings: Any) -> list[str]:
        """Write a node that inference does not know and return its outputs, of these shapes; see `kernels`."""
        return self._once.kernel(op, self.outputs[0], inputs, shapes, settings)

    def number(self, value: Any, like: str) -> str:
        """Return a constant of the type of a tensor of the forward graph."""
        return self._once.value(value, self.dtype(like))

    def ints(self, values: Iterable[int]) -> str:
        """Return an int64 constant of rank 1."""
        return self._once.value(list(values), np.int64)

    def value(self, value: Any, dtype: npt.DTypeLike) -> str:
        """Return a constant."""
        return self._once.value(value, dtype)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Return x in another shape."""
        return self.emit("Reshape", x, self.ints(shape))

    def reshape_as(self, x: str, name: str) -> str:
        """Return x in the shape of a tensor of the forward graph."""
        if self.knows(name):
            return self.reshape(x, self.shape(name))
        return self.emit("Reshape", x, self.sizes(name), allowzero=1)

    def transpose(self, x: str, perm: Sequence[int]) -> str:
        """Return x with its axes in another order."""
        order = list(perm)
        return x if order == sorted(order) else self.emit("Transpose", x, perm=order)

    def mul(self, *factors: str) -> str:
        """Return a product."""
        first, *rest = factors
        for factor in rest:
            first = self.emit("Mul", first, factor)
        return first

    def scaled(self, x: str, factor: float, like: str) -> str:
        """Return x times a number."""
        return x if factor == 1.0 else self.emit("Mul", x, self.number(factor, like))

    def zeros(self, name: str) -> str:
        """Return zeros of the shape and type of a tensor of the forward graph."""
        return self.blank(self.sizes(name), name)

    def blank(self, sizes: str, like: str) -> str:
        """Return zeros of sizes, int64 of rank 1, and of the type of a tensor of the forward graph."""
        return self.emit("Expand", self.number(0.0, like), sizes)

    def sum(self, x: str, axes: Sequence[int], *, keepdims: bool = False) -> str:
        """Return x summed over axes."""
        return self.emit("ReduceSum", x, axes=list(axes), keepdims=int(keepdims)) if axes else x

    def cut(
        self, x: str, axes: Sequence[int], starts: Sequence[int], ends: Sequence[int], steps: Sequence[int]
    ) -> str:
        """Return a slice of x."""
        return self.emit("Slice", x, *(self.ints(each) for each in (starts, ends, axes, steps)))

    def fit(self, gradient: str, wide: str, name: str) -> str:
        """Return a gradient of the shape of `wide`, to which a tensor was broadcast, summed to the tensor's own."""
        if not self.knows(wide, name):
            return self.sum_as(gradient, self.rank(wide), name)
        shape, own = self.shape(wide), self.shape(name)
        if own == shape:
            return gradient
        lead = len(shape) - len(own)
        axes = [*range(lead), *(i + lead for i, n in enumerate(own) if n == 1 and shape[i + lead] != 1)]
        total = self.sum(gradient, axes)
        return total if len(own) + len(axes) == len(shape) else self.reshape(total, own)

    def sum_as(self, gradient: str, rank: int, name: str) -> str:
        """Return a gradient of so many axes summed to the shape of a tensor that was broadcast to its shape."""
        lead = rank - self.rank(name)
        if self.knows(name) and 1 not in self.shape(name):
            return self.sum(gradient, range(lead))
        own = self.sizes(name)
        padded = self.emit("Concat", self.ints([1] * lead), own, axis=0) if lead else own
        stretched = self.emit("Not", self.emit("Equal", padded, self.emit("Shape", gradient)))
        axes = self.reshape(self.emit("NonZero", stretched), [-1])
        total = self.emit("ReduceSum", gradient, axes, keepdims=1, noop_with_empty_axes=1)
        return self.reshape_as(total, name)

    def spread(self, gradient: str, shape: Shape, axis: int, places: range, size: int, like: str) -> str:
        """Return zeros with a gradient of `shape` at equally spaced places of an axis, which has `size` then."""
        places = (
            range(places.start, places.stop, places.step)
            if len(places) > 1
            else range(places[0], places[0] + 1)
        )
        if places.step < 0:
            gradient = self.cut(gradient, [axis], [len(places) - 1], [-len(places) - 1], [-1])
            places = places[::-1]
        step, covered = places.step, len(places) * places.step
        if step > 1:
            apart = (*shape[: axis + 1], 1, *shape[axis + 1 :])
            gradient = self.padded(self.reshape(gradient, apart), len(apart), axis + 1, 0, step - 1, like)
            gradient = self.reshape(gradient, (*shape[:axis], covered, *shape[axis + 1 :]))
        after = size - places.start - covered
        if after < 0:
            gradient = self.cut(gradient, [axis], [0], [covered + after], [1])
        return self.padded(gradient, len(shape), axis, places.start, max(after, 0), like)

    def padded(self, x: str, rank: int, axis: int, before: int, after: int, like: str) -> str:
        """Return x with zeros before and behind along one axis."""
        if not before and not after:
            return x
        pads = [0] * (2 * rank)
        pads[axis], pads[rank + axis] = before, after
        return self.emit("Pad", x, self.ints(pads), self.number(0.0, like))

    def size(self, name: str) -> int:
        """Return how many elements a tensor of the forward graph has."""
        return math.prod(self.shape(name))

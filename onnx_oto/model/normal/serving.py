"""A model as data are served to it: samples first in every input and output, and numbers for inputs without data.

Training and evaluation count samples along the first axis. Recurrent models often have the batch behind the time, and
states with the batch behind the layers; an exporter may also make an input of what is always the same (a sampling
rate). All of that is a matter of a few nodes around the model, not of whoever feeds it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, ValueInfoProto, helper

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.order import fed_inputs, nodes_inside
from onnx_oto.model.graph.writer import GraphWriter
from onnx_oto.model.shapes.inference import infer

PREFIX = "onnx_oto.served"
BATCH = "onnx_oto_batch"
_CALLED = re.compile(r"(?i)batch|^bs$")
_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_VIEWS = frozenset("Cast Flatten Gather Identity Reshape Slice Split Squeeze Transpose Unsqueeze".split())  # noqa: SIM905


@dataclass(frozen=True)
class Serving:
    """How data are served. axes: of the batch, by input, where it is not the first. values: what fills an input."""

    axes: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[str, float] = field(default_factory=dict)

    def served(self, model: ModelProto) -> ModelProto:
        """Return a copy that reads samples along the first axis of every input, and gives them so.

        Inputs that the model does not have are left out of account. Raises UnsupportedError where nothing says how
        many samples an input is to be filled for.
        """
        result = ModelProto()
        result.CopyFrom(model)
        graph = result.graph
        inputs = {value.name: value for value in data_inputs(result)}
        symbols = [_open(value).get(self.axes.get(name, 0), "") for name, value in inputs.items()]
        writer = GraphWriter(opset_of(result), PREFIX)
        for name, axis in self.axes.items():
            if axis and name in inputs and name not in self.values:
                _turn(result, inputs[name], axis, writer)
        filled = [inputs[name] for name in self.values if name in inputs]
        fed = [value for name, value in inputs.items() if name not in self.values]
        for value in filled:
            _fill(result, value, self.values[value.name], self.axes.get(value.name, 0), fed, writer)
        kept = [value for value in graph.input if value.name not in self.values]
        del graph.input[:]
        graph.input.extend(kept)
        nodes = [*writer.nodes, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(writer.initializers)
        _outputs_first(result, [value.name for value in fed], symbols)
        return result


def serving(
    model: ModelProto,
    held: Collection[str] | None,
    *,
    axes: Mapping[str, int] | None = None,
    values: Mapping[str, float] | None = None,
) -> Serving:
    """Return how data are served to a model.

    held: the inputs that the data hold by name, None while nothing is known of them. axes, values: what is asked for.
    Of an input that nothing is asked for the batch is the axis that is called as a batch is (`batch_size`), or has the
    name of that of other inputs, or the only open one behind a fixed one, or the first. What the data do not hold and
    what is nothing but the first state of a recurrent layer is filled with zeros. Raises UsageError for inputs and
    axes that the model does not have.
    """
    asked, given = dict(axes or {}), dict(values or {})
    inputs = {value.name: value for value in data_inputs(model)}
    for name in (*asked, *given):
        if name not in inputs:
            raise UsageError(f"the model has no input {name!r}: it reads {', '.join(inputs)}")
    for name, axis in asked.items():
        rank = len(inputs[name].type.tensor_type.shape.dim)
        if not 0 <= axis < rank:
            raise UsageError(f"input {name!r} has {rank} axes: its batch cannot be on axis {axis}")
    if held is not None:
        named = held if set(held) != {""} else ()
        given.update(
            {name: 0.0 for name in _states(model, inputs) if name not in named and name not in given}
        )
    found = {name: axis for name in inputs if (axis := asked.get(name, _batch_axis(inputs, name))) > 0}
    return Serving(found, given)


def data_inputs(model: ModelProto) -> list[ValueInfoProto]:
    """Return the inputs that must be fed and are tensors."""
    return [value for value in fed_inputs(model.graph) if value.type.HasField("tensor_type")]


def _open(value: ValueInfoProto) -> dict[int, str]:
    """Return the open axes of an input, and their symbols ("" without one)."""
    dims = value.type.tensor_type.shape.dim
    return {axis: dim.dim_param for axis, dim in enumerate(dims) if not dim.dim_value > 0}


def _batch_axis(inputs: Mapping[str, ValueInfoProto], name: str) -> int:
    open_axes = {each: _open(value) for each, value in inputs.items()}
    symbols = [symbol for axes in open_axes.values() for symbol in axes.values() if _CALLED.match(symbol)]
    own = open_axes[name]
    if symbols and symbols[0] in own.values():
        return next(axis for axis, symbol in own.items() if symbol == symbols[0])
    if 0 in own or not own:
        return 0
    first = inputs[name].type.tensor_type.shape.dim[0].dim_value
    others = any(0 in axes for each, axes in open_axes.items() if each != name)
    return next(iter(own)) if others and len(own) == 1 and first > 1 else 0


def _states(model: ModelProto, inputs: Iterable[str]) -> list[str]:
    """Return the inputs that nothing reads, through views, but recurrent layers as their first state."""
    readers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in nodes_inside(model.graph.node):
        for index, name in enumerate(node.input):
            readers.setdefault(name, []).append((node, index))
    given = {value.name for value in model.graph.output}

    def is_state(name: str) -> bool:
        found = readers.get(name, [])
        return (
            bool(found)
            and name not in given
            and all(
                index in _STATES.get(node.op_type, ())
                or (
                    node.op_type in _VIEWS and index == 0 and all(is_state(out) for out in node.output if out)
                )
                for node, index in found
            )
        )

    return [name for name in inputs if is_state(name)]


def _turn(model: ModelProto, value: ValueInfoProto, axis: int, writer: GraphWriter) -> None:
    """Let an input have its batch first, in place: the model reads it turned back."""
    dims = value.type.tensor_type.shape.dim
    order = [axis, *(each for each in range(len(dims)) if each != axis)]
    back = writer.emit("Transpose", value.name, perm=np.argsort(order).tolist())
    _reread(model, value.name, back)
    turned = [dims[each] for each in order]
    shape = onnx.TensorShapeProto()
    shape.dim.extend(turned)
    value.type.tensor_type.shape.CopyFrom(shape)


def _fill(
    model: ModelProto,
    value: ValueInfoProto,
    number: float,
    axis: int,
    fed: Iterable[ValueInfoProto],
    writer: GraphWriter,
) -> None:
    """Compute an input, in place: a number everywhere, for as many samples as the first of `fed` has."""
    kind = value.type.tensor_type
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    counted = next((each.name for each in fed if each.type.tensor_type.shape.dim), None)
    if any(size is None for at, size in enumerate(dims) if at != axis) or (None in dims and counted is None):
        raise UnsupportedError(
            f"input {value.name!r} leaves more open than its batch: nothing says how large it is to be filled; give "
            "it in the data"
        )
    element = helper.make_tensor("value", kind.elem_type, [1], [number])
    if None in dims:
        samples = writer.emit("Slice", writer.emit("Shape", str(counted)), starts=[0], ends=[1])
        parts = [samples if size is None else writer.ints([size]) for size in dims]
        shape = writer.emit("Concat", *parts, axis=0)
    else:
        shape = writer.ints([size for size in dims if size is not None])
    _reread(model, value.name, writer.emit("ConstantOfShape", shape, value=element))


def _outputs_first(model: ModelProto, fed: Collection[str], symbols: Collection[str]) -> None:
    """Turn outputs whose batch is on another axis than the first, in place.

    The batch is followed by inference; where that ends, a declared symbol of an input's batch tells it.
    """
    probe = ModelProto()
    probe.CopyFrom(model)
    for value in probe.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in fed and dims and not dims[0].dim_value > 0:
            dims[0].dim_param = BATCH
    for value in probe.graph.output:
        value.type.tensor_type.ClearField("shape")
    shapes = infer(probe).shapes
    for value in model.graph.output:
        declared = [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        axes = _where(shapes.get(value.name, ()) or (), {BATCH})
        axes = axes or _where(declared, {symbol for symbol in symbols if symbol})
        if len(axes) == 1 and axes[0]:
            _turn_output(model, value, axes[0], len(shapes.get(value.name) or declared))


def _where(shape: Iterable[object], sizes: Collection[str]) -> list[int]:
    return [axis for axis, size in enumerate(shape) if size in sizes]


def _turn_output(model: ModelProto, value: ValueInfoProto, axis: int, rank: int) -> None:
    inside = f"{PREFIX}.{value.name}"
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == value.name:
                node.output[index] = inside
    _reread(model, value.name, inside)
    order = [axis, *(each for each in range(rank) if each != axis)]
    model.graph.node.append(helper.make_node("Transpose", [inside], [value.name], name=inside, perm=order))
    dims = list(value.type.tensor_type.shape.dim)
    shape = onnx.TensorShapeProto()
    shape.dim.extend([dims[each] for each in order] if len(dims) == rank else [shape.Dimension()] * rank)
    value.type.tensor_type.shape.CopyFrom(shape)


def _reread(model: ModelProto, old: str, new: str) -> None:
    """Let all nodes, those in bodies too, read `new` where they read `old`, in place."""
    for node in nodes_inside(model.graph.node):
        for index, name in enumerate(node.input):
            if name == old:
                node.input[index] = new

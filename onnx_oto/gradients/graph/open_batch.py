"""Opens the batch axis of a model that was exported for a fixed number of samples, often one."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.static_types import Type, types

BATCH = "onnx_oto_batch"

ADVICE = "export it with a dynamic first axis"


def fixed_batch(model: onnx.ModelProto, weights: Collection[str]) -> int | None:
    """Return the number of samples a model is fixed to, or None when an input leaves its first axis open.

    Raises UnsupportedError when the inputs disagree, because then nothing tells which axis is the batch.
    """
    sizes = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in weights or not len(dims):
            continue
        if not dims[0].HasField("dim_value") or dims[0].dim_value <= 0:
            return None
        sizes[value.name] = int(dims[0].dim_value)
    if len(set(sizes.values())) != 1:
        found = ", ".join(f"{name} {size}" for name, size in sizes.items()) or "none"
        raise UnsupportedError(
            f"no input has an open batch axis and their first axes differ ({found}): {ADVICE}"
        )
    return next(iter(sizes.values()))


def open_batch(model: onnx.ModelProto, weights: Collection[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """Return a copy whose first input axis is the symbol BATCH, with the sizes that depend on it recomputed.

    The batch is followed by shape inference. Where a constant writes it down (Reshape targets, Resize sizes, a
    class token that an exporter expanded to one row), the constant is replaced. The caller must still compare
    both models: opening is an inference, not a proof. Raises UnsupportedError when the batch is lost on the way.
    """
    fixed = types(model)
    size = fixed_batch(model, weights)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for value in copy.graph.input:
        if value.name not in weights and len(value.type.tensor_type.shape.dim):
            value.type.tensor_type.shape.dim[0].dim_param = BATCH
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    opener = _Opener(copy, fixed, size or 1)
    while opener.round():
        pass
    known = types(copy)
    for output in outputs:
        shape = known[output].shape
        if shape is None or not shape or shape[0] != BATCH:
            raise UnsupportedError(
                f"the model is fixed to a batch of {size}, and its batch axis cannot be followed to output "
                f"{output!r}: {ADVICE}"
            )
    return copy


class _Opener:
    """The copy being opened, round by round: every rewrite lets inference follow the batch a little further."""

    def __init__(self, model: onnx.ModelProto, fixed: dict[str, Type], size: int) -> None:
        self.model = model
        self.fixed = fixed
        self.size = size
        self.given = {value.name for value in model.graph.input}
        self.done: set[str] = set()
        self.known: dict[str, Type] = {}

    def round(self) -> bool:
        """Rewrite every node that drops the batch now; return whether there was any."""
        self.known = types(self.model)
        constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        nodes: list[onnx.NodeProto] = []
        before = len(self.done)
        for node in self.model.graph.node:
            rewrite = _REWRITES.get(node.op_type)
            if rewrite is not None and node.output[0] not in self.done and self._carries(node):
                nodes.extend(rewrite(self, node, constants))
            nodes.append(node)
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)
        return len(self.done) > before

    def _carries(self, node: onnx.NodeProto) -> bool:
        return any(self.batch_axis(name) is not None for name in node.input if name)

    def batch_axis(self, name: str) -> int | None:
        """Return the axis of a tensor whose size depends on the batch."""
        shape = self.known[name].shape if name in self.known else None
        axes = [axis for axis, size in enumerate(shape or ()) if isinstance(size, str) and BATCH in size]
        return axes[0] if axes else None

    def static(self, name: str) -> tuple[int, ...] | None:
        return self.fixed[name].static if name in self.fixed else None

    def constant(self, name: str, values: list[int]) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def rows(self, node: onnx.NodeProto, source: str, rest: list[int]) -> tuple[str, list[onnx.NodeProto]]:
        """Return a tensor that holds [batch of `source`, *rest], and the nodes that compute it."""
        name = f"{node.output[0]}.shape"
        first = helper.make_node("Shape", [source], [f"{name}.first"], name=f"{name}.first", start=0, end=1)
        tail = self.constant(f"{name}.rest", rest)
        joined = helper.make_node("Concat", [f"{name}.first", tail], [name], name=name, axis=0)
        return name, [first, joined]


def _reshape(
    opener: _Opener, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """A target that writes the batch down gets -1 there: the axis behind as many elements as the batch axis had."""
    axis = opener.batch_axis(node.input[0])
    before, after = opener.static(node.input[0]), opener.static(node.output[0])
    if node.input[1] not in constants or axis is None or before is None or after is None:
        return []
    if opener.batch_axis(node.output[0]) is not None:
        return []
    opener.done.add(node.output[0])
    lead = math.prod(before[:axis])
    places = [j for j in range(len(after)) if math.prod(after[:j]) == lead and after[j] % opener.size == 0]
    if places:
        target = [*after[: places[0]], -1, *after[places[0] + 1 :]]
        node.input[1] = opener.constant(f"{node.output[0]}.target", target)
    return []


def _resize(
    opener: _Opener, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Constant sizes of all axes get the batch in front."""
    sizes = node.input[3] if len(node.input) > 3 else ""
    after = opener.static(node.output[0])
    partial = any(attribute.name == "axes" for attribute in node.attribute)
    if sizes not in constants or partial or after is None or opener.batch_axis(node.input[0]) != 0:
        return []
    opener.done.add(node.output[0])
    node.input[3], nodes = opener.rows(node, node.input[0], list(after[1:]))
    return nodes


def _concat(
    opener: _Opener, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """Operands without a batch axis that have one row are expanded to the batch of the others."""
    if next(attribute.i for attribute in node.attribute if attribute.name == "axis") == 0:
        return []
    batched = next((name for name in node.input if opener.batch_axis(name) == 0), None)
    single = [i for i, name in enumerate(node.input) if opener.batch_axis(name) is None]
    if batched is None or not single or opener.size != 1:
        return []
    opener.done.add(node.output[0])
    nodes = []
    for position in single:
        shape = opener.static(node.input[position])
        if shape is None or shape[0] != 1:
            continue
        wide = f"{node.output[0]}.{position}"
        target, made = opener.rows(helper.make_node("Expand", [], [wide]), batched, list(shape[1:]))
        nodes += [*made, helper.make_node("Expand", [node.input[position], target], [wide], name=wide)]
        node.input[position] = wide
    return nodes


def _recurrent(
    opener: _Opener, node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]
) -> list[onnx.NodeProto]:
    """A constant initial state that is the same for all samples is left out if it is zero, else expanded.

    So is a parameter of one row.
    """
    axis = 0 if any(attr.name == "layout" and attr.i for attr in node.attribute) else 1
    if opener.batch_axis(node.input[0]) != axis:
        return []
    key = next(filter(None, node.output))
    nodes = []
    for place, name in enumerate(node.input[_STATES:_PEEPHOLES], _STATES):
        shape = opener.static(name)
        if shape is None or shape[axis] != opener.size or opener.batch_axis(name) is not None:
            continue
        one = name
        if name in constants:
            state = numpy_helper.to_array(constants[name])
            row = state.take([0], axis)
            if (state != row).any():
                continue
            if not row.any():
                opener.done.add(key)
                node.input[place] = ""
                continue
            one = f"{key}.{place}.one"
            opener.model.graph.initializer.append(numpy_helper.from_array(row, one))
        elif opener.size != 1:
            if name in opener.given:
                raise UnsupportedError(
                    f"the model is fixed to a batch of {opener.size}, and the initial state {name!r} has a row for "
                    f"each sample: {ADVICE}"
                )
            continue
        opener.done.add(key)
        wide = f"{key}.{place}"
        sizes = [opener.constant(f"{wide}.{i}", [n]) for i, n in enumerate(shape)]
        sizes[axis] = f"{wide}.batch"
        batch = helper.make_node("Shape", [node.input[0]], sizes[axis : axis + 1], start=axis, end=axis + 1)
        nodes += [
            batch,
            helper.make_node("Concat", sizes, [f"{wide}.shape"], axis=0),
            helper.make_node("Expand", [one, f"{wide}.shape"], [wide]),
        ]
        node.input[place] = wide
    return nodes


_STATES, _PEEPHOLES = 5, 7
"""Inputs of an LSTM, GRU or RNN: initial states from the first to before the second."""
_REWRITES = {
    "Reshape": _reshape,
    "Resize": _resize,
    "Concat": _concat,
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
}

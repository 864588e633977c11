"""What norms read of a model: as it is, or run with the statistics of every batch.

The latter as in training: what a norm gives on then has a mean and a variance that are known, whatever the layers
before it have become, so one pass over the data is enough for norms in any depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.order import drop_unneeded
from onnx_oto.model.graph.writer import GraphWriter

Array = npt.NDArray[Any]

EPSILON = 1e-5
_PREFIX = "onnx_oto.recalibration"


class Norm(NamedTuple):
    """A BatchNormalization: its node's output, the tensor that it reads, its initializers, [C], and its epsilon."""

    output: str
    source: str
    scale: str
    shift: str
    mean: str
    variance: str
    epsilon: float


def norms_of(model: onnx.ModelProto) -> tuple[Norm, ...]:
    """Return the norms whose statistics are initializers that nothing else reads."""
    counts = Counter(name for node in model.graph.node for name in node.input)
    known = {tensor.name for tensor in model.graph.initializer}
    own = {name for name in known if counts[name] == 1}
    found = []
    for node in model.graph.node:
        if node.op_type != "BatchNormalization" or node.domain or len(node.input) != 5:
            continue
        source, scale, shift, mean, variance = node.input
        if own.issuperset((mean, variance)) and known.issuperset((scale, shift)):
            epsilon = next((each.f for each in node.attribute if each.name == "epsilon"), EPSILON)
            found.append(Norm(node.output[0], source, scale, shift, mean, variance, epsilon))
    return tuple(found)


def watching(model: onnx.ModelProto, norms: Sequence[Norm]) -> onnx.ModelProto:
    """Return a model that gives mean and variance, [C], over a batch of what each of these norms reads."""
    return _rewritten(model, {norm.output: norm for norm in norms}, None)


def with_batch_statistics(
    model: onnx.ModelProto, norms: Sequence[Norm], giving: Mapping[str, tuple[Array, Array]]
) -> onnx.ModelProto:
    """Return a model that gives the same, in which the norms take the statistics of the batch for theirs.

    giving: by the name of a norm's mean the deviation and the mean that its output has then, [C].
    """
    return _rewritten(model, {norm.output: norm for norm in norms}, giving)


def _rewritten(
    model: onnx.ModelProto, norms: Mapping[str, Norm], giving: Mapping[str, tuple[Array, Array]] | None
) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    writer = GraphWriter(opset_of(model), _PREFIX)
    nodes: list[onnx.NodeProto] = []
    outputs: dict[str, list[str]] = {}
    for node in model.graph.node:
        norm = norms.get(node.output[0]) if node.output else None
        if norm is None or giving is None:
            nodes.append(node)
        if norm is not None:
            outputs[norm.output] = _seen(writer, norm, None if giving is None else giving[norm.mean])
            nodes += writer.nodes
            writer.nodes = []
    del result.graph.node[:], result.graph.output[:]
    result.graph.node.extend(nodes)
    writer.write_to(result.graph)
    result.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for output in norms
        for name in outputs[output]
    )
    drop_unneeded(result.graph)
    return result


def _seen(writer: GraphWriter, norm: Norm, giving: tuple[Array, Array] | None) -> list[str]:
    """Write what gives mean and variance of what a norm reads, and what it gives on; return the names of the two."""
    flat = writer.reshape(norm.source, [0, 0, -1])
    mean = writer.emit("ReduceMean", flat, axes=[0, 2], keepdims=1)
    apart = writer.emit("Sub", flat, mean)
    variance = writer.emit("ReduceMean", writer.emit("Mul", apart, apart), axes=[0, 2], keepdims=1)
    if giving is not None:
        scale, shift = (writer.value(np.reshape(each, (1, -1, 1))) for each in giving)
        deviation = writer.emit("Sqrt", writer.emit("Add", variance, writer.value([norm.epsilon])))
        given = writer.emit("Mul", writer.emit("Div", apart, deviation), scale)
        given = writer.emit("Add", given, shift)
        inputs, name = [given, writer.emit("Shape", norm.source)], writer.fresh("Reshape")
        writer.nodes.append(helper.make_node("Reshape", inputs, [norm.output], name=name))
    return [writer.reshape(mean, [-1]), writer.reshape(variance, [-1])]


class Statistics(NamedTuple):
    """Mean and variance of what a norm reads: float64 [C]."""

    mean: Array
    variance: Array


Values = Callable[[str], Array]


def given_on(norm: Norm, value: Values, before: Statistics) -> tuple[Array, Array]:
    """Return deviation and mean of what a norm gives where it reads this. value: gives an initializer."""
    factor = value(norm.scale) / np.sqrt(value(norm.variance) + norm.epsilon)
    return factor * np.sqrt(before.variance), value(norm.shift) + factor * (before.mean - value(norm.mean))


def moved(norm: Norm, value: Values, before: Statistics, after: Statistics, most: float) -> Statistics:
    """Return the statistics for which a norm that reads `after` gives what it gave of `before`, with these in it.

    most: by what it is widened at most.
    """
    least = (before.variance + norm.epsilon) / most**2
    ratio = np.maximum(after.variance + norm.epsilon, least) / (before.variance + norm.epsilon)
    variance = (value(norm.variance) + norm.epsilon) * ratio - norm.epsilon
    return Statistics(
        after.mean - (before.mean - value(norm.mean)) * np.sqrt(ratio), np.maximum(variance, 0.0)
    )

"""Norms that an exporter folded away, put back for training and folded again behind it.

An exporter of a trained model multiplies the BatchNormalization behind a layer into the layer: what comes back has a
bias where there was a norm, and trains as badly as a network without norms does. Here a layer z = W x + b becomes

    y[c] = scale[c] ((W x)[c] - mean[c]) / sqrt(variance[c] + EPSILON) + shift[c]

with mean and variance of W x on data, scale = sqrt(variance + EPSILON) and shift = mean + b, so that y = z until the
first step. `shift` keeps the name of the bias: it has its place in the model, its lanes and its origin. In the end

    W[c] <- W[c] scale[c] / sqrt(variance[c] + EPSILON)     b[c] <- shift[c] - mean[c] scale[c] / sqrt(...)

and the graph is the one that was brought. Where weight, scale and shift of a channel are zero, so are W and b. A
channel that never varies has scale sqrt(EPSILON), and everything stays finite.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_oto.model.graph.names import all_names, fresh
from onnx_oto.model.graph.node import Node, opset_of
from onnx_oto.model.graph.order import drop_unneeded
from onnx_oto.model.graph.tensors import from_array
from onnx_oto.model.graph.writer import GraphWriter
from onnx_oto.model.view import Graph

Array = npt.NDArray[Any]

EPSILON = 1e-5
MOMENTUM = 0.9
FIRST_OPSET = 7
"""Before it BatchNormalization says in other ways that it does not train."""
_WEIGHTED = {
    "Conv": (1,),
    "ConvTranspose": (1,),
    "DeformConv": (1,),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "LSTM": (1,),
    "GRU": (1,),
    "RNN": (1,),
}
"""Layers, and which inputs hold their weights."""
_NORMS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "LpNormalization",
        "LRN",
        "MeanVarianceNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
    }
)
_PREFIX = "onnx_oto.calibration"
LAST = "give an output"
SHARED = "share a parameter"
NORMED = "have a norm"
SINGLE = "give one position of a sample"
FIXED = "do not train"


@dataclass(frozen=True)
class Layer:
    """A layer with a norm behind it.

    node: the one that adds the bias. weight, bias: initializers; axis: of the weight, that of the channels the layer
    gives. groups: of a transposed convolution, whose weight has the channels of one group on that axis. output: the
    tensor with the bias, [N, C, ...] of `rank` axes. scale, mean, variance: names for the norm's parameters, [C].
    """

    node: str
    weight: str
    bias: str
    axis: int
    groups: int
    output: str
    rank: int
    scale: str
    mean: str
    variance: str


def layers_without_norm(
    graph: Graph, trained: Collection[str], tied: Collection[str] = ()
) -> tuple[tuple[Layer, ...], Counter[str]]:
    """Return the layers behind which a norm can be put back, and how many were left out for which reason.

    trained: initializers that training changes. tied: those that hold a parameter that others hold too. A layer has a
    weight and one bias for each channel, both initializers that nothing else reads. Left out are layers behind which
    nothing but an output follows, or a norm already, and convolutions that give a single position, which gates are.
    """
    found: list[Layer] = []
    left: Counter[str] = Counter()
    taken = {*graph.shapes, *graph.initializers}
    for node in graph.nodes:
        layer = None if node.within else _layer(graph, node)
        if layer is None:
            continue
        linear, weight, bias, axis = layer
        reason = _why_left(graph, node, (weight, bias), trained, {*tied, *graph.captured})
        if reason:
            left[reason] += 1
            continue
        scale, mean, variance = (fresh(f"{bias}__{what}", taken) for what in ("scale", "mean", "variance"))
        groups = int(linear.attrs.get("group", 1)) if linear.op == "ConvTranspose" else 1
        output = node.outputs[0]
        rank = len(graph.shape(output) or ())
        found.append(Layer(node.name, weight, bias, axis, groups, output, rank, scale, mean, variance))
    return tuple(found), left


def has_norms(graph: Graph) -> bool:
    """Return whether any layer has a norm."""
    return any(node.op in _NORMS for node in graph.nodes)


def _layer(graph: Graph, node: Node) -> tuple[Node, str, str, int] | None:
    """Return the node with the weight, weight, bias and the weight's channel axis, of a node that adds a bias [C]."""
    if node.domain:
        return None
    if node.op in ("Conv", "ConvTranspose"):
        found = (node, node.inputs[1], node.input(2), 0 if node.op == "Conv" else 1)
    elif node.op == "Gemm":
        if (
            node.attrs.get("beta", 1.0) != 1.0
            or node.attrs.get("transA", 0)
            or node.inputs[0] in graph.initializers
        ):
            return None
        found = (node, node.inputs[1], node.input(2), 0 if node.attrs.get("transB", 0) else 1)
    elif node.op == "Add":
        product = _product(graph, node)
        if product is None:
            return None
        found = (product[0], product[0].inputs[1], product[1], 1)
    else:
        return None
    _, weight, bias, _ = found
    shape = graph.shape(node.outputs[0])
    if weight not in graph.initializers or bias not in graph.initializers or shape is None or len(shape) < 2:
        return None
    return found if tuple(graph.initializers[bias].dims) == (shape[1],) else None


def _product(graph: Graph, node: Node) -> tuple[Node, str] | None:
    """Return the MatMul [N, K] x [K, C] that an Add alone reads, and what it adds."""
    for made, bias in (node.inputs, node.inputs[::-1]):
        product = graph.producer.get(made)
        if product is None or product.op != "MatMul" or product.domain or bias not in graph.initializers:
            continue
        ranks = [len(graph.shape(name) or ()) for name in product.inputs]
        if ranks == [2, 2] and len(graph.consumers[made]) == 1 and made not in graph.outputs:
            return product, bias
    return None


def _why_left(
    graph: Graph, node: Node, parameters: Sequence[str], trained: Collection[str], shared: Collection[str]
) -> str:
    if any(name not in trained for name in parameters):
        return FIXED
    if any(name in shared or len(graph.consumers[name]) > 1 for name in parameters):
        return SHARED
    output = node.outputs[0]
    if any(reader.op in _NORMS for reader, _ in graph.consumers.get(output, ())):
        return NORMED
    if _reaches_output(graph, output):
        return LAST
    places = (graph.shape(output) or ())[2:]
    return SINGLE if places and all(size == 1 for size in places) else ""


def _reaches_output(graph: Graph, name: str) -> bool:
    """Return whether a tensor reaches an output of the model without passing another layer."""
    waiting, seen = [name], {name}
    while waiting:
        name = waiting.pop()
        if name in graph.outputs:
            return True
        for reader, _ in graph.consumers.get(name, ()):
            if any(reader.input(i) in graph.initializers for i in _WEIGHTED.get(reader.op, ())):
                continue
            new = [each for each in reader.outputs if each and each not in seen]
            seen.update(new)
            waiting.extend(new)
    return False


def with_norms(
    model: ModelProto, layers: Sequence[Layer], values: Mapping[str, Array] | None = None
) -> ModelProto:
    """Return a copy of the model with a norm behind every layer. float32.

    values: what `calibrated` returned; without them the norms do nothing (mean 0, variance 1, scale 1).
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    of_node = {layer.node: layer for layer in layers}
    biases = {tensor.name: tensor for tensor in graph.initializer}
    taken = all_names(graph)
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if (layer := of_node.get(node.name)) is not None:
            nodes[-1:] = _normed(node, layer, taken, opset_of(model), graph.initializer)
            size = biases[layer.bias].dims[0]
            for name, value in _values_of(layer, size, values):
                tensor = biases.get(name) or graph.initializer.add()
                tensor.CopyFrom(from_array(value, name))
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def _values_of(layer: Layer, size: int, values: Mapping[str, Array] | None) -> Iterator[tuple[str, Array]]:
    ones, zeros = np.ones(size, np.float32), np.zeros(size, np.float32)
    start = {layer.scale: ones, layer.mean: zeros, layer.variance: ones * np.float32(1 - EPSILON)}
    names = start if values is None else (layer.scale, layer.mean, layer.variance, layer.bias)
    for name in names:
        yield name, start[name] if values is None else values[name].astype(np.float32)


def _normed(
    node: NodeProto, layer: Layer, taken: set[str], opset: int, initializers: Any
) -> tuple[NodeProto, ...]:
    """Return the nodes in place of one that adds a bias: without it, and the norm, which shifts by it."""
    linear = NodeProto()
    linear.CopyFrom(node)
    if node.op_type == "Add":
        made = next(name for name in node.input if name != layer.bias)
        kept: tuple[NodeProto, ...] = ()
    else:
        made = fresh(f"{layer.output}__plain", taken)
        linear.output[0] = made
        del linear.input[2:]
        if node.op_type == "Gemm" and opset < 11:  # it has to add something
            zero = fresh(f"{layer.bias}__zero", taken)
            initializers.append(from_array(np.zeros(1, np.float32), zero))
            linear.input.append(zero)
        kept = (linear,)
    norm = helper.make_node(
        "BatchNormalization",
        [made, layer.scale, layer.bias, layer.mean, layer.variance],
        [layer.output],
        name=fresh(f"{layer.node}__norm", taken),
        epsilon=EPSILON,
        momentum=MOMENTUM,
    )
    return (*kept, norm)


def measuring(model: ModelProto, layers: Sequence[Layer]) -> ModelProto:
    """Return a copy of the model whose outputs are, by layer, mean and variance of its channels over a batch."""
    result = ModelProto()
    result.CopyFrom(model)
    writer = GraphWriter(opset_of(model), _PREFIX)
    names: list[str] = []
    for layer in layers:
        axes = [axis for axis in range(layer.rank) if axis != 1]
        mean = writer.emit("ReduceMean", layer.output, axes=axes, keepdims=1)
        apart = writer.emit("Sub", layer.output, mean)
        squares = writer.emit("Mul", apart, apart)
        names.append(writer.reshape(mean, [-1]))
        names.append(writer.reshape(writer.emit("ReduceMean", squares, axes=axes, keepdims=1), [-1]))
    writer.write_to(result.graph)
    del result.graph.output[:]
    result.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None]) for name in names
    )
    drop_unneeded(result.graph)
    return result


class Pooled:
    """Mean and population variance of channels over several batches of equal size.

    With m_i and v_i those of batch i: mean = mean(m), variance = mean(v) + mean((m - mean)^2). float64.
    """

    def __init__(self) -> None:
        self._batches: list[list[Array]] = []

    def add(self, outputs: Sequence[Array]) -> None:
        """Take what the model of `measuring` gave for a batch."""
        self._batches.append([np.asarray(each, np.float64) for each in outputs])

    def __iter__(self) -> Iterator[tuple[Array, Array]]:
        """Yield mean and variance by layer."""
        for index in range(0, len(self._batches[0]), 2):
            means = np.stack([batch[index] for batch in self._batches])
            within = np.stack([batch[index + 1] for batch in self._batches])
            mean = means.mean(0)
            yield mean, within.mean(0) + np.square(means - mean).mean(0)


def calibrated(layers: Sequence[Layer], biases: Mapping[str, Array], pooled: Pooled) -> dict[str, Array]:
    """Return the parameters of the norms that leave the function as it is, float64 by name, the biases' too."""
    found: dict[str, Array] = {}
    for layer, (mean, variance) in zip(layers, pooled, strict=True):
        found[layer.mean] = mean - biases[layer.bias].astype(np.float64)
        found[layer.variance] = variance
        found[layer.scale] = np.sqrt(variance + EPSILON)
        found[layer.bias] = mean
    return found


def folded(layers: Sequence[Layer], values: Mapping[str, Array]) -> dict[str, Array]:
    """Return values of the parameters of the model that was brought: the norms multiplied in, float32.

    values: of the model with norms, by initializer; those that are none of the layers' are returned as they are.
    """
    found = dict(values)
    for layer in layers:
        scale, mean, variance = (found.pop(name) for name in (layer.scale, layer.mean, layer.variance))
        factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + EPSILON)
        weight = values[layer.weight]
        found[layer.weight] = (weight * _along(factor, weight, layer) + 0.0).astype(np.float32)
        found[layer.bias] = (values[layer.bias] - factor * mean + 0.0).astype(np.float32)
    return found


def _along(factor: Array, weight: Array, layer: Layer) -> Array:
    """Return a factor for each channel as it is multiplied with the weight.

    The weight of a transposed convolution, [inputs, C / groups, ...], has the inputs of one group after the other.
    """
    trailing = (1,) * (weight.ndim - layer.axis - 1)
    if layer.groups == 1:
        return factor.reshape((1,) * layer.axis + (-1,) + trailing)
    rows = np.repeat(factor.reshape(layer.groups, -1), weight.shape[0] // layer.groups, axis=0)
    return rows.reshape(*rows.shape, *trailing)

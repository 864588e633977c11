"""Small networks of five kinds, with what they are trained on: for whole trajectories of several backends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_oto.gradients import Backend, TrainingSpec, prepare
from onnx_oto.model.graph.writer import GraphWriter

Array = NDArray[Any]
OPSET = 17
CLASSES = 10


class Network(NamedTuple):
    """A classifier with its parameters, a batch of inputs, and its labels."""

    model: onnx.ModelProto
    trainable: tuple[str, ...]
    x: Array
    labels: Array


class Layers(GraphWriter):
    """A writer of layers with random weights."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(OPSET, "net")
        self.rng = np.random.default_rng(seed)
        self.trainable: list[str] = []

    def weight(self, *shape: int, fan: int) -> str:
        """Return a parameter whose numbers keep the variance of what it multiplies."""
        return self._trained(self.rng.standard_normal(shape) * np.sqrt(2 / fan))

    def _trained(self, value: Array) -> str:
        self.trainable.append(self.value(value))
        return self.trainable[-1]

    def conv(self, x: str, before: int, after: int, kernel: int = 3, stride: int = 1, group: int = 1) -> str:
        """Return a convolution with its BatchNormalization."""
        share = before // group
        w = self.weight(after, share, kernel, kernel, fan=share * kernel * kernel)
        pads = [kernel // 2] * 4
        y = self.emit("Conv", x, w, pads=pads, strides=[stride] * 2, group=group)
        scale, shift = self._trained(np.ones(after)), self._trained(np.zeros(after))
        return self.emit(
            "BatchNormalization", y, scale, shift, self.value(np.zeros(after)), self.value(np.ones(after))
        )

    def dense(self, x: str, before: int, after: int) -> str:
        """Return x W + b over the last axis."""
        product = self.emit("MatMul", x, self.weight(before, after, fan=before))
        return self.emit("Add", product, self._trained(np.zeros(after)))

    def norm(self, x: str, size: int) -> str:
        """Return a LayerNormalization over the last axis."""
        return self.emit(
            "LayerNormalization", x, self._trained(np.ones(size)), self._trained(np.zeros(size)), axis=-1
        )

    def block(self, x: str, length: int, size: int, heads: int, *, first: bool) -> str:
        """Return a layer of a transformer, normalised first (as in ViT) or behind each sum (as in BERT)."""
        y = self.attention(self.norm(x, size) if first else x, length, size, heads)
        x = self.emit("Add", x, y)
        x = x if first else self.norm(x, size)
        y = self.dense(
            self.gelu(self.dense(self.norm(x, size) if first else x, size, 2 * size)), 2 * size, size
        )
        x = self.emit("Add", x, y)
        return x if first else self.norm(x, size)

    def attention(self, x: str, length: int, size: int, heads: int) -> str:
        """Return attention of every place to all, as exporters write it out."""
        each = size // heads
        parts = [self.reshape(self.dense(x, size, size), (-1, length, heads, each)) for _ in range(3)]
        q, v = (self.emit("Transpose", part, perm=[0, 2, 1, 3]) for part in (parts[0], parts[2]))
        k = self.emit("Transpose", parts[1], perm=[0, 2, 3, 1])
        scores = self.emit("Mul", self.emit("MatMul", q, k), self.value(each**-0.5))
        seen = self.emit("MatMul", self.emit("Softmax", scores, axis=-1), v)
        joined = self.reshape(self.emit("Transpose", seen, perm=[0, 2, 1, 3]), (-1, length, size))
        return self.dense(joined, size, size)

    def gelu(self, x: str) -> str:
        """Return x / 2 (1 + erf(x / sqrt 2))."""
        erf = self.emit("Erf", self.emit("Div", x, self.value(np.sqrt(2.0))))
        half = self.emit("Mul", x, self.value(0.5))
        return self.emit("Mul", half, self.emit("Add", erf, self.value(1.0)))

    def head(self, x: str, size: int) -> str:
        """Return scores of classes from images."""
        return self.dense(self.emit("Flatten", self.emit("GlobalAveragePool", x)), size, CLASSES)

    def finish(self, y: str, x: Array, labels: Array) -> Network:
        """Return the network whose scores are `y` of its input "x"."""
        kind = helper.np_dtype_to_tensor_dtype(x.dtype)
        given = helper.make_tensor_value_info("x", kind, ["N", *x.shape[1:]])
        scores = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])
        graph = helper.make_graph([], "net", [given], [scores])
        self.write_to(graph)
        graph.node.append(helper.make_node("Identity", [y], ["y"], name="y"))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        return Network(model, tuple(self.trainable), x, labels)


def _images(side: int, batch: int = 16) -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((batch, 3, side, side)).astype(np.float32), rng.integers(0, CLASSES, batch)


def cnn() -> Network:
    """Return three convolutions with BatchNormalization, and a MaxPool."""
    net = Layers()
    x = net.emit("Relu", net.conv("x", 3, 8))
    x = net.emit("MaxPool", net.emit("Relu", net.conv(x, 8, 16)), kernel_shape=[2, 2], strides=[2, 2])
    return net.finish(net.head(net.emit("Relu", net.conv(x, 16, 16)), 16), *_images(12))


def resnet() -> Network:
    """Return ResNet-20 at an eighth of its sizes: three stages of three blocks."""
    net, before = Layers(), 4
    x = net.emit("Relu", net.conv("x", 3, before))
    for stage, channels in enumerate((4, 8, 16)):
        for number in range(3):
            stride = 2 if stage and not number else 1
            y = net.conv(net.emit("Relu", net.conv(x, before, channels, stride=stride)), channels, channels)
            same = stride == 1 and before == channels
            x = net.emit("Relu", net.emit("Add", y, x if same else net.conv(x, before, channels, 1, stride)))
            before = channels
    return net.finish(net.head(x, before), *_images(16))


def mobilenet() -> Network:
    """Return inverted residuals: 1x1 up, depthwise, 1x1 down, with Relu6."""
    net, before = Layers(), 8
    bounds = net.value(0.0), net.value(6.0)
    x = net.emit("Clip", net.conv("x", 3, before, stride=2), *bounds)
    for channels, stride in ((8, 1), (12, 2), (12, 1), (16, 1)):
        wide = 4 * before
        y = net.emit("Clip", net.conv(x, before, wide, 1), *bounds)
        y = net.emit("Clip", net.conv(y, wide, wide, 3, stride, wide), *bounds)
        y = net.conv(y, wide, channels, 1)
        x = net.emit("Add", x, y) if stride == 1 and before == channels else y
        before = channels
    return net.finish(net.head(x, before), *_images(16))


def vit() -> Network:
    """Return a transformer over patches of 4 by 4."""
    net, size = Layers(), 16
    patches = net.emit("Conv", "x", net.weight(size, 3, 4, 4, fan=48), strides=[4, 4])
    x = net.emit("Transpose", net.reshape(patches, (-1, size, 9)), perm=[0, 2, 1])
    x = net.emit("Add", x, net.weight(1, 9, size, fan=50))
    for _ in range(2):
        x = net.block(x, 9, size, 4, first=True)
    x = net.emit("ReduceMean", net.norm(x, size), axes=[1], keepdims=0)
    return net.finish(net.dense(x, size, CLASSES), *_images(12))


def encoder() -> Network:
    """Return two layers of an encoder over tokens, judged by the first one."""
    net, size, length, words = Layers(), 16, 12, 40
    rng = np.random.default_rng(1)
    tokens, labels = rng.integers(0, words, (16, length)), rng.integers(0, CLASSES, 16)
    x = net.emit("Gather", net.weight(words, size, fan=2), "x", axis=0)
    x = net.norm(net.emit("Add", x, net.weight(1, length, size, fan=50)), size)
    for _ in range(2):
        x = net.block(x, length, size, 2, first=False)
    first = net.emit("Gather", x, net.value(0, np.int64), axis=1)
    return net.finish(
        net.dense(net.emit("Tanh", net.dense(first, size, size)), size, CLASSES), tokens, labels
    )


NETWORKS: dict[str, Callable[[], Network]] = {
    "cnn": cnn,
    "resnet": resnet,
    "mobilenet": mobilenet,
    "vit": vit,
    "encoder": encoder,
}


class Way(NamedTuple):
    """A trajectory: the loss of each step, the gradient of the first one, and the parameters at both ends."""

    losses: NDArray[np.float64]
    begin: NDArray[np.float32]
    end: NDArray[np.float32]
    slope: NDArray[np.float32]

    def off(self, other: Way) -> float:
        """Return how far another one ends from this one, as a share of the way."""
        return float(np.linalg.norm(other.end - self.end) / np.linalg.norm(self.end - self.begin))


RATE, STEPS = 0.01, 20


def descend(network: Network, backend: Backend, *, shards: int = 1, moved: int = 0) -> Way:
    """Return what steps of plain descent on one batch do. moved: a seed by which the inputs are moved by 1e-7 first."""
    x = network.x
    if moved:
        x = (x * (1 + 1e-7 * np.random.default_rng(moved).standard_normal(x.shape))).astype(x.dtype)
    spec = TrainingSpec(network.trainable, "cross-entropy", batch=len(x), shards=shards)
    session = prepare(network.model, spec, backend).build()
    begin, losses, slope = session.params.copy(), [], None
    for _ in range(STEPS):
        losses.append(session.step({"x": x}, network.labels))
        slope = session.grads.copy() if slope is None else slope
        session.params -= np.float32(RATE) * session.grads
    assert slope is not None
    way = Way(np.array(losses), begin, session.params.copy(), slope)
    session.close()
    return way

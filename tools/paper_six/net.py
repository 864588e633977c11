"""A growing ONNX graph. Parameters have the names that PyTorch's modules give them, so that weights can be copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from paper_six.starts import Array, Start

OPSET, IR = 20, 9
"""The opset that has Gelu, and what onnxruntime 1.19 reads."""


class Tensor(NamedTuple):
    """A tensor of the graph and the length of its channel axis."""

    name: str
    channels: int


class Net:
    """Nodes and parameters; every method that adds a layer returns its output. Layers are named as in PyTorch."""

    def __init__(self, shape: Sequence[int | str], seed: int) -> None:
        """shape: of the input `image`, without the samples."""
        self.rng = np.random.default_rng(seed)
        self.shape = list(shape)
        self.nodes: list[onnx.NodeProto] = []
        self.taken: set[str] = set()
        self.parameters: dict[str, TensorProto] = {}
        self.image = Tensor("image", int(shape[0]))

    def parameter(self, name: str, value: Array) -> str:
        """Add a parameter; one that is there already is shared, with the values that it has."""
        if name not in self.parameters:
            self.parameters[name] = numpy_helper.from_array(np.asarray(value, np.float32), name)
        return name

    def op(self, kind: str, inputs: Sequence[str], name: str, channels: int, **attributes: object) -> Tensor:
        """Add a node with one output."""
        while name in self.taken:  # a layer that runs several times
            name += "'"
        self.taken.add(name)
        self.nodes.append(helper.make_node(kind, list(inputs), [f"{name}.out"], name=name, **attributes))
        return Tensor(f"{name}.out", channels)

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add a constant of integers."""
        if name not in self.parameters:
            self.parameters[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def conv(
        self,
        x: Tensor,
        name: str,
        channels: int,
        kernel: int,
        start: Start,
        *,
        stride: int = 1,
        pad: int | None = None,
        groups: int = 1,
        bias: bool = False,
    ) -> Tensor:
        """Add a convolution; pad: on every side, half of the kernel unless given."""
        shape = (channels, x.channels // groups, kernel, kernel)
        inputs = [x.name, *self.weights(name, shape, channels, start, bias)]
        pads = [kernel // 2 if pad is None else pad] * 4
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "group": groups}
        return self.op("Conv", inputs, name, channels, **attributes)

    def deconv(self, x: Tensor, name: str, channels: int, start: Start, *, extra: int) -> Tensor:
        """Add a transposed convolution with bias, 3x3, stride 2: n pixels become 2 n - 1 + extra."""
        inputs = [x.name, *self.weights(name, (x.channels, channels, 3, 3), channels, start, True)]
        attributes = {
            "kernel_shape": [3, 3],
            "strides": [2, 2],
            "pads": [1] * 4,
            "output_padding": [extra] * 2,
        }
        return self.op("ConvTranspose", inputs, name, channels, **attributes)

    def linear(self, x: Tensor, name: str, features: int, start: Start) -> Tensor:
        """Add x W^T + b over the last of two axes."""
        inputs = [x.name, *self.weights(name, (features, x.channels), features, start, True)]
        return self.op("Gemm", inputs, name, features, transB=1)

    def weights(self, name: str, shape: tuple[int, ...], length: int, start: Start, bias: bool) -> list[str]:
        """Add weight and, if wanted, bias of a layer; return their names."""
        found = [self.parameter(f"{name}.weight", start.weight(self.rng, shape))]
        if bias:
            found.append(self.parameter(f"{name}.bias", start.bias(self.rng, shape, length)))
        return found

    def batch_norm(self, x: Tensor, name: str) -> Tensor:
        """Add a BatchNormalization that begins with scale 1, shift 0 and the statistics of N(0, 1)."""
        begin = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
        names = [self.parameter(f"{name}.{part}", np.full(x.channels, v)) for part, v in begin.items()]
        return self.op("BatchNormalization", [x.name, *names], name, x.channels, momentum=0.9, epsilon=1e-5)

    def layer_norm(self, x: Tensor, name: str) -> Tensor:
        """Add a LayerNormalization over the last axis."""
        names = [
            self.parameter(f"{name}.{part}", np.full(x.channels, v))
            for part, v in (("weight", 1.0), ("bias", 0.0))
        ]
        return self.op("LayerNormalization", [x.name, *names], name, x.channels, axis=-1, epsilon=1e-6)

    def relu(self, x: Tensor) -> Tensor:
        """Add max(x, 0)."""
        return self.op("Relu", [x.name], f"{x.name.removesuffix('.out')}.relu", x.channels)

    def add(self, a: Tensor, b: Tensor, name: str) -> Tensor:
        """Add a + b."""
        return self.op("Add", [a.name, b.name], name, a.channels)

    def concat(self, parts: Sequence[Tensor], name: str) -> Tensor:
        """Join channels."""
        return self.op("Concat", [p.name for p in parts], name, sum(p.channels for p in parts), axis=1)

    def pool(self, x: Tensor, name: str, kind: str, kernel: int, stride: int, pad: int = 0) -> Tensor:
        """Add MaxPool or AveragePool; what does not fill a window at the end is left out."""
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [pad] * 4}
        return self.op(kind, [x.name], name, x.channels, **attributes)

    def pooled(self, x: Tensor) -> Tensor:
        """Add the mean over all pixels: [N, C, H, W] becomes [N, C]."""
        y = self.op("GlobalAveragePool", [x.name], "pool", x.channels)
        return self.op("Flatten", [y.name], "flatten", x.channels)

    def transpose(self, x: Tensor, name: str, order: Sequence[int]) -> Tensor:
        """Add a change of the order of axes."""
        return self.op("Transpose", [x.name], name, x.channels, perm=list(order))

    def model(self, last: Tensor, output: str, shape: Sequence[int | str], name: str) -> onnx.ModelProto:
        """Return the checked model: `image` [N, ...] -> `output` [N, *shape]; `last` is the output of the last node."""
        assert self.nodes[-1].output[0] == last.name
        self.nodes[-1].output[0] = output
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            name,
            [value("image", TensorProto.FLOAT, ["N", *self.shape])],
            [value(output, TensorProto.FLOAT, ["N", *shape])],
            list(self.parameters.values()),
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        made.producer_name = "onnx-oto"
        if made.ByteSize() < 1 << 30:
            onnx.checker.check_model(made, full_check=True)
        return made

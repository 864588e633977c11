"""Untrained ONNX models for the benchmarks, made with onnx.helper alone (no torch)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A growing ONNX graph with He-initialised float32 parameters; every method returns a tensor name."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[TensorProto] = []

    def parameter(self, name: str, value: np.ndarray) -> str:
        self.initializers.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def op(self, kind: str, inputs: list[str], name: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def conv(self, x: str, name: str, cin: int, cout: int, kernel: int, stride: int = 1) -> str:
        deviation = np.sqrt(2.0 / (cin * kernel * kernel))
        weight = self.rng.normal(0.0, deviation, (cout, cin, kernel, kernel))
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return self.op("Conv", [x, self.parameter(f"{name}.weight", weight)], name, **attributes)

    def batch_norm(self, x: str, name: str, channels: int) -> str:
        start = {"scale": 1.0, "bias": 0.0, "mean": 0.0, "var": 1.0}
        inputs = [self.parameter(f"{name}.{part}", np.full(channels, value)) for part, value in start.items()]
        return self.op("BatchNormalization", [x, *inputs], name, momentum=0.9)

    def block(self, x: str, name: str, cin: int, cout: int, stride: int) -> str:
        """Return the output of a basic residual block (two 3x3 convolutions)."""
        y = self.batch_norm(self.conv(x, f"{name}.conv1", cin, cout, 3, stride), f"{name}.bn1", cout)
        y = self.op("Relu", [y], f"{name}.relu1")
        y = self.batch_norm(self.conv(y, f"{name}.conv2", cout, cout, 3), f"{name}.bn2", cout)
        if stride != 1 or cin != cout:
            x = self.batch_norm(self.conv(x, f"{name}.down", cin, cout, 1, stride), f"{name}.down_bn", cout)
        return self.op("Relu", [self.op("Add", [x, y], f"{name}.add")], f"{name}.relu2")


def residual(
    *,
    stages: tuple[int, ...] = (64, 128, 256, 512),
    blocks: int = 2,
    image: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    seed: int = 0,
) -> onnx.ModelProto:
    """Return a CIFAR-style residual network: float32 [N, *image] -> logits float32 [N, classes].

    One stage per entry of `stages` (its channels), `blocks` basic blocks each; every stage but the first
    halves the resolution. The default is ResNet-18 with 11.2 million parameters.
    """
    net = Net(seed)
    x = net.conv("image", "stem", image[0], stages[0], 3)
    x = net.op("Relu", [net.batch_norm(x, "stem_bn", stages[0])], "stem_relu")
    cin = stages[0]
    for i, cout in enumerate(stages):
        for j in range(blocks):
            x = net.block(x, f"stage{i}.{j}", cin, cout, 2 if i and not j else 1)
            cin = cout
    x = net.op("Flatten", [net.op("GlobalAveragePool", [x], "pool")], "flatten")
    weight = net.rng.normal(0.0, np.sqrt(1.0 / cin), (cin, classes))
    x = net.op(
        "Gemm", [x, net.parameter("fc.weight", weight), net.parameter("fc.bias", np.zeros(classes))], "fc"
    )
    net.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        net.nodes,
        "residual",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", *image])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        net.initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model

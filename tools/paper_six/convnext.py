"""ConvNeXt-T (Liu et al. 2022, arXiv 2201.03545): blocks 3, 3, 9, 3 of 96, 192, 384, 768 channels.

Weights begin with N(0, 0.02^2), biases with 0, layer scales with 1e-6. Paths are not dropped at random: ONNX has no
operator for it. For small images the first layer cuts 2x2 pixels in place of 4x4.
"""

from __future__ import annotations

import numpy as np
import onnx

from paper_six.form import Form
from paper_six.net import Net, Tensor
from paper_six.starts import TRUNCATED

BLOCKS, WIDTHS = (3, 3, 9, 3), (96, 192, 384, 768)
SCALE = 1e-6
LAST, FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""Axes of [N, C, H, W] with channels last, and back."""


def convnext_t(form: Form, seed: int) -> onnx.ModelProto:
    """Return ConvNeXt-T."""
    net = Net(form.image, seed)
    patch = 4 if form.large else 2
    x = net.conv(
        net.image, "features.0.0", form.of(WIDTHS[0]), patch, TRUNCATED, stride=patch, pad=0, bias=True
    )
    x = _norm(net, x, "features.0.1")
    for stage, (count, channels) in enumerate(zip(BLOCKS, map(form.of, WIDTHS), strict=True)):
        if stage:
            x = _norm(net, x, f"features.{2 * stage}.0")
            x = net.conv(x, f"features.{2 * stage}.1", channels, 2, TRUNCATED, stride=2, pad=0, bias=True)
        for index in range(count):
            x = _block(net, x, f"features.{2 * stage + 1}.{index}")
    x = net.op("GlobalAveragePool", [x.name], "pool", x.channels)
    x = _norm(net, x, "classifier.0")
    x = net.op("Flatten", [x.name], "flatten", x.channels)
    x = net.linear(x, "classifier.2", form.classes, TRUNCATED)
    return net.model(x, "logits", [form.classes], "convnext_t")


def _block(net: Net, x: Tensor, name: str) -> Tensor:
    """Return x + scale * MLP(norm(depthwise 7x7(x)))."""
    y = net.conv(x, f"{name}.block.0", x.channels, 7, TRUNCATED, groups=x.channels, bias=True)
    y = net.layer_norm(net.transpose(y, f"{name}.last", LAST), f"{name}.block.2")
    y = _dense(net, y, f"{name}.block.3", 4 * x.channels)
    y = net.op("Gelu", [y.name], f"{name}.block.4", y.channels)
    y = net.transpose(_dense(net, y, f"{name}.block.5", x.channels), f"{name}.first", FIRST)
    scale = net.parameter(f"{name}.layer_scale", np.full((x.channels, 1, 1), SCALE, np.float32))
    y = net.op("Mul", [y.name, scale], f"{name}.scaled", x.channels)
    return net.add(y, x, f"{name}.add")


def _norm(net: Net, x: Tensor, name: str) -> Tensor:
    """Return x with its channels normalised at every pixel."""
    y = net.layer_norm(net.transpose(x, f"{name}.last", LAST), name)
    return net.transpose(y, f"{name}.first", FIRST)


def _dense(net: Net, x: Tensor, name: str, channels: int) -> Tensor:
    """Return x W + b over the last of four axes; W [in, out], the transpose of PyTorch's."""
    value = TRUNCATED.weight(net.rng, (x.channels, channels))
    y = net.op("MatMul", [x.name, net.parameter(f"{name}.weight", value)], name, channels)
    return net.op(
        "Add",
        [y.name, net.parameter(f"{name}.bias", np.zeros(channels, np.float32))],
        f"{name}.add",
        channels,
    )

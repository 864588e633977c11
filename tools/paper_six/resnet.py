"""ResNet (He et al. 2016, arXiv 1512.03385): ResNet-18 and ResNet-50, and ResNet-20 and ResNet-56 for CIFAR.

For small images ResNet-18 and ResNet-50 have a first layer of 3x3 at full size and no pooling behind it, as in OTO's
own experiments, and begin as PyTorch's layers do; for large ones they are torchvision's, with weights by fan-out.
ResNet-20 and ResNet-56 have 16, 32 and 64 channels, and shortcuts without parameters where the size changes: every
second pixel, new channels filled with zeros ("option A").
"""

from __future__ import annotations

import onnx

from paper_six.form import Form
from paper_six.net import Net, Tensor
from paper_six.starts import HE_IN, HE_OUT, TORCH, Start

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


def resnet18(form: Form, seed: int) -> onnx.ModelProto:
    """Return ResNet-18: basic blocks, 2 in each stage."""
    return _resnet(form, seed, (2, 2, 2, 2), bottleneck=False, name="resnet18")


def resnet50(form: Form, seed: int) -> onnx.ModelProto:
    """Return ResNet-50: bottlenecks, the stride in their 3x3 layer."""
    return _resnet(form, seed, (3, 4, 6, 3), bottleneck=True, name="resnet50")


def resnet20(form: Form, seed: int) -> onnx.ModelProto:
    """Return ResNet-20 for CIFAR."""
    return _cifar(form, seed, 3, "resnet20")


def resnet56(form: Form, seed: int) -> onnx.ModelProto:
    """Return ResNet-56 for CIFAR."""
    return _cifar(form, seed, 9, "resnet56")


def _resnet(
    form: Form, seed: int, blocks: tuple[int, ...], *, bottleneck: bool, name: str
) -> onnx.ModelProto:
    net = Net(form.image, seed)
    start = HE_OUT if form.large else TORCH
    width = form.of(WIDTHS[0])
    if form.large:
        x = net.conv(net.image, "conv1", width, 7, start, stride=2)
        x = net.pool(net.relu(net.batch_norm(x, "bn1")), "maxpool", "MaxPool", 3, 2, 1)
    else:
        x = net.conv(net.image, "conv1", width, 3, start, stride=form.stride)
        x = net.relu(net.batch_norm(x, "bn1"))
    for stage, (count, channels) in enumerate(zip(blocks, map(form.of, WIDTHS), strict=True)):
        for index in range(count):
            stride = 2 if stage and not index else 1
            place = f"layer{stage + 1}.{index}"
            make = _bottleneck if bottleneck else _basic
            x = make(net, x, place, channels, stride, start)
    x = net.linear(net.pooled(x), "fc", form.classes, TORCH)
    return net.model(x, "logits", [form.classes], name)


def _basic(net: Net, x: Tensor, name: str, channels: int, stride: int, start: Start) -> Tensor:
    y = net.conv(x, f"{name}.conv1", channels, 3, start, stride=stride)
    y = net.relu(net.batch_norm(y, f"{name}.bn1"))
    y = net.batch_norm(net.conv(y, f"{name}.conv2", channels, 3, start), f"{name}.bn2")
    return net.relu(net.add(y, _shortcut(net, x, name, channels, stride, start), f"{name}.add"))


def _bottleneck(net: Net, x: Tensor, name: str, channels: int, stride: int, start: Start) -> Tensor:
    y = net.relu(net.batch_norm(net.conv(x, f"{name}.conv1", channels, 1, start), f"{name}.bn1"))
    y = net.conv(y, f"{name}.conv2", channels, 3, start, stride=stride)
    y = net.relu(net.batch_norm(y, f"{name}.bn2"))
    y = net.batch_norm(net.conv(y, f"{name}.conv3", EXPANSION * channels, 1, start), f"{name}.bn3")
    return net.relu(net.add(y, _shortcut(net, x, name, y.channels, stride, start), f"{name}.add"))


def _shortcut(net: Net, x: Tensor, name: str, channels: int, stride: int, start: Start) -> Tensor:
    if stride == 1 and x.channels == channels:
        return x
    y = net.conv(x, f"{name}.downsample.0", channels, 1, start, stride=stride)
    return net.batch_norm(y, f"{name}.downsample.1")


def _cifar(form: Form, seed: int, blocks: int, name: str) -> onnx.ModelProto:
    net = Net(form.image, seed)
    x = net.conv(net.image, "conv1", form.of(16), 3, HE_IN, stride=form.stride)
    x = net.relu(net.batch_norm(x, "bn1"))
    for stage, channels in enumerate(map(form.of, (16, 32, 64))):
        for index in range(blocks):
            stride = 2 if stage and not index else 1
            place = f"layer{stage + 1}.{index}"
            y = net.conv(x, f"{place}.conv1", channels, 3, HE_IN, stride=stride)
            y = net.relu(net.batch_norm(y, f"{place}.bn1"))
            y = net.batch_norm(net.conv(y, f"{place}.conv2", channels, 3, HE_IN), f"{place}.bn2")
            x = net.relu(net.add(y, _filled(net, x, place, channels, stride), f"{place}.add"))
    x = net.linear(net.pooled(x), "linear", form.classes, HE_IN)
    return net.model(x, "logits", [form.classes], name)


def _filled(net: Net, x: Tensor, name: str, channels: int, stride: int) -> Tensor:
    """Return every second pixel of x, with as many channels of zeros in front of it as behind it."""
    if stride == 1:
        return x
    axes, start, end = (net.integers(f"every_second.{key}", v) for key, v in EVERY_SECOND.items())
    y = net.op(
        "Slice",
        [x.name, start, end, axes, net.integers("every_second.steps", [2, 2])],
        f"{name}.slice",
        x.channels,
    )
    new = channels - x.channels
    pads = net.integers(f"{name}.shortcut.pads", [0, new // 2, 0, 0, 0, new - new // 2, 0, 0])
    return net.op("Pad", [y.name, pads], f"{name}.pad", channels)


EVERY_SECOND = {"axes": [2, 3], "starts": [0, 0], "ends": [1 << 30, 1 << 30]}

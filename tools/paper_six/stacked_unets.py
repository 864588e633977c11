"""Stacked U-Nets: SUNet-64 (Shah et al. 2018, arXiv 1804.10343).

Four stages of 2, 4, 4 and 1 small U-Nets with 64 filters inside, and 256, 512, 768 and 1024 channels between them; that
of the last stage goes down once, all others twice. For small images the first layer is 3x3 at full size.
"""

from __future__ import annotations

import onnx

from paper_six.form import Form
from paper_six.net import Net, Tensor
from paper_six.starts import HE_OUT, Start, no_bias, normal

DEPTHS, WIDTHS, LEVELS = (2, 4, 4, 1), (256, 512, 768, 1024), (2, 2, 2, 1)
FIRST, FILTERS = 64, 64


def stacked_unets(form: Form, seed: int) -> onnx.ModelProto:
    """Return SUNet-64."""
    net = Net(form.image, seed)
    kernel, stride = (7, 2) if form.large else (3, form.stride)
    x = net.conv(net.image, "features.conv1", form.of(FIRST), kernel, HE_OUT, stride=stride, bias=True)
    size = _halved(form.size, stride)
    x, size = _residual(net, x, "features.residual1", form.of(2 * FIRST)), _halved(size)
    for stage, (depth, width, levels) in enumerate(zip(DEPTHS, map(form.of, WIDTHS), LEVELS, strict=True), 1):
        for index in range(depth):
            x = _unet(net, x, f"features.unet{stage}_{index}", form.of(FILTERS), width, levels, size)
        if stage < len(DEPTHS) and size > 1:
            x, size = net.pool(x, f"features.avgpool{stage}", "AveragePool", 2, 2), size // 2
    x = net.pooled(net.relu(net.batch_norm(x, "features.bn2")))
    x = net.linear(x, "linear", form.classes, Start(normal(1e-3), no_bias))
    return net.model(x, "logits", [form.classes], "stacked_unets")


def _halved(size: int, stride: int = 2) -> int:
    """Return how many pixels a 3x3 layer leaves."""
    return -(-size // stride)


def _ready(net: Net, x: Tensor, name: str, number: int | str = "") -> Tensor:
    """Return ReLU of the BatchNormalization of x."""
    return net.relu(net.batch_norm(x, f"{name}.bn{number}"))


def _residual(net: Net, x: Tensor, name: str, channels: int) -> Tensor:
    """Return half of the pixels: two 3x3 layers beside one of 1x1."""
    x = net.relu(net.batch_norm(x, f"{name}.bn.0"))
    y = net.conv(x, f"{name}.conv.0", channels, 3, HE_OUT, stride=2, bias=True)
    y = net.relu(net.batch_norm(y, f"{name}.conv.2"))
    y = net.conv(y, f"{name}.conv.4", channels, 3, HE_OUT, bias=True)
    return net.add(
        y, net.conv(x, f"{name}.shortcut.0", channels, 1, HE_OUT, stride=2, bias=True), f"{name}.add"
    )


def _unet(net: Net, x: Tensor, name: str, filters: int, width: int, levels: int, size: int) -> Tensor:
    """Return x, made `width` channels wide, plus what goes down `levels` times and up again."""
    widens = x.channels != width
    if widens:
        x = net.relu(net.batch_norm(x, f"{name}.bn.bn0"))
    seen, sizes = [x], [size]
    for level in range(levels):
        seen.append(_down(net, seen[-1], f"{name}.down.{level}", filters, level, ready=widens))
        sizes.append(_halved(sizes[-1]))
    y = seen[-1]
    for level in reversed(range(levels)):
        y = _up(net, y, f"{name}.up.{level}", filters, width, level, extra=1 - sizes[level] % 2)
        if level:
            y = net.concat([y, seen[level]], f"{name}.join{level}")
    if widens:
        x = net.conv(x, f"{name}.upsample.conv0", width, 1, HE_OUT, bias=True)
    return net.add(y, x, f"{name}.add")


def _down(net: Net, x: Tensor, name: str, filters: int, level: int, *, ready: bool) -> Tensor:
    if not level:
        x = x if ready else _ready(net, x, name, 0)
        x = net.conv(x, f"{name}.conv0", filters, 1, HE_OUT, bias=True)
    x = net.conv(_ready(net, x, name, 1), f"{name}.conv1", filters, 3, HE_OUT, stride=2, bias=True)
    return net.conv(_ready(net, x, name, 2), f"{name}.conv2", filters, 3, HE_OUT, bias=True)


def _up(net: Net, x: Tensor, name: str, filters: int, width: int, level: int, *, extra: int) -> Tensor:
    x = net.deconv(_ready(net, x, name, 0), f"{name}.deconv0", filters, HE_OUT, extra=extra)
    x = net.conv(_ready(net, x, name, 1), f"{name}.deconv1", filters, 3, HE_OUT, bias=True)
    return x if level else net.conv(_ready(net, x, name, 2), f"{name}.conv2", width, 1, HE_OUT, bias=True)

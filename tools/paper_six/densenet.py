"""DenseNet-121 (Huang et al. 2017, arXiv 1608.06993): growth 32, bottlenecks of 4 times that, halving transitions.

For small images the first layer is 3x3 at full size, without pooling behind it.
"""

from __future__ import annotations

import onnx

from paper_six.form import Form
from paper_six.net import Net, Tensor
from paper_six.starts import HE_IN, Start, no_bias, uniform

BLOCKS = (6, 12, 24, 16)
GROWTH, FIRST, BOTTLENECK = 32, 64, 4


def densenet121(form: Form, seed: int) -> onnx.ModelProto:
    """Return DenseNet-121."""
    net = Net(form.image, seed)
    if form.large:
        x = net.conv(net.image, "features.conv0", form.of(FIRST), 7, HE_IN, stride=2)
        x = net.pool(net.relu(net.batch_norm(x, "features.norm0")), "features.pool0", "MaxPool", 3, 2, 1)
    else:
        x = net.conv(net.image, "features.conv0", form.of(FIRST), 3, HE_IN, stride=form.stride)
        x = net.relu(net.batch_norm(x, "features.norm0"))
    for number, layers in enumerate(BLOCKS, 1):
        x = _block(net, x, f"features.denseblock{number}", layers, form.of(GROWTH))
        if number < len(BLOCKS):
            name = f"features.transition{number}"
            x = net.relu(net.batch_norm(x, f"{name}.norm"))
            x = net.conv(x, f"{name}.conv", x.channels // 2, 1, HE_IN)
            x = net.pool(x, f"{name}.pool", "AveragePool", 2, 2)
    x = net.pooled(net.relu(net.batch_norm(x, "features.norm5")))
    x = net.linear(x, "classifier", form.classes, Start(uniform, no_bias))
    return net.model(x, "logits", [form.classes], "densenet121")


def _block(net: Net, x: Tensor, name: str, layers: int, growth: int) -> Tensor:
    parts = [x]
    for number in range(1, layers + 1):
        place = f"{name}.denselayer{number}"
        y = net.concat(parts, f"{place}.concat") if number > 1 else x
        y = net.conv(
            net.relu(net.batch_norm(y, f"{place}.norm1")), f"{place}.conv1", BOTTLENECK * growth, 1, HE_IN
        )
        y = net.conv(net.relu(net.batch_norm(y, f"{place}.norm2")), f"{place}.conv2", growth, 3, HE_IN)
        parts.append(y)
    return net.concat(parts, f"{name}.concat")

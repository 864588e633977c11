"""VGG16 (Simonyan and Zisserman 2015, arXiv 1409.1556), without and with BatchNormalization.

For small images, as in OTO's own experiments, the mean over all pixels goes into layers of 512 and 512; for large ones
7x7 pixels go into layers of 4096 and 4096. Weights of convolutions begin by fan-out, as in both.
"""

from __future__ import annotations

import onnx

from paper_six.form import Form
from paper_six.net import Net, Tensor
from paper_six.starts import HE_OUT, TORCH, Start, no_bias, normal

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
DROPOUT = 0.5


def vgg16(form: Form, seed: int) -> onnx.ModelProto:
    """Return VGG16."""
    return _vgg(form, seed, norms=False)


def vgg16_bn(form: Form, seed: int) -> onnx.ModelProto:
    """Return VGG16 with a BatchNormalization behind every convolution."""
    return _vgg(form, seed, norms=True)


def _vgg(form: Form, seed: int, *, norms: bool) -> onnx.ModelProto:
    net = Net(form.image, seed)
    x, place, size = net.image, 0, form.size
    for stage in STAGES:
        for channels in map(form.of, stage):
            x = net.conv(x, f"features.{place}", channels, 3, HE_OUT, bias=True)
            if norms:
                x = net.batch_norm(x, f"features.{place + 1}")
            x, place = net.relu(x), place + (3 if norms else 2)
        if size > 1:  # 28 pixels cannot be halved five times
            x, size = net.pool(x, f"features.{place}", "MaxPool", 2, 2), size // 2
        place += 1
    if form.large:
        x = net.op("Flatten", [x.name], "flatten", x.channels * size * size)
        width, start = form.of(4096), Start(normal(0.01), no_bias)
    else:
        x, width, start = net.pooled(x), form.of(512), TORCH
    for index in (0, 3):
        x = _dropped(
            net, net.relu(net.linear(x, f"classifier.{index}", width, start)), f"classifier.{index + 2}"
        )
    x = net.linear(x, "classifier.6", form.classes, start)
    return net.model(x, "logits", [form.classes], "vgg16_bn" if norms else "vgg16")


def _dropped(net: Net, x: Tensor, name: str) -> Tensor:
    return net.op("Dropout", [x.name, net.parameter("dropout.ratio", DROPOUT)], name, x.channels)  # type: ignore[arg-type]

"""CARN and CARN-M (Ahn et al. 2018, arXiv 1803.08664), for one scale, of images of any size in [0, 1].

Pixels are made of channels in the end (sub-pixel convolution). CARN-M has convolutions in 4 groups, and one residual
block for the three of a cascading block. The mean colour that is taken away first and added at the end stays as it is
in training: `--freeze add_mean`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from paper_six.form import Form
from paper_six.net import Net, Tensor
from paper_six.starts import TORCH

WIDTH, GROUPS = 64, 4
MEAN = (0.4488, 0.4371, 0.4040)
SCALES = (2, 3, 4)


def carn(form: Form, seed: int, scale: int = 2) -> onnx.ModelProto:
    """Return CARN."""
    return _carn(form, seed, scale, mobile=False)


def carn_m(form: Form, seed: int, scale: int = 2) -> onnx.ModelProto:
    """Return CARN-M."""
    return _carn(form, seed, scale, mobile=True)


def _carn(form: Form, seed: int, scale: int, *, mobile: bool) -> onnx.ModelProto:
    if scale not in SCALES:
        raise ValueError(f"scale {scale}: CARN enlarges by 2, 3 or 4")
    net, width, groups = Net(form.image, seed), form.of(WIDTH), GROUPS if mobile else 1
    mean = net.parameter("add_mean", np.reshape(np.float32(MEAN), (3, 1, 1)))
    x = net.op(
        "Sub", ["image", net.parameter("sub_mean", np.reshape(np.float32(MEAN), (3, 1, 1)))], "sub_mean", 3
    )
    x = net.conv(x, "entry", width, 3, TORCH, bias=True)
    x = _cascade(net, x, "", lambda y, i: _cascade(net, y, f"b{i}.", _residual(net, f"b{i}.", mobile)))
    for step, factor in enumerate((2, 2) if scale == 4 else (scale,)):
        place, more = f"upsample.up.body.{3 * step}", factor * factor * width
        x = net.relu(net.conv(x, place, more, 3, TORCH, groups=groups, bias=True))
        x = net.op("DepthToSpace", [x.name], f"{place}.shuffle", width, blocksize=factor, mode="CRD")
    x = net.conv(x, "exit", 3, 3, TORCH, bias=True)
    x = net.op("Add", [x.name, mean], "add_mean", 3)
    larger = tuple(scale * form.size or name for name in ("H", "W"))
    return net.model(x, "enlarged", [3, *larger], "carn_m" if mobile else "carn")


Block = Callable[[Tensor, int], Tensor]


def _cascade(net: Net, x: Tensor, name: str, block: Block) -> Tensor:
    """Return the last of three 1x1 convolutions, each of which reads the input and all blocks so far."""
    seen, y = [x], x
    for index in (1, 2, 3):
        seen.append(block(y, index))
        joined = net.concat(seen, f"{name}join{index}")
        y = net.relu(net.conv(joined, f"{name}c{index}.body.0", x.channels, 1, TORCH, bias=True))
    return y


def _residual(net: Net, place: str, mobile: bool) -> Block:
    """Return what adds a residual block; that of CARN-M is always the same, with the same weights."""
    groups = GROUPS if mobile else 1

    def block(x: Tensor, index: int) -> Tensor:
        name = f"{place}b{1 if mobile else index}.body"
        y = net.relu(net.conv(x, f"{name}.0", x.channels, 3, TORCH, groups=groups, bias=True))
        y = net.conv(y, f"{name}.2", x.channels, 3, TORCH, groups=groups, bias=True)
        if mobile:
            y = net.conv(net.relu(y), f"{name}.4", x.channels, 1, TORCH, bias=True)
        return net.relu(net.add(y, x, f"{name}.add{index}"))

    return block

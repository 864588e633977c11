"""Gradients of convolutions, of any rank, stride, dilation, pads and groups.

Index legend: n sample, c channel, o filter, p place of the output, k place in the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnx_oto.gradients.backends.plain.back import Back, Shape
from onnx_oto.gradients.backends.plain.open_windows import gathered, kernel_of_any_size, spread_to, steps_of
from onnx_oto.gradients.backends.plain.table import Parts, gradient
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node

_FEW = 16
"""Channels of a group; a product of matrices by one with 3 columns takes ten times as long as with 16."""


def padded_by_name(node: Node, facts: Facts) -> str | None:
    """Say so where the pads of a node are not written out."""
    return None if node.attrs.get("auto_pad", "NOTSET") == "NOTSET" else "its pads are not written out"


class Windows(NamedTuple):
    """How windows lie on an image: over `size`, `out` of them along each axis; pads as [begin..., end...]."""

    size: Shape
    out: Shape
    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape
    group: int = 1

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.size)

    @property
    def rest(self) -> list[int]:
        """Places behind the last window, of the padded image, along each axis; negative where it reaches beyond."""
        ends = zip(self.size, self.out, self.kernel, self.strides, self.dilations, strict=True)
        covered = [(o - 1) * s + (k - 1) * d + 1 - n for n, o, k, s, d in ends]
        return [
            begin + end - more
            for begin, end, more in zip(self.pads[: self.rank], self.pads[self.rank :], covered, strict=True)
        ]

    @property
    def is_whole(self) -> bool:
        """Whether the only place of the kernel lies on every place of the image, once."""
        return set(self.kernel) == {1} and self.size == self.out and not any(self.pads)


def windows_of(node: Back, image: str, made: str, kernel: Sequence[int]) -> Windows:
    """Return how the windows of a node lie on `image` and give `made`."""
    ones = (1,) * len(kernel)
    strides, dilations = (tuple(node.attrs.get(name, ones)) for name in ("strides", "dilations"))
    pads = tuple(node.attrs.get("pads", (0,) * (2 * len(kernel))))
    size, out = node.shape(image)[2:], node.shape(made)[2:]
    return Windows(size, out, tuple(kernel), strides, dilations, pads, node.attrs.get("group", 1))


def _kernel_is_open(node: Node, facts: Facts) -> str | None:
    if node.input(1) not in facts.shapes:
        return f"the shape of {node.input(1)!r} is not known before the run"
    return padded_by_name(node, facts)


@gradient("Conv", unless=_kernel_is_open, any_size=True)
def conv(node: Back, dy: str) -> Parts:
    """y[n, o, p] = b[o] + sum_ck w[o, c, k] x[n, c, s p + d k]: dx as ConvTranspose of dy by w, db = sum_np dy.

    dw: see `kernel_gradient`.
    """
    x, w = node.inputs[:2]
    if not node.knows(x, node.outputs[0]):
        steps = steps_of(node, node.shape(w)[2:])
        dx, dw = spread_to(node, dy, w, steps, x), kernel_of_any_size(node, x, dy, x, node.shape(w), steps)
        return [dx, dw, node.sum(dy, [0, *range(2, len(steps.kernel) + 2)])]
    windows = windows_of(node, x, node.outputs[0], node.shape(w)[2:])
    dx = spread_windows(node, dy, w, windows)
    dw = kernel_gradient(node, x, dy, node.shape(x), node.shape(w), windows)
    return [dx, dw, node.sum(dy, [0, *range(2, windows.rank + 2)])]


def _shape_is_asked(node: Node, facts: Facts) -> str | None:
    if "output_shape" in node.attrs:
        return "its pads follow from its output_shape"
    return _kernel_is_open(node, facts)


@gradient("ConvTranspose", unless=_shape_is_asked, any_size=True)
def conv_transpose(node: Back, dy: str) -> Parts:
    """y = b + the adjoint of a convolution by w of x: dx = that convolution of dy; dw, db as there, roles exchanged."""
    x, w = node.inputs[:2]
    y = node.outputs[0]
    if not node.knows(x, y):
        steps = steps_of(node, node.shape(w)[2:])
        dx = gathered(node, dy, w, steps, x)
        dw = kernel_of_any_size(node, dy, x, y, node.shape(w), steps)
        return [dx, dw, node.sum(dy, [0, *range(2, len(steps.kernel) + 2)])]
    windows = windows_of(node, y, x, node.shape(w)[2:])
    rest = [min(r, 0) for r in windows.rest]
    room = [
        *windows.pads[: windows.rank],
        *(p - r for p, r in zip(windows.pads[windows.rank :], rest, strict=True)),
    ]
    windows = windows._replace(pads=tuple(room))
    dx = node.emit(
        "Conv",
        dy,
        w,
        strides=windows.strides,
        dilations=windows.dilations,
        pads=windows.pads,
        group=windows.group,
    )
    dx = _first_places(node, dx, windows)
    dw = kernel_gradient(node, dy, x, node.shape(y), node.shape(w), windows)
    return [dx, dw, node.sum(dy, [0, *range(2, windows.rank + 2)])]


def _first_places(node: Back, x: str, windows: Windows) -> str:
    """Return a convolution without the windows that output_padding has room for."""
    if all(r < s for r, s in zip(windows.rest, windows.strides, strict=True)):
        return x
    axes = list(range(2, windows.rank + 2))
    return node.cut(x, axes, [0] * windows.rank, windows.out, [1] * windows.rank)


def spread_windows(node: Back, dy: str, w: str, windows: Windows) -> str:
    """Return dx[n, c, s p + d k - pad] = sum_opk w[o, c, k] dy[n, o, p]."""
    return node.emit(
        "ConvTranspose",
        dy,
        w,
        kernel_shape=windows.kernel,
        strides=windows.strides,
        dilations=windows.dilations,
        pads=windows.pads,
        output_padding=windows.rest,
        group=windows.group,
    )


def kernel_gradient(node: Back, x: str, dy: str, image: Shape, weight: Shape, windows: Windows) -> str:
    """Return dw[o, c, k] = sum_np dy[n, o, p] x[n, c, s p + d k - pad], for each k what its places see of x by dy.

    Channels lie last, so that what is seen is a slice of long rows, and its product with dy one of matrices over
    samples and places, or with one channel and filter in each group a sum of products of elements. Products of few
    channels are slow: there what all k see is one matrix. image, weight: shapes of x and w.
    """
    rank, group = windows.rank, windows.group
    filters, share, *kernel = weight
    places, taps = image[0] * math.prod(windows.out), math.prod(kernel)
    last = [0, *range(2, rank + 2), 1]
    x, dy = node.transpose(_padded(node, x, windows), last), node.transpose(dy, last)
    seen = [_seen(node, x, k, windows) for k in np.ndindex(*kernel)]
    if share == 1 and filters == group:
        sums = [node.reshape(node.sum(node.mul(each, dy), range(rank + 1)), (filters, 1)) for each in seen]
        return node.reshape(_joined(node, sums), weight)
    seen = [node.reshape(each, (places, group, share)) for each in seen]
    if share < _FEW and taps > 1:
        seen = [_joined(node, seen)]
    dy = node.reshape(dy, (places, filters))
    found = _joined(node, [_product(node, dy, each, places, weight, taps // len(seen)) for each in seen])
    return node.reshape(node.transpose(node.reshape(found, (filters, taps, share)), [0, 2, 1]), weight)


def _joined(node: Back, parts: Sequence[str]) -> str:
    return node.emit("Concat", *parts, axis=-1) if len(parts) > 1 else parts[0]


def _padded(node: Back, x: str, windows: Windows) -> str:
    """Return x with the zeros around it that windows read."""
    if not any(windows.pads):
        return x
    rank = windows.rank
    pads = [0, 0, *windows.pads[:rank], 0, 0, *windows.pads[rank:]]
    return node.emit("Pad", x, node.ints(pads), node.number(0.0, node.inputs[0]))


def _seen(node: Back, x: str, k: Sequence[int], windows: Windows) -> str:
    """Return what the place k of the kernel sees of x [n, *places, c]: [n, *out, c]."""
    if windows.is_whole:
        return x
    starts = [at * d for at, d in zip(k, windows.dilations, strict=True)]
    ends = [f + (o - 1) * s + 1 for f, o, s in zip(starts, windows.out, windows.strides, strict=True)]
    return node.cut(x, range(1, windows.rank + 1), starts, ends, windows.strides)


def _product(node: Back, dy: str, seen: str, places: int, weight: Shape, taps: int) -> str:
    """Return dy' seen, of each group: [filters, taps * share]."""
    filters, share = weight[:2]
    group = node.attrs.get("group", 1)
    if group == 1:
        return node.emit("Gemm", dy, node.reshape(seen, (places, taps * share)), transA=1)
    rows = node.transpose(node.reshape(dy, (places, group, filters // group)), [1, 2, 0])
    product = node.emit("MatMul", rows, node.transpose(seen, [1, 0, 2]))
    return node.reshape(product, (filters, taps * share))

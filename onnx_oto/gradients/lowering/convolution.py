"""Convolutions and poolings: pads written out, transposed convolution, pooling over the whole extent."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.lowering.registry import Outcome, Site, register


def explicit_pads(
    mode: str,
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> list[int]:
    """Return [begin..., end...] of auto_pad SAME_UPPER, SAME_LOWER or VALID (ONNX Conv, opset 11).

    Output size ceil(size / stride); the odd one of the total goes to the end (UPPER) or the beginning
    (LOWER).
    """
    if mode == "VALID":
        return [0] * (2 * len(size))
    begin, end = [], []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if mode == "SAME_UPPER" else large)
        end.append(large if mode == "SAME_UPPER" else small)
    return begin + end


@register("Conv", "MaxPool", "AveragePool")
def padded(node: Site) -> Outcome:
    """auto_pad written out, because ORT's gradients ignore it silently, and dilated AveragePool as a Conv."""
    mode = node.attribute("auto_pad", "NOTSET")
    if mode == "NOTSET":
        dilated = node.op == "AveragePool" and any(d != 1 for d in node.attribute("dilations", ()))
        return _dilated_mean(node, tuple(node.attribute("dilations"))) if dilated else None
    size = node.shape(node.inputs[0])[2:]
    kernel = tuple(node.attribute("kernel_shape") or node.shape(node.inputs[1])[2:])
    ones = (1,) * len(size)
    strides = tuple(node.attribute("strides", ones))
    dilations = tuple(node.attribute("dilations", ones))
    attributes = {k: v for k, v in node.attributes.items() if k != "auto_pad"}
    attributes["pads"] = explicit_pads(mode, size, kernel, strides, dilations)
    if len(node.outputs) > 1 and node.outputs[1]:
        raise UnsupportedError("its second output (indices) cannot be kept while its pads are written out")
    return node.emit(node.op, *node.inputs, **attributes)


@register("GlobalMaxPool")
def global_max_pool(node: Site) -> Outcome:
    """MaxPool over the whole extent."""
    return node.emit("MaxPool", node.inputs[0], kernel_shape=list(node.shape(node.inputs[0])[2:]))


def _dilated_mean(node: Site, dilations: tuple[int, ...]) -> str:
    """Dilated AveragePool: a depthwise Conv with ones, divided by how many inputs each window holds."""
    x = node.inputs[0]
    shape, out = node.shape(x), node.shape(node.outputs[0])[2:]
    kernel = tuple(node.attribute("kernel_shape"))
    rank = len(kernel)
    strides = tuple(node.attribute("strides", (1,) * rank))
    pads = list(node.attribute("pads", (0,) * (2 * rank)))
    include = bool(node.attribute("count_include_pad", 0))
    counts = np.ones(())
    reach = []
    for axis, (n, k, s, d) in enumerate(zip(shape[2:], kernel, strides, dilations, strict=True)):
        begin, end = pads[axis], pads[rank + axis]
        place = np.arange(out[axis])[:, None] * s - begin + np.arange(k) * d
        low, high = (-begin, n + end) if include else (0, n)
        counts = counts[..., None] * ((place >= low) & (place < high)).sum(axis=1)
        reach.append(int(place.max()) + 1 - n)
    ones = node.number(np.ones((shape[1], 1, *kernel)), x)
    sums = node.emit(
        "Conv", x, ones, group=shape[1], pads=[*pads[:rank], *reach], strides=strides, dilations=dilations
    )
    return node.emit("Div", sums, node.number(counts, x))


@register("ConvTranspose")
def conv_transpose(node: Site) -> Outcome:
    """Zeros between the inputs, then a Conv with flipped weights; a pixel shuffle when kernel = stride.

    Output size = stride (n - 1) + output_padding + dilation (k - 1) + 1 - pads (ONNX ConvTranspose, opset
    11).
    """
    x, weight = node.inputs[:2]
    size, filters = node.shape(x)[2:], node.shape(weight)
    kernel = filters[2:]
    ones, zeros = (1,) * len(size), (0,) * len(size)
    strides = tuple(node.attribute("strides", ones))
    dilations = tuple(node.attribute("dilations", ones))
    extra = tuple(node.attribute("output_padding", zeros))
    reach = [d * (k - 1) for k, d in zip(kernel, dilations, strict=True)]
    natural = [s * (n - 1) + e + r + 1 for n, r, s, e in zip(size, reach, strides, extra, strict=True)]
    begin, end = _transposed_pads(node, natural, size, strides)
    if kernel == strides and dilations == ones:
        cut = [e - p for e, p in zip(extra, end, strict=True)]
        y = _padded(node, _shuffled(node, kernel), [-p for p in begin], cut)
    else:
        before = [r - p for r, p in zip(reach, begin, strict=True)]
        # stride - 1 zeros stay behind the last input already
        after = [r - p + e - s + 1 for r, p, e, s in zip(reach, end, extra, strides, strict=True)]
        wide = _padded(node, _stretched(node, x, strides), before, after)
        y = node.emit(
            "Conv", wide, _flipped(node, weight), dilations=dilations, group=node.attribute("group", 1)
        )
    return node.emit("Add", y, node.reshape(node.inputs[2], (1, -1, *ones))) if node.has_input(2) else y


def _transposed_pads(
    node: Site, natural: list[int], size: tuple[int, ...], strides: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    """Return (begin, end) pads; `natural` is the output size without any."""
    mode = node.attribute("auto_pad", "NOTSET")
    wanted = node.attribute("output_shape")
    if wanted is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(size, strides, strict=True)]
    if wanted is None:
        pads = (
            list(node.attribute("pads", (0,) * (2 * len(size))))
            if mode == "NOTSET"
            else [0] * (2 * len(size))
        )
        return pads[: len(size)], pads[len(size) :]
    totals = [n - w for n, w in zip(natural, wanted[-len(size) :], strict=True)]
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def _stretched(node: Site, x: str, strides: tuple[int, ...]) -> str:
    """Return x with stride - 1 zeros behind every element of each spatial axis."""
    if all(stride == 1 for stride in strides):
        return x
    shape = node.shape(x)
    apart = [*shape[:2], *(size for n in shape[2:] for size in (n, 1))]
    after = [0, 0, *(zeros for s in strides for zeros in (0, s - 1))]
    spread = node.emit("Pad", node.reshape(x, apart), node.ints([0] * len(apart) + after))
    return node.reshape(spread, [*shape[:2], *(n * s for n, s in zip(shape[2:], strides, strict=True))])


def _padded(node: Site, x: str, before: list[int], after: list[int]) -> str:
    """Return x with its spatial axes padded by zeros, or cut where a number is negative."""
    if not any(before) and not any(after):
        return x
    return node.emit("Pad", x, node.ints([0, 0, *before, 0, 0, *after]))


def _flipped(node: Site, weight: str) -> str:
    """Return [Cin, Cout/g, *k] as the weight [Cout, Cin/g, *k] of the equal Conv, spatially reversed."""
    cin, share, *kernel = node.shape(weight)
    group = node.attribute("group", 1)
    grouped = node.reshape(weight, (group, cin // group, share, *kernel))
    order = [0, 2, 1, *range(3, 3 + len(kernel))]
    swapped = node.reshape(
        node.emit("Transpose", grouped, perm=order), (group * share, cin // group, *kernel)
    )
    for axis, size in enumerate(kernel, start=2):
        if size > 1:
            swapped = node.emit("Gather", swapped, node.ints(range(size - 1, -1, -1)), axis=axis)
    return swapped


def _shuffled(node: Site, kernel: tuple[int, ...]) -> str:
    """Return the convolution with stride = kernel: a 1x1 Conv to Cout * prod(k) channels, shuffled."""
    x, weight = node.inputs[:2]
    n, cin, *size = node.shape(x)
    share = node.shape(weight)[1]
    group, rank = node.attribute("group", 1), len(size)
    grouped = node.emit("Transpose", node.reshape(weight, (group, cin // group, -1)), perm=[0, 2, 1])
    ones = (1,) * rank
    wide = node.emit("Conv", x, node.reshape(grouped, (-1, cin // group, *ones)), group=group)
    apart = node.reshape(wide, (n, group * share, *kernel, *size))
    order = [0, 1, *(axis for i in range(rank) for axis in (2 + rank + i, 2 + i))]
    moved = node.emit("Transpose", apart, perm=order)
    return node.reshape(moved, (n, group * share, *(s * k for s, k in zip(size, kernel, strict=True))))

"""Convolutions and poolings: pads written out, transposed convolution, pooling over the whole extent."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.registry import Outcome, Site, register
from onnx_oto.gradients.graph.lowering.shuffles import weave


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
    """One Conv that computes the s^d outputs between two inputs as channels, then a pixel shuffle and a cut.

    With stride s, dilation 1 and a kernel w filled up by zeros to J s taps, output s q + r is
    sum_j x[q - j] w[j s + r]: for every phase r a Conv with J taps over x padded by J - 1.
    Output size = s (n - 1) + output_padding + dilation (k - 1) + 1 - pads (ONNX ConvTranspose, opset 11).
    """
    x, weight = node.inputs[:2]
    size, kernel = node.shape(x)[2:], node.shape(weight)[2:]
    ones, zeros = (1,) * len(size), (0,) * len(size)
    strides = tuple(node.attribute("strides", ones))
    dilations = tuple(node.attribute("dilations", ones))
    extra = tuple(node.attribute("output_padding", zeros))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    natural = [s * (n - 1) + e + r for n, r, s, e in zip(size, reach, strides, extra, strict=True)]
    begin, end = _transposed_pads(node, natural, size, strides)
    taps = [-(-r // s) for r, s in zip(reach, strides, strict=True)]
    filled = [j * s for j, s in zip(taps, strides, strict=True)]
    phases = _phases(node, _spread(node, weight, dilations, filled), taps, strides)
    pads = [j - 1 for j in taps]
    y = node.emit("Conv", x, phases, pads=pads * 2, group=node.attribute("group", 1))
    lead = [node.shape(x)[0], node.shape(weight)[1] * node.attribute("group", 1)]
    y = weave(node, y, lead, strides, [n + j - 1 for n, j in zip(size, taps, strict=True)])
    full = [s * (n - 1) + f for n, f, s in zip(size, filled, strides, strict=True)]
    after = [w - p - f for w, p, f in zip(natural, end, full, strict=True)]
    y = _padded(node, y, [-p for p in begin], after)
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


def _padded(node: Site, x: str, before: list[int], after: list[int]) -> str:
    """Return x with its spatial axes padded by zeros, or cut where a number is negative."""
    if not any(before) and not any(after):
        return x
    return node.emit("Pad", x, node.ints([0, 0, *before, 0, 0, *after]))


def _spread(node: Site, weight: str, dilations: tuple[int, ...], filled: list[int]) -> str:
    """Return the weight with its dilation written out as zeros, and zeros behind it up to `filled` taps."""
    cin, share, *kernel = node.shape(weight)
    if any(d > 1 for d in dilations):
        apart = node.reshape(weight, [cin, share, *(size for k in kernel for size in (k, 1))])
        behind = [0, 0, *(zeros for d in dilations for zeros in (0, d - 1))]
        apart = node.emit("Pad", apart, node.ints([0] * len(behind) + behind))
        kernel = [k * d for k, d in zip(kernel, dilations, strict=True)]
        weight = node.reshape(apart, [cin, share, *kernel])
    return _padded(node, weight, [0] * len(kernel), [f - k for f, k in zip(filled, kernel, strict=True)])


def _phases(node: Site, weight: str, taps: list[int], strides: tuple[int, ...]) -> str:
    """Return [Cin, Cout/g, *(J s)] as the Conv weight [Cout * prod(s), Cin/g, *J], taps reversed."""
    cin, share = node.shape(node.inputs[1])[:2]
    group, rank = node.attribute("group", 1), len(taps)
    pairs = [size for pair in zip(taps, strides, strict=True) for size in pair]
    apart = node.reshape(weight, [group, cin // group, share, *pairs])
    order = [0, 2, *(4 + 2 * i for i in range(rank)), 1, *(3 + 2 * i for i in range(rank))]
    filters = group * share * int(np.prod(strides))
    result = node.reshape(node.emit("Transpose", apart, perm=order), [filters, cin // group, *taps])
    for axis, size in enumerate(taps, start=2):
        if size > 1:
            result = node.emit("Gather", result, node.ints(range(size - 1, -1, -1)), axis=axis)
    return result

"""Convolutions: pads written out, rows and volumes by images, transposed convolution."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register
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


def written_out(node: Site) -> str | None:
    """Return the node's first output with auto_pad written out as pads; None where they are."""
    mode = node.attribute("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return None
    size = node.shape(node.inputs[0])[2:]
    kernel = tuple(node.attribute("kernel_shape") or node.shape(node.inputs[1])[2:])
    ones = (1,) * len(size)
    strides = tuple(node.attribute("strides", ones))
    dilations = tuple(node.attribute("dilations", ones))
    attributes = {k: v for k, v in node.attributes.items() if k != "auto_pad"}
    attributes["pads"] = explicit_pads(mode, size, kernel, strides, dilations)
    refuse_indices(node)
    return node.emit(node.op, *node.inputs, **attributes)


def refuse_indices(node: Site) -> None:
    """Raise UnsupportedError where the model reads the second output of a node that loses it."""
    if node.has_output(1) and node.outputs[1] in node.draft.read:
        raise UnsupportedError(
            "its second output (indices) is read, and cannot be kept while it is rewritten"
        )


@register("Conv")
def conv(node: Site) -> Outcome:
    """auto_pad written out; 1-D as an image of one row, 3-D as a sum of 2-D convolutions."""
    padded = written_out(node)
    if padded is not None:
        return padded
    rank = len(node.shape(node.inputs[0])) - 2
    return _conv_of_rows(node) if rank == 1 else _conv_of_volumes(node) if rank == 3 else None


def _conv_of_rows(node: Site) -> str:
    """A 1-D Conv as a 2-D one of height 1."""
    x, weight, *bias = node.inputs
    begin, end = node.attribute("pads", (0, 0))
    attributes = {
        "strides": [1, *node.attribute("strides", (1,))],
        "dilations": [1, *node.attribute("dilations", (1,))],
        "pads": [0, begin, 0, end],
        "group": node.attribute("group", 1),
    }
    row = node.ints([2])
    image, filters = node.emit("Unsqueeze", x, row), node.emit("Unsqueeze", weight, row)
    return node.emit("Squeeze", node.emit("Conv", image, filters, *bias, **attributes), row)


def _conv_of_volumes(node: Site) -> str:
    """A 3-D Conv as the sum over the k planes of its kernel of 2-D ones, depth laid into the batch.

    y[n, z] = b + sum_k w[k] * x[n, z s + k d - pad]. The number of nodes does not depend on the groups.
    """
    x, weight, *bias = node.inputs
    (n, channels, _, *image), (filters, _, planes, *_) = node.shape(x), node.shape(weight)
    depth, *out = node.shape(node.outputs[0])[2:]
    (step, *strides), (spread, *dilations) = (
        node.attribute(name, (1, 1, 1)) for name in ("strides", "dilations")
    )
    front, top, left, back, bottom, right = node.attribute("pads", (0,) * 6)
    attributes = {
        "strides": strides,
        "dilations": dilations,
        "pads": [top, left, bottom, right],
        "group": node.attribute("group", 1),
    }
    x = node.emit("Transpose", x, perm=[0, 2, 1, 3, 4])
    if front or back:
        x = node.emit("Pad", x, node.ints([0, front, 0, 0, 0, 0, back, 0, 0, 0]))
    total = ""
    for k in range(planes):
        first = k * spread
        span = [node.ints([v]) for v in (first, first + (depth - 1) * step + 1, 1, step)]
        layers = node.reshape(node.emit("Slice", x, *span), [n * depth, channels, *image])
        plane = node.emit("Gather", weight, node.value(k, np.int64), axis=2)
        part = node.emit("Conv", layers, plane, *(bias if k == 0 else ()), **attributes)
        total = part if k == 0 else node.emit("Add", total, part)
    return node.emit("Transpose", node.reshape(total, [n, depth, filters, *out]), perm=[0, 2, 1, 3, 4])


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

"""Convolutions and poolings: pads written out, transposed convolution, pooling over the whole extent."""

from __future__ import annotations

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

    Output size ceil(size / stride); the odd one of the total goes to the end (UPPER) or the beginning (LOWER).
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
    """auto_pad written out: ORT's ConvGrad ignores it silently, which makes the gradient wrong."""
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
    if len(node.outputs) > 1 and node.outputs[1]:
        raise UnsupportedError("its second output (indices) cannot be kept while its pads are written out")
    return node.emit(node.op, *node.inputs, **attributes)

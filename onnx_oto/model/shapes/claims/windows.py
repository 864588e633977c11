"""Convolutions and pools over open sizes.

Symbols: size of an axis n, kernel k, dilation d, stride s, total padding p, reach r = d (k - 1) + 1.
A window slides to floor((n + p - r) / s) + 1 places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.claims.table import Claimed, claims
from onnx_oto.model.shapes.dims import Dim, Shape, add, divide, multiply, quotient, subtract


@dataclass(frozen=True)
class _Window:
    """A window along one axis; `same`: padded so that ceil(n / s) places remain."""

    kernel: int
    stride: int
    dilation: int
    pads: tuple[int, int]
    same: bool
    ceil: bool

    @property
    def excess(self) -> int:
        """r - p: how much of the axis the window covers where it starts."""
        return self.dilation * (self.kernel - 1) + 1 - sum(self.pads)


def _windows(node: Node, kernel: list[int]) -> list[_Window]:
    attrs: dict[str, Any] = node.attrs
    rank, auto = len(kernel), attrs.get("auto_pad", "NOTSET")
    strides = attrs.get("strides") or [1] * rank
    dilations = attrs.get("dilations") or [1] * rank
    pads = (attrs.get("pads") if auto == "NOTSET" else None) or [0] * (2 * rank)
    return [
        _Window(
            kernel[axis],
            strides[axis],
            dilations[axis],
            (pads[axis], pads[axis + rank]),
            auto.startswith("SAME"),
            bool(attrs.get("ceil_mode", 0)),
        )
        for axis in range(rank)
    ]


def _slide(size: Dim, window: _Window, facts: Claimed) -> Dim:
    if size is None:
        return None
    if window.same:
        return quotient(add(size, window.stride - 1), window.stride)
    if not window.ceil:
        return add(quotient(subtract(size, window.excess), window.stride), 1)
    if window.excess == window.stride and (part := divide(size, window.stride)) is not None:
        return part
    if isinstance(size, int):
        return None
    about = add(quotient(subtract(size, window.excess), window.stride), 1)
    return facts.symbols.of("window", size, window, about=about)


def _kernel(node: Node, weight: Shape | None) -> list[int] | None:
    """Return the kernel sizes from the attribute, or from the trailing axes of the weight."""
    sizes = node.attrs.get("kernel_shape") or list((weight or ())[2:])
    return sizes if sizes and all(isinstance(size, int) for size in sizes) else None


@claims("Conv")
def conv_shape(node: Node, facts: Claimed) -> Shape | None:
    """Return [batch, filters, places...] of a convolution of input 0 with the weight of input 1."""
    source, weight = facts.shape(node, 0), facts.shape(node, 1)
    kernel = _kernel(node, weight)
    if source is None or weight is None or kernel is None or len(source) != len(kernel) + 2:
        return None
    windows = _windows(node, kernel)
    places = (_slide(size, window, facts) for size, window in zip(source[2:], windows, strict=True))
    return (source[0], weight[0], *places)


@claims("MaxPool", "AveragePool", "LpPool")
def _pool(node: Node, facts: Claimed) -> Shape | None:
    source, kernel = facts.shape(node, 0), _kernel(node, None)
    if source is None or kernel is None or len(source) != len(kernel) + 2:
        return None
    windows = _windows(node, kernel)
    places = (_slide(size, window, facts) for size, window in zip(source[2:], windows, strict=True))
    return (*source[:2], *places)


@claims("MaxUnpool")
def _max_unpool(node: Node, facts: Claimed) -> Shape | None:
    """The size that is given; else what a pool without overlap has read: s (n - 1) + k - p places."""
    source, kernel, value = facts.shape(node, 0), _kernel(node, None), facts.value(node, 2)
    if source is None or kernel is None or len(source) != len(kernel) + 2:
        return None
    if node.input(2):
        sizes = [None] * len(source) if value is None else value.reshape(-1).tolist()
        return (*source[:2], *(s if isinstance(s, int | str) else None for s in sizes[2:]))
    windows = zip(source[2:], _windows(node, kernel), strict=True)
    return (*source[:2], *(_spread(size, window, 0) for size, window in windows))


@claims("ConvTranspose")
def _conv_transpose(node: Node, facts: Claimed) -> Shape | None:
    """s (n - 1) + output_padding + r - p places; s n when padded to SAME."""
    source, weight = facts.shape(node, 0), facts.shape(node, 1)
    kernel = _kernel(node, weight)
    if source is None or weight is None or kernel is None or len(source) != len(kernel) + 2:
        return None
    given = node.attrs.get("output_shape")
    extra = node.attrs.get("output_padding") or [0] * len(kernel)
    places = given or [
        _spread(size, window, more)
        for size, window, more in zip(source[2:], _windows(node, kernel), extra, strict=True)
    ]
    channels = multiply(weight[1], node.attrs.get("group", 1))
    return (source[0], channels, *places)


def _spread(size: Dim, window: _Window, extra: int) -> Dim:
    grown = multiply(size, window.stride)
    return grown if window.same else add(grown, window.excess + extra - window.stride)

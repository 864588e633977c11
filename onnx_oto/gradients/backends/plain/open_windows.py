"""Gradients over windows on images whose sizes depend on values: slower than where sizes are known.

Index legend as in `convolution`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from onnx_oto.gradients.backends.plain.back import Back, Shape


class Steps(NamedTuple):
    """How windows lie on an image of whatever size; pads as [begin..., end...]."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape
    group: int = 1


def steps_of(node: Back, kernel: Sequence[int]) -> Steps:
    """Return how the windows of a node lie."""
    ones = (1,) * len(kernel)
    strides, dilations = (tuple(node.attrs.get(name, ones)) for name in ("strides", "dilations"))
    pads = tuple(node.attrs.get("pads", (0,) * (2 * len(kernel))))
    return Steps(tuple(kernel), strides, dilations, pads, node.attrs.get("group", 1))


def spread_to(node: Back, dy: str, w: str, steps: Steps, image: str) -> str:
    """Return dx[n, c, s p + d k - pad] = sum_opk w[o, c, k] dy[n, o, p], with the places of `image`.

    Windows are spread without pads first: what reaches into these is cut off, and places that no window saw are zeros.
    """
    rank = len(steps.kernel)
    whole = node.emit(
        "ConvTranspose", dy, w, strides=steps.strides, dilations=steps.dilations, group=steps.group
    )
    seen = node.cut(node.emit("Shape", whole), [0], [2], [rank + 2], [1])
    before = node.ints(steps.pads[:rank])
    after = node.emit("Sub", node.emit("Add", node.sizes(image, 2), before), seen)
    none = node.ints([0, 0])
    pads = node.emit("Concat", none, node.ints([-pad for pad in steps.pads[:rank]]), none, after, axis=0)
    return node.emit("Pad", whole, pads, node.number(0.0, image))


def gathered(node: Back, dy: str, w: str, steps: Steps, image: str) -> str:
    """Return dx[n, c, p] = sum_ok w[c, o, k] dy[n, o, s p + d k - pad], with the places of `image`."""
    rank = len(steps.kernel)
    made = node.emit(
        "Conv", dy, w, strides=steps.strides, dilations=steps.dilations, pads=steps.pads, group=steps.group
    )
    axes, ones = list(range(2, rank + 2)), node.ints([1] * rank)
    return node.emit("Slice", made, node.ints([0] * rank), node.sizes(image, 2), node.ints(axes), ones)


def kernel_of_any_size(node: Back, x: str, dy: str, image: str, weight: Shape, steps: Steps) -> str:
    """Return dw[o, c, k] = sum_np dy[n, o, p] x[n, c, s p + d k - pad].

    That is a convolution of x by dy with samples and channels, and strides and dilations, exchanged: of the first
    places, as many as the kernel has. image: a tensor of the forward graph with the shape of x. weight: shape of w.
    """
    filters, share, *kernel = weight
    rank, group = len(kernel), steps.group
    lines = list(range(2, rank + 2))
    if group > 1:
        apart = node.emit("Concat", node.ints([-1, group, share]), node.sizes(image, 2), axis=0)
        x = node.transpose(node.emit("Reshape", x, apart), [2, 1, 0, *(axis + 1 for axis in lines)])
        together = node.emit("Concat", node.ints([share, -1]), node.sizes(image, 2), axis=0)
        x = node.emit("Reshape", x, together)
    else:
        x = node.transpose(x, [1, 0, *lines])
    found = node.emit(
        "Conv",
        x,
        node.transpose(dy, [1, 0, *lines]),
        strides=steps.dilations,
        dilations=steps.strides,
        pads=steps.pads,
        group=group,
    )
    found = node.cut(found, lines, [0] * rank, kernel, [1] * rank)
    return node.transpose(node.reshape(found, (share, filters, *kernel)), [1, 0, *lines])

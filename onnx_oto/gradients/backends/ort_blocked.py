"""Convolutions in ONNX Runtime's blocked layout, where the processor has one and it is faster.

`com.microsoft.nchwc::Conv` reads tensors whose channels are cut into blocks of 8 (AVX2) or 16 (AVX-512), and weights in
blocks, which the session makes once per step for all shards (`session/prepared.py`). Around it tensors change their
order. Measured on one thread with AVX-512, milliseconds, plain -> with both changes of order, weights ready:
(32, 64 -> 64, 16x16, 3x3) 3.65 -> 3.20; (32, 128 -> 128, 8x8) 3.15 -> 2.65; (32, 512 -> 512, 2x2) 11.5 -> 4.0;
(32, 16 -> 16, 32x32) 1.53 -> 1.22; (32, 32 -> 32, 16x16) 1.23 -> 0.75; 1x1: (8, 256 -> 1024, 6x6) 0.81 -> 0.64,
(8, 64 -> 256, 24x24) 0.63 -> 0.99. Blocks of weights take 0.65 ns an element.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_oto.gradients.backends.probing import computed
from onnx_oto.machine import has_compiler

DOMAIN = "com.microsoft.nchwc"
SIZES = (16, 8)
_WORTH_MOVING = 64
"""Multiplications for each element that changes its order, at the least."""
_WORTH_BLOCKING, _SMALL, _WORTH_IF_SMALL = 512, 16, 32
"""Places of the images of a shard, for each of which a weight is used, at the least; and where images are smaller than
`_SMALL` places, for which plain convolution reads all weights anew for every image."""


def pays(size: int, weight: tuple[int, ...], places: tuple[int, ...], samples: int) -> bool:
    """Return whether the blocked form of a convolution is the faster one.

    size: of blocks, 0 for none. weight: [filters, channels, *kernel]. places: height and width of what it makes.

    >>> pays(16, (64, 64, 3, 3), (16, 16), 8), pays(16, (256, 64, 1, 1), (24, 24), 8)
    (True, False)
    >>> pays(16, (64, 3, 3, 3), (16, 16), 8), pays(16, (64, 64, 3, 3), (4, 4), 4)
    (False, False)
    """
    filters, channels, *kernel = weight
    if not size or len(places) != 2 or filters % size or channels % size:
        return False
    moved = math.prod(kernel) * filters * channels / (filters + channels)
    used = math.prod(places) * samples
    least = _WORTH_IF_SMALL if math.prod(places) < _SMALL else _WORTH_BLOCKING
    return moved >= _WORTH_MOVING and used >= least


def blocked_conv(
    x: str, weight: str, y: str, *, filters: int, bias: str = "", **attributes: Any
) -> list[onnx.NodeProto]:
    """Return the nodes of a convolution of plain tensors by a weight in blocks."""
    inputs = [f"{y}.blocks.x", weight, *([bias] if bias else [])]
    return [
        helper.make_node("ReorderInput", [x], [inputs[0]], name=inputs[0], domain=DOMAIN),
        helper.make_node("Conv", inputs, [f"{y}.blocks"], name=f"{y}.blocks", domain=DOMAIN, **attributes),
        helper.make_node(
            "ReorderOutput", [f"{y}.blocks"], [y], name=f"{y}.order", domain=DOMAIN, channels=filters
        ),
    ]


@cache
def block_size() -> int:
    """Return the length of blocks that this environment computes rightly with, 0 for none; tried where it may fail."""
    return next((size for size in SIZES if _computes(size)), 0) if has_compiler() else 0


def _computes(size: int) -> bool:
    """Return whether a convolution with blocks of this size agrees with its definition."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, size, 5, 4)).astype(np.float32)
    weight = rng.standard_normal((2 * size, size, 3, 3)).astype(np.float32)
    blocks = np.ascontiguousarray(
        weight.reshape(2, size, 1, size, 3, 3).transpose(0, 2, 4, 5, 3, 1).reshape(weight.shape)
    )
    nodes = blocked_conv("x", "w", "y", filters=2 * size, kernel_shape=[3, 3], pads=[1] * 4)
    values = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in (("x", x), ("w", blocks))
    ]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 2 * size, 5, 4])
    graph = helper.make_graph(nodes, "probe", values, [out])
    found = computed(graph, DOMAIN, {"x": x, "w": blocks})
    if found is None:
        return False
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]), (3, 3), (2, 3)
    )
    expected = np.einsum("nchwij,ocij->nohw", windows.astype(np.float64), weight.astype(np.float64))
    return bool(np.allclose(found[0], expected, rtol=0.0, atol=1e-3))

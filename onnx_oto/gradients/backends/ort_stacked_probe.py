"""Whether functions for stacked tensors compute what they should in this environment."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_oto.gradients.backends import ort_stacked, stacked_plan
from onnx_oto.gradients.backends.probing import computed, functions_are_ready
from onnx_oto.gradients.session.prepared import Order
from onnx_oto.runtime.joining import DOMAIN, ROOM, ROOM_WORDS

Array = NDArray[Any]

_CHANNELS, _FILTERS, _HEIGHT, _WIDTH = 4, 7, 6, 5


@cache
def can_stack() -> bool:
    """Return whether a convolution, a MaxPool and their gradients are what they should, tried where they may fail."""
    if not functions_are_ready():
        return False
    by = stacked_plan.sizes()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((by.lanes, _CHANNELS, _HEIGHT, _WIDTH)).astype(np.float32)
    weight = rng.standard_normal((_FILTERS, _CHANNELS, 3, 3)).astype(np.float32)
    graph, feeds = _graph(x, weight, by)
    found = computed(graph, DOMAIN, feeds)
    if found is None:
        return False
    expected = _defined(x.astype(np.float64), weight.astype(np.float64))
    return all(
        np.allclose(one, other, rtol=0.0, atol=1e-3) for one, other in zip(found, expected, strict=True)
    )


def _graph(x: Array, weight: Array, by: stacked_plan.Sizes) -> tuple[onnx.GraphProto, Mapping[str, Array]]:
    """Return a graph, rewritten: y = Conv(x), z = MaxPool(y), and the gradients of the weight and of x for dz = z."""
    settings: dict[str, Any] = {"kernel_shape": [3, 3], "strides": [2, 1], "pads": [1, 1, 1, 1]}
    windows: dict[str, Any] = {"kernel_shape": [2, 3], "strides": [1, 2], "pads": [0, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"], **settings),
        helper.make_node("MaxPool", ["y"], ["z", "taken"], **windows),
        helper.make_node("Identity", ["z"], ["z_grad"]),
        helper.make_node("MaxPoolGrad", ["z_grad", "taken"], ["y_grad"], domain="com.microsoft"),
        helper.make_node(
            "ConvGrad", ["y_grad", "x", "w"], ["x_grad", "w.found"], domain="com.microsoft", **settings
        ),
    ]
    made = (len(x), _FILTERS, 3, 5)
    shapes = {"x": x.shape, "w": weight.shape, "y": made, "z": (*made[:2], 3, 3)}
    results = {"z": shapes["z"], "w.found": weight.shape, "x_grad": x.shape}
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in results.items()
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes, "probe", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)], outputs
        )
    )
    ort_stacked.rewrite(model, shapes, ["w"], by, set(range(len(nodes))))
    feeds: dict[str, Array] = {"x": x, ROOM: np.zeros(ROOM_WORDS, np.int64)}
    for turned in (False, True):
        order = Order(1, turned=turned, tile=by.width(_CHANNELS if turned else _FILTERS))
        feeds[order.input("w")] = _tiled(weight, order)
    return model.graph, feeds


def _tiled(weight: Array, order: Order) -> Array:
    """Return a weight in tiles, see `runtime/turning.py`."""
    rows = weight.reshape(*weight.shape[:2], -1)
    rows = rows.transpose(1, 0, 2) if order.turned else rows
    numbers = np.arange(len(rows))
    tiles = np.minimum(np.arange(-(-len(rows) // order.tile) * order.tile), len(rows) - 1)
    told = np.array([len(rows), *numbers], np.float32)
    ordered = rows[tiles].reshape(-1, order.tile, *rows.shape[1:]).transpose(0, 3, 2, 1)
    return np.concatenate([ordered.reshape(-1), told])


def _defined(x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return what the graph computes, by its definition."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    y = np.zeros((len(x), _FILTERS, 3, 5))
    taps = list(itertools.product(range(3), range(3)))
    for i, j in taps:
        y += np.einsum("nchw,oc->nohw", padded[:, :, i : i + 5 : 2, j : j + 5], weight[:, :, i, j])
    framed = np.pad(y, [(0, 0), (0, 0), (0, 1), (1, 1)], constant_values=-np.inf)
    views = [framed[:, :, i : i + 3, j : j + 5 : 2] for i, j in itertools.product(range(2), range(3))]
    z, taken = np.max(views, axis=0), np.argmax(views, axis=0)
    dy = np.zeros_like(framed)
    for tap, (i, j) in enumerate(itertools.product(range(2), range(3))):
        dy[:, :, i : i + 3, j : j + 5 : 2] += np.where(taken == tap, z, 0.0)
    dy = dy[:, :, :3, 1:6]
    dw, dx = np.zeros_like(weight), np.zeros_like(padded)
    for i, j in taps:
        seen = padded[:, :, i : i + 5 : 2, j : j + 5]
        dw[:, :, i, j] = np.einsum("nohw,nchw->oc", dy, seen)
        dx[:, :, i : i + 5 : 2, j : j + 5] += np.einsum("nohw,oc->nchw", dy, weight[:, :, i, j])
    return z, dw, dx[:, :, 1:-1, 1:-1]

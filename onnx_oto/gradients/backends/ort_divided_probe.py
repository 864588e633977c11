"""Whether convolutions that are divided by weights compute what they should in this environment."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_oto.gradients.backends.ort_divided import divide
from onnx_oto.gradients.backends.probing import computed, functions_are_ready
from onnx_oto.runtime.joining import DOMAIN, MEMBER, ROOM, ROOM_WORDS, WANTED

Array = NDArray[Any]

_SAMPLES, _CHANNELS, _FILTERS, _HEIGHT, _WIDTH, _MADE = 3, 16, 16, 6, 5, (3, 5)
_STRIDES = (2, 1)


@cache
def can_divide() -> bool:
    """Return whether a convolution and its gradients are what they should be, tried where they may fail."""
    if not functions_are_ready():
        return False
    rng = np.random.default_rng(0)
    shapes = {
        "x": (_SAMPLES, _CHANNELS, _HEIGHT, _WIDTH),
        "w": (_FILTERS, _CHANNELS, 3, 3),
        "b": (_FILTERS,),
        "dy": (_SAMPLES, _FILTERS, *_MADE),
    }
    feeds: dict[str, Array] = {n: rng.standard_normal(size).astype(np.float32) for n, size in shapes.items()}
    told: dict[str, Array] = {
        WANTED + "w": np.zeros(shapes["w"], np.float32),
        ROOM: np.zeros(ROOM_WORDS, np.int64),
        MEMBER: np.zeros(2, np.int64),
    }
    found = computed(_graph(shapes), DOMAIN, {**feeds, **told})
    expected = _defined(*(feeds[name].astype(np.float64) for name in shapes))
    return found is not None and all(
        np.allclose(one, other, rtol=0.0, atol=1e-3) for one, other in zip(found, expected, strict=True)
    )


def _graph(shapes: dict[str, tuple[int, ...]]) -> onnx.GraphProto:
    """Return a convolution and its gradients, rewritten, whose results are outputs, the first two negated."""
    settings: dict[str, Any] = {"kernel_shape": [3, 3], "strides": _STRIDES, "pads": [1, 1, 1, 1]}
    gradient = helper.make_node(
        "ConvGrad", ["dy", "x", "w"], ["back", "w_grad"], domain="com.microsoft", **settings
    )
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], **settings), gradient]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("w_grad", TensorProto.FLOAT, shapes["w"])]
    model = helper.make_model(helper.make_graph(nodes, "probe", inputs, outputs))
    divide(model, {**shapes, "y": shapes["dy"]}, ["w", "b"], _SAMPLES, rule=lambda *_: True)
    graph = model.graph
    done = graph.output[0].name
    wanted = WANTED + "w"
    graph.node.extend(
        [
            helper.make_node("Neg", ["y"], ["y.found"]),
            helper.make_node("Neg", ["back"], ["x.found"]),
            helper.make_node("Cast", [done], ["there"], to=TensorProto.BOOL),
            helper.make_node("Where", ["there", wanted, wanted], ["w.found"]),  # read when it is written
        ]
    )
    graph.value_info.extend(graph.output)  # calls tell no types
    del graph.output[:]
    made = {"y.found": shapes["dy"], "x.found": shapes["x"], "w.found": shapes["w"]}
    graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in made.items())
    return graph


def _defined(x: Array, weight: Array, bias: Array, dy: Array) -> tuple[Array, Array, Array]:
    """Return what the graph computes, by its definition."""
    padded = np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
    y = np.zeros(dy.shape) + bias[:, None, None]
    dx, dw = np.zeros_like(padded), np.zeros_like(weight)
    (down, across), (rows, columns) = _STRIDES, _MADE
    for i, j in itertools.product(range(3), range(3)):
        seen = (..., slice(i, i + down * rows, down), slice(j, j + across * columns, across))
        y += np.einsum("nchw,oc->nohw", padded[seen], weight[:, :, i, j])
        dw[:, :, i, j] = np.einsum("nohw,nchw->oc", dy, padded[seen])
        dx[seen] += np.einsum("nohw,oc->nchw", dy, weight[:, :, i, j])
    return -y, -dx[:, :, 1:-1, 1:-1], dw

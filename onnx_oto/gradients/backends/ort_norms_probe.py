"""Whether norms of ours compute what they should in this environment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnx_oto.gradients.backends.ort_norms import write_norms
from onnx_oto.gradients.backends.probing import computed, functions_are_ready
from onnx_oto.runtime.joining import DOMAIN, ROOM, ROOM_WORDS

Array = NDArray[Any]

_SHAPE = (5, 3, 8, 7)
_EPSILON, _MOMENTUM = 1e-3, 0.75


@cache
def can_norm() -> bool:
    """Return whether a BatchNormalization with and without a Relu, and its gradient, are what they should be."""
    if not functions_are_ready():
        return False
    return all(_is_right(relu) for relu in (False, True))


def _is_right(relu: bool) -> bool:
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {"x": rng.standard_normal(_SHAPE) + 2.0, "slopes": rng.standard_normal(_SHAPE)}
    feeds |= {name: rng.uniform(0.5, 1.5, _SHAPE[1]) for name in ("scale", "shift", "mean", "variance")}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    expected = _defined(feeds, relu)
    found = computed(_graph(expected, relu), DOMAIN, {**feeds, ROOM: np.zeros(ROOM_WORDS, np.int64)})
    return found is not None and all(
        np.allclose(one, other, rtol=0.0, atol=1e-3)
        for one, other in zip(found, expected.values(), strict=True)
    )


def _graph(results: Mapping[str, Array], relu: bool) -> onnx.GraphProto:
    """Return a norm, a Relu behind it or none, and its gradient for `slopes`, rewritten."""
    moments = ["running_mean", "running_variance", "saved", "inverse"]
    made = "normed" if relu else "y"
    nodes = [
        helper.make_node(
            "BatchNormInternal",
            ["x", "scale", "shift", "mean", "variance"],
            [made, *moments],
            name="norm",
            domain="com.microsoft",
            epsilon=_EPSILON,
            momentum=_MOMENTUM,
            training_mode=1,
        )
    ]
    slopes = "slopes"
    if relu:
        slopes = "sloped"
        nodes.append(helper.make_node("Relu", [made], ["y"]))
        nodes.append(helper.make_node("ReluGrad", ["slopes", "y"], [slopes], domain="com.microsoft"))
    nodes.append(
        helper.make_node(
            "BatchNormalizationGrad",
            [slopes, "x", "scale", "saved", "inverse"],
            ["dx", "dscale", "dshift"],
            name="back",
            domain="com.microsoft",
        )
    )
    sizes = {"x": _SHAPE, "slopes": _SHAPE} | dict.fromkeys(
        ("scale", "shift", "mean", "variance"), _SHAPE[1:2]
    )
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items()]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in results.items()
    ]
    model = helper.make_model(helper.make_graph(nodes, "probe", inputs, outputs))
    write_norms(model, {"x": _SHAPE}, joint=False, fewest=1)
    return model.graph


def _defined(feeds: Mapping[str, Array], relu: bool) -> dict[str, Array]:
    """Return what the graph computes, by its definition, in float64."""
    x, slopes, scale, shift, mean, variance = (
        feeds[name].astype(np.float64) for name in ("x", "slopes", "scale", "shift", "mean", "variance")
    )
    over, along = (0, 2, 3), (slice(None), None, None)
    own, apart = x.mean(over), x.var(over)
    inverse = 1.0 / np.sqrt(apart + _EPSILON)
    normed = (x - own[along]) * inverse[along]
    y = normed * scale[along] + shift[along]
    if relu:
        slopes, y = np.where(y > 0.0, slopes, 0.0), np.maximum(y, 0.0)
    dscale, dshift, count = (slopes * normed).sum(over), slopes.sum(over), x.size / _SHAPE[1]
    dx = (scale * inverse)[along] * (slopes - (dshift[along] + normed * dscale[along]) / count)
    return {
        "y": y,
        "running_mean": mean * _MOMENTUM + own * (1.0 - _MOMENTUM),
        "running_variance": variance * _MOMENTUM + apart * (1.0 - _MOMENTUM),
        "dx": dx,
        "dscale": dscale,
        "dshift": dshift,
    }

"""Outputs of layers brought back to the mean and the variance that they had before groups went.

What a refit makes of a layer varies less than it did: of what is lost, least squares gives back what others tell, and
no more. Layer after layer that adds up. A BatchNormalization is told what it reads now; a layer with a bias and no norm
gets one for the moment that says what it gave before (see `gradients.put_back`), which is folded in again (Jordan et
al., REPAIR, 2023). One pass over the data, with the statistics of each batch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.gradients.put_back import Layer, calibrated, folded, measuring, with_norms
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.norms import pooled_over
from onnx_oto.refit.recalibration import (
    Statistics,
    given_on,
    moved,
    norms_of,
    watching,
    with_batch_statistics,
)

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Batches = Callable[[], Iterable[Arrays]]

MOST_FACTOR = 3.0
"""What an output is widened by at most: one that hardly varies any more says something else."""


@np.errstate(all="ignore")  # a model that overflows on the data becomes no worse by what is no number
def recalibrated(
    original: onnx.ModelProto,
    changed: onnx.ModelProto,
    layers: Sequence[Layer],
    serving: Serving,
    batches: Batches,
    allowed: Collection[str] | None,
) -> dict[str, Array]:
    """Return new values of weights, biases and running statistics, float32 by name.

    original, changed: float32 models of one graph, `changed` with zero groups. layers: those with a bias and no norm.
    batches: gives inputs as data have them. allowed: initializers that may change, None for all.
    """
    wanted = _wanted(original, changed, layers, serving, batches) if layers else {}
    model = with_norms(changed, layers, wanted) if layers else changed
    norms = norms_of(model)
    if not norms:
        return {}
    put = {layer.mean for layer in layers}
    own = [norm for norm in norms if norm.mean not in put]
    before = {
        norm.mean: Statistics(wanted[norm.mean], wanted[norm.variance]) for norm in norms if norm.mean in put
    }
    if own:
        seen = pooled_over(watching(serving.served(original), own), batches())
        before |= {norm.mean: Statistics(*pair) for norm, pair in zip(own, seen, strict=True)}
    values = {tensor.name: to_array(tensor).astype(np.float64) for tensor in model.graph.initializer}
    stated = {name for norm in own for name in (norm.mean, norm.variance)}  # a refit has moved means already
    values |= {t.name: to_array(t).astype(np.float64) for t in original.graph.initializer if t.name in stated}
    giving = {norm.mean: given_on(norm, values.__getitem__, before[norm.mean]) for norm in norms}
    probe = with_batch_statistics(serving.served(model), norms, giving)
    found: dict[str, Array] = {}
    for norm, pair in zip(norms, pooled_over(probe, batches()), strict=True):
        now = moved(norm, values.__getitem__, before[norm.mean], Statistics(*pair), MOST_FACTOR)
        found |= {norm.mean: now.mean, norm.variance: now.variance}
    reached = [layer for layer in layers if layer.mean in found]
    for layer in reached:
        found |= {name: values[name] for name in (layer.scale, layer.bias, layer.weight)}
    tensors = {tensor.name for tensor in changed.graph.initializer}
    return {
        name: np.asarray(value, np.float32)
        for name, value in folded(reached, found).items()
        if name in tensors and (allowed is None or name in allowed)
    }


def _wanted(
    original: onnx.ModelProto,
    changed: onnx.ModelProto,
    layers: Sequence[Layer],
    serving: Serving,
    batches: Batches,
) -> dict[str, Array]:
    """Return the norms that give what the layers gave; nothing where channels are gone."""
    before, after = (
        {tensor.name: to_array(tensor) for tensor in model.graph.initializer if tensor.name in _named(layers)}
        for model in (original, changed)
    )
    pooled = pooled_over(measuring(serving.served(original), layers), batches())
    found = calibrated(layers, {layer.bias: before[layer.bias] for layer in layers}, pooled)
    for layer in layers:
        gone = ~_varies(after[layer.weight], layer) & (after[layer.bias] == 0)
        for name in (layer.scale, layer.bias):
            found[name] = np.where(gone, 0.0, found[name])
    return found


def _named(layers: Sequence[Layer]) -> set[str]:
    return {name for layer in layers for name in (layer.weight, layer.bias)}


def _varies(weight: Array, layer: Layer) -> npt.NDArray[np.bool_]:
    """Return which channels a layer gives with weights that are not all zero: bool [C]."""
    if layer.groups == 1:
        others = tuple(axis for axis in range(weight.ndim) if axis != layer.axis)
        return np.asarray((weight != 0).any(others))
    parts = weight.reshape(layer.groups, -1, *weight.shape[1:])
    return np.asarray((parts != 0).any((1, *range(3, parts.ndim)))).reshape(-1)

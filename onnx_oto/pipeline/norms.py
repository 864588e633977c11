"""Norms put back for training (see `gradients.put_back`): which, with which statistics, and folded again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto import data
from onnx_oto.errors import DataError, OtoError, UnsupportedError
from onnx_oto.gradients.put_back import (
    FIRST_OPSET,
    Layer,
    Pooled,
    calibrated,
    folded,
    layers_without_norm,
    measuring,
    with_norms,
)
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.model.normal.serving import Serving
from onnx_oto.model.normal.widen import HALVES, in_float32, uses
from onnx_oto.model.view import Graph
from onnx_oto.pipeline.finishing import batch_size, declared, served_lean, with_weights
from onnx_oto.pipeline.opening import Opened
from onnx_oto.runtime.comparing import Feeding, Verdict, compare
from onnx_oto.runtime.limits import UNLIMITED

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

SAMPLES = 1024
"""So many training samples at most the statistics are calibrated on."""
BATCH = 32
CHECKED = 4
"""So many batches of test data the folded model is compared on."""


@dataclass(frozen=True, eq=False)
class Norms:
    """The norms of a run, none by default. values: of their parameters once they are calibrated."""

    layers: tuple[Layer, ...] = ()
    values: Arrays = field(default_factory=dict)

    @property
    def trained(self) -> tuple[str, ...]:
        """The names of the scales, which train beside the parameters of the model."""
        return tuple(layer.scale for layer in self.layers)

    @property
    def beside(self) -> dict[str, tuple[str, ...]]:
        """By parameter of the model what has the same lanes: a scale those of the bias, which shifts now."""
        return {layer.bias: (layer.scale,) for layer in self.layers}

    def within(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return a model (float32) with the norms, itself where there are none."""
        return with_norms(model, self.layers, self.values or None) if self.layers else model

    def folded(self, weights: Arrays) -> dict[str, Array]:
        """Return weights of the model with norms as those of the model that was brought."""
        return folded(self.layers, {**self.values, **weights}) if self.layers and weights else dict(weights)


def norms_for(
    opened: Opened, trained: Collection[str], outputs: Sequence[str]
) -> tuple[Norms, tuple[str, ...]]:
    """Return the norms that can be put back, not calibrated, and sentences that say where.

    outputs: tensors that the loss reads; layers that these do not need are left as they are. Raises UnsupportedError
    where there are none.
    """
    name = opened.path.name
    opset = opset_of(opened.model)
    if opset < FIRST_OPSET:
        raise UnsupportedError(
            f"'{name}' uses opset {opset}, batch-norm put-back needs {FIRST_OPSET}: convert it with "
            "onnx.version_converter, or leave --batch-norm out"
        )
    layers, left = bare_layers(opened, trained, outputs)
    others = _listed(left)
    if not layers:
        raise UnsupportedError(
            f"batch-norm put-back finds no layer with a bias for each channel and no norm in '{name}'"
            f"{f': {others}' if others else ''}; leave --batch-norm out"
        )
    more = len(layers) - 1
    first = f"'{layers[0].node}'" + (f" and {more} more layer{'s' * (more > 1)}" if more else "")
    apart = f"; left as they are: {others}" if others else ""
    return Norms(layers), (f"a BatchNormalization is put back behind {first} for training{apart}",)


def told_bare(opened: Opened, trained: Collection[str], outputs: Sequence[str]) -> tuple[str, ...]:
    """Return a sentence for whoever brings a trained model without norms, none if none can be put back."""
    if opset_of(opened.model) < FIRST_OPSET or not (count := len(bare_layers(opened, trained, outputs)[0])):
        return ()
    what = "1 layer has a bias and no norm" if count == 1 else f"{count} layers have a bias and no norm"
    return (f"{what}: if an exporter folded norms away, --batch-norm put-back trains with them",)


def bare_layers(
    opened: Opened, trained: Collection[str], outputs: Sequence[str]
) -> tuple[tuple[Layer, ...], Counter[str]]:
    """Return the layers that have a bias and no norm, and how many others there are by why they are left as they are.

    trained: initializers that may change. outputs: tensors that have to need them.
    """
    graph = opened.analysis.graph
    needed = _needed(graph, outputs)
    known = [each for each in trained if each in graph.initializers and each in needed]
    sizes = {each: int(np.prod(graph.initializers[each].dims, dtype=np.int64)) for each in known}
    tied = {each for tie in opened.origins.tied(sizes) for each in tie.names}
    return layers_without_norm(graph, known, tied)


def _needed(graph: Graph, outputs: Sequence[str]) -> set[str]:
    """Return the names of all tensors from which these are computed, initializers and inputs too."""
    waiting, seen = list(outputs), set(outputs)
    while waiting:
        node = graph.producer.get(waiting.pop())
        if node is not None:
            new = {each for each in (*node.inputs, *node.captured) if each} - seen
            seen |= new
            waiting.extend(new)
    return seen


def _listed(left: Counter[str]) -> str:
    return ", ".join(f"{count} that {reason}" for reason, count in sorted(left.items()))


def calibrate(
    norms: Norms, opened: Opened, serving: Serving, source: data.Source, *, batch: int, seed: int
) -> Norms:
    """Return the norms with statistics of training data, as training serves them: the function stays what it is.

    Raises DataError where they are not finite.
    """
    model = measuring(serving.served(opened.master), norms.layers)
    size = batch_size(model) or min(BATCH, batch, len(source))
    drawn = islice(data.batches(source, size, seed=seed, epoch=0), max(SAMPLES // size, 1))
    pooled = pooled_over(model, (part.inputs for part in drawn))
    tensors = {tensor.name: tensor for tensor in opened.master.graph.initializer}
    values = calibrated(
        norms.layers, {each.bias: to_array(tensors[each.bias]) for each in norms.layers}, pooled
    )
    for layer in norms.layers:
        if not all(
            np.isfinite(values[name].astype(np.float32)).all() for name in (layer.mean, layer.variance)
        ):
            raise DataError(
                f"on the training data the output of '{layer.node}' has no finite mean and variance, which "
                "batch-norm put-back needs: leave --batch-norm out, or look at the data"
            )
    return Norms(norms.layers, values)


def pooled_over(model: onnx.ModelProto, batches: Iterable[Arrays]) -> Pooled:
    """Return the means and variances that a model gives of batches, over all of them."""
    run, pooled = declared(model), Pooled()
    names = {value.name for value in model.graph.input}
    for inputs in batches:
        pooled.add(run({name: array for name, array in inputs.items() if name in names}))
    return pooled


def check_folded(
    norms: Norms,
    opened: Opened,
    serving: Serving,
    outputs: Sequence[str],
    weights: Arrays,
    source: data.Source,
) -> Verdict:
    """Return how far the folded model is from the one that was trained, on samples of `source`.

    weights: of the model with norms. Raises OtoError when they differ by more than rounding.
    """
    apart = with_weights(norms.within(opened.master), weights)
    plain = in_float32(opened.model) if uses(opened.model, HALVES) else opened.model
    together = with_weights(plain, norms.folded(weights))
    full, small = (served_lean(each, outputs, serving) for each in (apart, together))
    size = batch_size(full) or min(BATCH, len(source))
    feeds = [part.inputs for part in islice(data.in_order(source, size), CHECKED)]
    whole = [feed for feed in feeds if len(next(iter(feed.values()))) == size]
    verdict = compare(full, small, inputs=whole or feeds, feeding=Feeding(limits=UNLIMITED))
    if not verdict.passed:
        raise OtoError(
            f"the model with its norms folded in differs from the one that was trained: {verdict.trouble}; train it "
            "without --batch-norm"
        )
    return verdict

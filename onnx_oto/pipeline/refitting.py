"""Keeping what a trained model can do without training it: what goes and what is left, by what data show of it.

1. What the layers read is seen on training data, in the model as it is, and summed up (`onnx_oto.refit`).
2. Every channel gets a loss: what its readers cannot make up for. In each dimension the cheapest quarter is taken out
   for once, refitted, and the change of the model's outputs is measured: that brings the losses of all dimensions into
   one unit, whatever reads them (attention, norms, what no reader is known of).
3. Under the losses the budgets' solver chooses; then the readers of what goes are fitted anew, in the full model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto import data
from onnx_oto.lanes.layout import FloatArray, IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.normal.serving import Serving
from onnx_oto.pipeline.aim import giving
from onnx_oto.pipeline.finishing import batch_size, predictor, served_lean, with_weights
from onnx_oto.pipeline.opening import Opened
from onnx_oto.refit import Moments, Reader, Refitted, gathered, losses, readers, refitted
from onnx_oto.refit.moments import parts
from onnx_oto.refit.taps import FIRST_OPSET
from onnx_oto.runtime.limits import Limits, limited
from onnx_oto.runtime.runner import runner
from onnx_oto.zigs import Analysis, AnalysisOptions, analyse, score, zero_dropped
from onnx_oto.zigs.cost import count_macs

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]
Say = Callable[[str], None]

BATCH = 16
"""Samples of a run whose inner tensors are looked at."""
TRIED = 0.25
"""Share of a dimension that is taken out to measure what its losses mean."""
TRIED_SAMPLES = 48
"""Training samples that this is measured on; nothing is fitted to them."""
LEAST_SAMPLES = 8
EFFORT = 1e12
"""Multiply-accumulates that measuring may take: with many dimensions, or a large model, fewer samples are used."""
_LEAST = 1e-3
"""Share of a dimension's losses that is taken out at least: less is noise."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What data showed of a model. outputs: whose change is what losses are measured by."""

    opened: Opened
    serving: Serving
    outputs: tuple[str, ...]
    moments: tuple[Moments, ...]
    examples: tuple[Arrays, ...]

    def constants(self) -> dict[str, Array]:
        """Return the values of weights and biases of readers, float32."""
        found: dict[str, Array] = {}
        for each in self.moments:
            found.update((name, self._value(name)) for name in each.reader.names)
        return found

    def refit(self, drop: BoolArray) -> Refitted:
        """Return new weights for the readers of what goes. drop: bool [lanes]."""
        return refitted(self.moments, drop, self.constants())

    def _value(self, name: str) -> Array:
        value = self.opened.analysis.graph.constant(name)
        assert value is not None
        return value.astype(np.float32)


def look(
    opened: Opened,
    serving: Serving,
    outputs: Sequence[str],
    source: data.Source,
    *,
    samples: int,
    seed: int,
    limits: Limits,
    say: Say,
    changed: Collection[str] | None = None,
    alike: bool = True,
) -> Seen:
    """Return what `samples` drawn from `source` show of a model.

    changed: initializers that may get new values, None for all. alike: whether all samples have one shape. Raises
    LimitError and CrashedError.
    """
    begin = time.perf_counter()
    analysis = opened.analysis
    rows = _drawn(len(source), samples, seed)
    tried = np.random.default_rng(seed).choice(
        rows, min(TRIED_SAMPLES, max(rows.size // 5, 1)), replace=False
    )
    drawn = data.Chosen(source, np.setdiff1d(rows, tried) if rows.size > 1 else rows)
    found = tuple(each for each in _readers(opened) if changed is None or set(each.names) <= set(changed))
    model = serving.served(giving(opened.master, outputs))
    size = batch_size(model) or (min(BATCH, len(drawn)) if alike else 1)
    usable = len(drawn) // size * size if batch_size(model) else len(drawn)
    moments: list[Moments] = []
    with limited(limits):
        for part in parts(found):
            batches = (batch.inputs for batch in islice(data.in_order(drawn, size), -(-usable // size)))
            moments += gathered(model, part, batches, runner, samples=max(usable, 1), seed=seed)
    lanes = sum(d.size for d in analysis.prunable)
    known = np.zeros(analysis.lanes.count, bool)
    for reader in found:
        known[reader.lanes[reader.lanes >= 0]] = True
    say(
        f"{len(found)} layers that read {int(known.sum()):,} of {lanes:,} groups were watched on {usable:,} samples "
        f"({time.perf_counter() - begin:.0f} s)"
    )
    tried = np.sort(tried)[: _affordable(analysis)]
    examples = tuple(batch.inputs for batch in data.in_order(data.Chosen(source, tried), size))
    return Seen(opened, serving, tuple(outputs), tuple(moments), examples)


def _drawn(count: int, most: int, seed: int) -> IntArray:
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def _affordable(analysis: Analysis) -> int:
    """Return how many samples every dimension can be tried on: a function of the model, so that runs are alike."""
    each = max(count_macs(analysis).count, 1) * max(len(analysis.prunable), 1)
    return int(np.clip(EFFORT / each, LEAST_SAMPLES, TRIED_SAMPLES))


def _readers(opened: Opened) -> tuple[Reader, ...]:
    """Return the readers whose weights are no copies of a tensor that others have copies of too."""
    if opset_of(opened.model) < FIRST_OPSET:
        return ()
    analysis = opened.analysis
    tensors = analysis.graph.initializers
    sizes = {name: int(np.prod(tensors[name].dims, dtype=np.int64)) for name in analysis.counted_parameters}
    tied = {name for tie in opened.origins.tied(sizes) for name in tie.names}
    return tuple(each for each in readers(analysis) if tied.isdisjoint(each.names))


def lane_losses(seen: Seen, *, seed: int, limits: Limits, say: Say) -> FloatArray:
    """Return what it costs that a lane goes, as a share of the outputs' variance: float64 [lanes], they add up."""
    begin = time.perf_counter()
    analysis = seen.opened.analysis
    constants = seen.constants()
    found = np.zeros(analysis.lanes.count)
    for moments in seen.moments:
        weight = moments.reader.matrix(constants[moments.reader.weight])
        found += losses(moments, weight, analysis.lanes.count)
    blind = [d for d in analysis.prunable if not found[d.lanes].any()]
    if blind:
        magnitudes = np.square(score(analysis, "magnitude", seed))
        for dimension in blind:
            found[dimension.lanes] = magnitudes[dimension.lanes] / max(
                float(magnitudes[dimension.lanes].sum()), 1e-300
            )
    with limited(limits):
        trial = _Trial(seen)
        for dimension in analysis.prunable:
            lanes = dimension.lanes
            if lanes.size < 2:
                continue
            gone = _cheapest(found, lanes)
            expected = float(found[gone].sum())
            change = trial.change(gone)
            found[lanes] *= change / expected if expected > 0 else 1.0
    say(
        f"what {len(analysis.prunable)} dimensions mean for the outputs was measured on {trial.samples} samples "
        f"({time.perf_counter() - begin:.0f} s)"
    )
    return found


def _cheapest(found: FloatArray, lanes: IntArray) -> IntArray:
    """Return a quarter of the lanes of a dimension, the cheapest; more where those cost next to nothing."""
    order = lanes[np.argsort(found[lanes], kind="stable")]
    costs = np.cumsum(found[order])
    least = int(np.searchsorted(costs, _LEAST * costs[-1])) + 1
    count = min(max(round(TRIED * lanes.size), least, 1), lanes.size - 1)
    return order[:count]


class _Trial:
    """The full model with some groups zero, refitted, beside what it says with all of them."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._feeds = list(seen.examples)
        self._expected = [self._predict(seen.opened.model, feed) for feed in self._feeds]
        self._spread = _spread(self._expected)

    @property
    def samples(self) -> int:
        """How many samples the models are run on."""
        return sum(len(next(iter(feed.values()))) for feed in self._feeds)

    def change(self, gone: IntArray) -> float:
        """Return the squared change of the outputs as a share of their variance, mean over the outputs."""
        drop = np.zeros(self._seen.opened.analysis.lanes.count, bool)
        drop[gone] = True
        model = full_without(self._seen.opened.analysis, self._seen.refit(drop).values, drop)
        run = predictor(self._lean(model))
        off = [0.0] * len(self._spread)
        for feed, expected in zip(self._feeds, self._expected, strict=True):
            for at, (new, old) in enumerate(zip(run(feed), expected, strict=True)):
                off[at] += float(np.square(new.astype(np.float64) - old).sum())
        shares = [each / spread for each, spread in zip(off, self._spread, strict=True) if spread > 0]
        result = float(np.mean(shares)) if shares else 0.0
        return result if np.isfinite(result) else 1e6

    def _predict(self, model: onnx.ModelProto, feed: Arrays) -> Sequence[Array]:
        return predictor(self._lean(model))(feed)

    def _lean(self, model: onnx.ModelProto) -> onnx.ModelProto:
        seen = self._seen
        return served_lean(giving(model, seen.outputs), seen.outputs, seen.serving)


def _spread(batches: Sequence[Sequence[Array]]) -> list[float]:
    """Return the sum of squares of every output about its mean over the samples, about 0 where there is one sample."""
    result = []
    for parts_of in zip(*batches, strict=True):
        every = np.concatenate([np.asarray(part, np.float64) for part in parts_of])
        apart = every - every.mean(0) if len(every) > 1 else every
        result.append(float(np.square(apart).sum()) or float(np.square(every).sum()))
    return result


def full_without(analysis: Analysis, values: Arrays, drop: BoolArray) -> onnx.ModelProto:
    """Return the full model with new weights, and the groups of dropped lanes zero."""
    return zero_dropped(replace(analysis, model=with_weights(analysis.model, values)), drop)


def with_values(opened: Opened, values: Arrays, options: AnalysisOptions) -> Opened:
    """Return an opened model with new values in some initializers, analysed as it was: lanes have the same numbers."""
    return replace(opened, analysis=analyse(with_weights(opened.model, values), options))
